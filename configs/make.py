"""Writes the files of this folder and the tables of REPRODUCE.md: the paper's settings and those of PyCIL's tables.

    python configs/make.py [FOLDER]

The files have PyCIL's keys, so that PyCIL and the paper's code read the same protocol from them; keys of escort's own
(``regenerator``, ``hint``) stand beside. ``tests/test_configs.py`` reads every file, and sees that they are these.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- {} -->", "<!-- end -->"

PAPER_METHODS: Final = ("icarl", "wa", "der", "memo")
PYCIL_METHODS: Final = (
    *("finetune", "replay", "lwf", "ewc", "icarl", "wa", "bic", "podnet", "der", "foster", "memo", "simplecil"),
)

GPU_RATE: Final = 10e12
"""Sustained multiplications and additions a second: 920 images a second of ResNet-18 at 224 pixels in float32."""
STEP: Final = 0.02
"""Seconds that a step takes at least: small networks wait for the launches of their kernels."""
# Multiply-adds of one image, forward.
RESNET32, RESNET18, RESNET18_PYCIL = 69e6, 1814e6, 6869e6


@dataclass(frozen=True, slots=True)
class Data:
    """A data set: classes, and training images a class (of Places-100 as many as you take: 1,000 are counted)."""

    name: str
    title: str
    classes: int
    images: int


CIFAR100: Final = Data("cifar100", "CIFAR-100", 100, 500)
IMAGENET100: Final = Data("imagenet100", "ImageNet-100", 100, 1294)
PAPER_DATA: Final = (
    Data("caltech256", "Caltech-256", 256, 95),
    Data("food101", "Food-101", 101, 750),
    Data("places100", "Places-100", 100, 1000),
    IMAGENET100,
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One file: its path in the folder, what it holds, and what the hours follow from."""

    path: str
    values: Mapping[str, Any]
    data: Data
    work: float  # multiply-adds of one image, forward

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.values["model_name"])

    @property
    def phases(self) -> list[int]:
        """Classes of each phase."""
        sizes = [int(self.values["init_cls"])]
        while sum(sizes) < self.data.classes:
            sizes.append(min(int(self.values["increment"]), self.data.classes - sum(sizes)))
        return sizes


def splits(data: Data) -> dict[str, tuple[int, int]]:
    """Classes of the first phase and of each later one, ten of which follow in LFH, nine in LFS.

    LFS: as many in each; LFH: half in the first. What does not divide goes to the first phase, as in the paper's own
    file for Food-101 (51 and 5).
    """
    same, later = data.classes // 10, data.classes // 2 // 10
    return {"lfs": (data.classes - 9 * same, same), "lfh": (data.classes - 10 * later, later)}


def of_the_paper() -> Iterator[Setting]:
    """Caltech-256, Food-101, Places-100, ImageNet-100; LFS and LFH; four methods; with and without prompts."""
    for data in PAPER_DATA:
        for split, (first, later) in splits(data).items():
            for method in PAPER_METHODS:
                for prompts in (False, True):
                    memory: dict[str, Any] = {"real_per_class": 20, "syn_per_class": 0}
                    more: dict[str, Any] = {"augmentation_prob": 0.0, "augmentations_per_image": 1}
                    if prompts:
                        memory = {"real_per_class": 18, "syn_per_class": 48}
                        more = {"augmentation_prob": 0.5, "augmentations_per_image": 5}
                        more |= {"regenerator": "controlnet", "hint": 0}
                    values = {
                        "dataset": data.name,
                        "memory_size": None,
                        "memory_per_class": 20,
                        **memory,
                        "fixed_memory": True,
                        "shuffle": True,
                        "init_cls": first,
                        "increment": later,
                        "model_name": method,
                        "convnet_type": "memo_resnet18" if method == "memo" else "resnet18",
                        "seed": [1993],
                        "model_seed": 1,
                        "batch_size": 128,
                        "num_workers": 8,
                        **more,
                    }
                    name = f"paper/{data.name}-{split}-{method}{'-prompts' if prompts else ''}.json"
                    small_stem = first != later and method != "memo"
                    yield Setting(name, values, data, RESNET18_PYCIL if small_stem else RESNET18)


def of_pycil() -> Iterator[Setting]:
    """CIFAR-100 and ImageNet-100; B0 in steps of 10 classes, B50 in steps of 5; PyCIL's methods that are here."""
    for data, network, work in ((CIFAR100, "resnet32", RESNET32), (IMAGENET100, "resnet18", RESNET18)):
        for split, (first, later) in {"b0-10": (10, 10), "b50-5": (50, 5)}.items():
            for method in PYCIL_METHODS:
                cosine = method in ("podnet", "simplecil")
                values: dict[str, Any] = {
                    "prefix": "reproduce",
                    "dataset": data.name,
                    "memory_size": 0 if method == "simplecil" else 2000,
                    "memory_per_class": 0 if method == "simplecil" else 20,
                    "fixed_memory": method == "foster",
                    "shuffle": True,
                    "init_cls": first,
                    "increment": later,
                    "model_name": method,
                    "convnet_type": ("memo_" if method == "memo" else "cosine_" if cosine else "") + network,
                    "seed": [1993],
                }
                if data is IMAGENET100 and first != later and method != "memo":
                    work = RESNET18_PYCIL
                yield Setting(f"pycil/{data.name}-{split}-{method}.json", values, data, work)
                work = RESNET32 if data is CIFAR100 else RESNET18


def settings() -> list[Setting]:
    """All files."""
    return [*of_the_paper(), *of_pycil()]


def text_of(setting: Setting) -> str:
    """The file."""
    return json.dumps(setting.values, indent=4) + "\n"


def hours(setting: Setting) -> float:
    """Hours of one GPU: multiply-adds of all training steps at ``GPU_RATE``; evaluation and ControlNet not counted.

    A step's backward pass counts as two forward passes; networks that are only asked count one.
    """
    from escort_cil.learners import learners

    method, known, seconds = learners.get(setting.method), 0, 0.0
    remembered = int(setting.values.get("real_per_class", 20)) + int(setting.values.get("syn_per_class", 0))
    learner = method(method.hyperparameters(), lambda: None)  # type: ignore[arg-type, return-value]
    for phase, new in enumerate(setting.phases):
        held = remembered * known if method.uses_memory else 0
        for number, stage in enumerate(learner.stages(phase)):
            images = new * setting.data.images + held
            passes = 3.0
            if phase and setting.method in ("icarl", "wa", "bic", "podnet", "lwf"):
                passes += 1  # the network before
            if setting.method in ("der", "memo"):
                passes += phase if setting.method == "der" else phase / 4  # the frozen parts
            if setting.method == "foster" and phase:
                passes += 2 if number else 1
            if number and setting.method in ("bic", "podnet"):
                images = 2 * held if setting.method == "podnet" else held // 5
            batch = learner.config.batch_size
            step = max(STEP, 2 * batch * passes * setting.work / GPU_RATE)
            seconds += stage.schedule.epochs * images / batch * step
        known += new
    return seconds / 3600


def published(setting: Setting) -> str:
    """Figures that others have published or shown, and where."""
    name = Path(setting.path).stem
    if name == "cifar100-b0-10-icarl":
        return (
            "nearest mean by phase 89.8, 79.1, 74.3, 68.8, 64.4, 60.8, 58.1, 54.6, 51.3, 49.4: a user's log of PyCIL's "
            "icarl.json"
        )
    if name == "cifar100-b50-5-podnet":
        return "nearest mean on average 62.81 (reproduced), 64.03 (PODNet's paper): PyCIL's models/podnet.py, 10 steps"
    return "-"


def table(chosen: Sequence[Setting]) -> str:
    """Rows of REPRODUCE.md."""
    lines = ["| file | phases | hours | published | ours |", "|---|---|--:|---|---|"]
    for setting in chosen:
        sizes = setting.phases
        same = f" + {len(sizes) - 1} x {sizes[1]}" if len(sizes) > 1 else ""
        lines.append(
            f"| [{Path(setting.path).stem}](configs/{setting.path}) | {sizes[0]}{same} | {hours(setting):.1f} | "
            f"{published(setting)} | not run |"
        )
    return "\n".join(lines)


def page(text: str) -> str:
    """REPRODUCE.md with its tables made anew."""
    for name, chosen in (("paper", list(of_the_paper())), ("pycil", list(of_pycil()))):
        begin = BEGIN.format(name)
        at = text.index(begin) + len(begin)
        text = f"{text[:at]}\n{table(chosen)}\n{text[text.index(END, at) :]}"
    return text


def main() -> None:
    """Writes all files."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    for setting in settings():
        path = folder / "configs" / setting.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(setting), encoding="utf-8")
    reproduce = (ROOT / "REPRODUCE.md").read_text(encoding="utf-8")
    (folder / "REPRODUCE.md").write_text(page(reproduce), encoding="utf-8")


if __name__ == "__main__":
    main()
