"""The steps of ``escort demo``, on drawn pictures or on the user's photographs.

Encode, draw a contact sheet, and train once with each kind of memory at the same bytes. The run measures every number,
and the sentences follow from the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from escort_cil.data.protocol import DataSet, read_data
from escort_cil.demo.sheet import SheetCell, SheetRow, contact_sheet
from escort_cil.run.settings import TrainConfig
from escort_cil.trainer import RunResult, train
from escort_codec.atomic import replacing
from escort_codec.container import Reader
from escort_codec.container.measure import FileSizes, measure_file
from escort_codec.encode.folder import EncodeReport, encode_folder
from escort_codec.encode.images import encode_image
from escort_codec.errors import ConfigError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.progress import Progress
from escort_codec.recipe import EncodeOptions
from escort_codec.regenerate import Regenerator, make_regenerator, regenerators
from escort_codec.source import SourceImage, load_rgb
from escort_codec.words import counted

PHASES: Final = 3
SEEDS: Final = (0, 1, 2)
SHEET_ROWS: Final = 8
ORIGINALS_PER_CLASS: Final = 1.0
"""The budget: per class the mean bytes of this many original images."""
OVERHEAD: Final = 12
"""Bytes that the file's tables add to an exemplar, about."""
LEAST_RATE: Final = 100
MOST_RATE: Final = 1000
"""The rate's range in bytes: below it little can be seen, above it the comparison would be of large pictures."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The demo's options: ``image_size`` in pixels, ``epochs`` per phase; ``device`` and ``layout`` as for training."""

    regenerator: str = "harmonic"
    image_size: int = 40
    epochs: int = 24
    device: str = "auto"
    layout: str = "auto"
    seed: int = 1993
    model_seed: int = 1


@dataclass(frozen=True, slots=True)
class Memory:
    """One kind of memory of the comparison: its name, what it is, and what `keep` says."""

    name: str
    what: str
    keep: str

    @property
    def folder(self) -> str:
        """The name of its run's folder."""
        return self.keep.replace(":", "-")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the demo compares: the data, the bytes of each memory file, and of each image that is held to a size."""

    data: DataSet
    budget: int
    rate: int

    @property
    def images(self) -> int:
        """The training images."""
        return sum(map(len, self.data.train.values()))

    @property
    def memories(self) -> tuple[Memory, ...]:
        """The kinds that are compared."""
        limit = f"at most {self.rate:,} bytes"
        return (
            Memory("originals", "the image files as they are", "original"),
            Memory("WebP copies", f"reduced images in WebP files of {limit}", f"webp:{self.rate}B"),
            Memory("learned pictures", f"codes of {limit} that a shipped network shows", f"latent:{self.rate}B"),
            Memory("prompts", "the paper's edge maps with colour hints, of which images are regenerated", "prompt"),
            Memory("sketches", f"prompts of {limit}, the map and hint that keep most", f"prompt:{self.rate}B"),
        )


def check_demo(options: DemoOptions) -> None:
    """Raises ConfigError or UsageError for options that would stop the demo later."""
    TrainConfig(image_size=options.image_size, epochs=options.epochs, layout=options.layout)
    regenerators.get(options.regenerator)


def plan_demo(data: str, options: DemoOptions) -> Plan:
    """Reads the data, and finds the budget, one original image of each class, and the rate.

    The rate is what each training image gets if the budget holds them all: no class then forgets an image, and kinds
    differ in what so many bytes show. In tens, from LEAST_RATE to MOST_RATE. Raises UsageError for fewer classes than
    phases.
    """
    images = read_data(data, layout=options.layout)
    classes = len(images.labels)
    if classes < PHASES:
        raise UsageError(f"{data} has {classes} classes: the demo needs at least {PHASES}, one per phase")
    sizes = [image.path.stat().st_size for group in images.train.values() for image in group]
    budget = round(ORIGINALS_PER_CLASS * classes * sum(sizes) / len(sizes))
    rate = int(budget / len(sizes) - OVERHEAD) // 10 * 10
    return Plan(images, budget, max(LEAST_RATE, min(MOST_RATE, rate)))


def encode_demo(data: str, out: Path, options: DemoOptions) -> tuple[EncodeReport, FileSizes]:
    """Encodes ``data`` into ``out`` by the paper's preset for large images, with colour hints."""
    settings = EncodeOptions(seeds=SEEDS, layout=options.layout, overwrite=True, on_error="skip")
    report = encode_folder(data, out, settings)
    with Reader(out) as reader:
        return report, measure_file(reader)


def train_demo(
    plan: Plan, prompts: Path, out: Path, options: DemoOptions, progress: Progress | None = None
) -> Iterator[tuple[Memory, RunResult | None]]:
    """Trains once with each kind of memory at the same budget; each run gets a folder in ``out``.

    A kind of which the budget cannot hold one exemplar of each class gives None.
    """
    classes = len(plan.data.labels)
    for memory in plan.memories:
        config = TrainConfig(
            data=plan.data.folder,
            layout=options.layout,
            on_error="skip",
            prompts_file=str(prompts),
            init_cls=classes - (PHASES - 1) * (classes // PHASES),
            increment=classes // PHASES,
            seed=options.seed,
            model_seed=options.model_seed,
            backbone="resnet10",
            image_size=options.image_size,
            epochs=options.epochs,
            budget=f"{plan.budget}B",
            keep=memory.keep,
            regenerator=options.regenerator,
            device=options.device,
        )
        try:
            folder = out / memory.folder
            result = train(config, out=folder, progress=progress, force=True, command=train_command(config, folder))
        except ConfigError as exc:
            if exc.setting != "budget":
                raise
            yield memory, None
        else:
            yield memory, result


def train_command(config: TrainConfig, out: Path) -> tuple[str, ...]:
    """What is typed for a run of the demo alone."""
    usual, words = TrainConfig().to_map(), ["escort", "train", config.data, "--memory", config.prompts_file]
    for key, value in config.to_map().items():
        if key not in ("data", "prompts_file") and value != usual[key]:
            words += [f"--{key.replace('_', '-')}", str(value)]
    return (*words, "--out", str(out))


def draw_sheet(plan: Plan, prompts: Path, out: Path, options: DemoOptions) -> None:
    """Writes a contact sheet as a PNG file: a row per class with one image as each kind keeps and shows it.

    Raises OutputError.
    """
    originals = {image.key: image for images in plan.data.train.values() for image in images}
    rows = []
    with Reader(prompts) as reader, make_regenerator(options.regenerator) as regenerator:
        for label in _spread(list(reader.labels), SHEET_ROWS):
            prompt = next((reader[i] for i in reader.of_label(label) if reader[i].key in originals), None)
            if prompt is not None:
                rows.append(SheetRow(label, _cells(originals[prompt.key], prompt, plan.rate, regenerator)))
    limit, name = f"at most {plan.rate:,} B", options.regenerator
    titles = [
        ("original", "image file"),
        ("WebP copy", limit),
        ("learned picture", limit),
        ("prompt", "edge map"),
        *(("prompt", f"{name}, seed {seed}") for seed in SEEDS[:2]),
        ("sketch", limit),
        ("sketch", f"{name}, seed {SEEDS[0]}"),
    ]
    with replacing(out) as file:
        contact_sheet(rows, titles).convert("RGB").save(file, "PNG")


def _cells(image: SourceImage, prompt: Exemplar, rate: int, regenerator: Regenerator) -> list[SheetCell]:
    """One image in the columns of the sheet."""
    webp, learned = (encode_image(image, EncodeOptions(kind=f"{kind}:{rate}B")).exemplar for kind in ("webp", "latent"))
    sketch = encode_image(image, EncodeOptions(bytes_per_exemplar=rate)).exemplar
    return [
        SheetCell(load_rgb(image.path), f"{image.path.stat().st_size:,} B"),
        SheetCell(load_rgb(webp.image), f"{len(webp.payload):,} B"),
        SheetCell(learned.picture(), f"{len(learned.payload):,} B"),
        SheetCell(prompt.edges, prompt_bytes(prompt)),
        *(SheetCell(regenerator.image(prompt, seed)) for seed in SEEDS[:2]),
        SheetCell(sketch.edges, prompt_bytes(sketch)),
        SheetCell(regenerator.image(sketch, SEEDS[0])),
    ]


def prompt_bytes(prompt: Exemplar) -> str:
    """What a prompt takes: the map and the hint."""
    return f"{len(prompt.payload):,} + hint {len(prompt.hint or b''):,} B"


def _spread(labels: Sequence[str], count: int) -> list[str]:
    """At most ``count`` of the labels, evenly spaced."""
    places = np.linspace(0, len(labels) - 1, min(count, len(labels)))
    return [labels[round(place)] for place in places]


def size_sentence(report: EncodeReport, sizes: FileSizes) -> str:
    """A summary of the size table."""
    mean = report.source_bytes / max(1, sizes.exemplars)
    return (
        f"A prompt takes {sizes.file_bytes / sizes.exemplars:,.0f} bytes, an image file {mean:,.0f}: "
        f"{report.source_bytes / sizes.file_bytes:.1f} prompts fit in the space of one image."
    )


def accuracy_sentences(plan: Plan, results: Sequence[tuple[Memory, RunResult | None]]) -> list[str]:
    """A summary of the accuracy table: one sentence per kind of memory, which says what it is and how it did.

    The last one says how far to trust them.
    """
    averages = [_average(result) for _, result in results if result is not None]
    sentences = []
    for memory, result in results:
        start = f"{memory.name[0].upper()}{memory.name[1:]} are {memory.what}"
        if result is None:
            sentences.append(f"{start}: {plan.budget:,} bytes cannot hold one of each class.")
            continue
        last, average = result.records[-1], _average(result)
        count = last["memory_real"] + last["memory_prompt"]
        held = "all" if count == plan.images else f"{count:,} of"
        each = last["memory_bytes"] / max(1, count)
        place = _place(1 + sum(other > average for other in averages), len(averages))
        sentences.append(
            f"{start}: {held} {counted(plan.images, 'image')} fit, {each:,.0f} bytes each; "
            f"average incremental accuracy {average:.1f} %, {last['old']:.1f} % on old classes at the end: {place}."
        )
    tests = sum(map(len, plan.data.test.values()))
    sentences.append(
        f"One of the {tests:,} test images is {100 / max(1, tests):.1f} points: small differences are chance."
    )
    return sentences


def _average(result: RunResult) -> float:
    return float(result.records[-1]["average_incremental_accuracy"])


def _place(rank: int, count: int) -> str:
    """``the best of 5``, ``third of 5``, ``last of 5``."""
    if count == 1:
        return "no other kind to compare with"
    if rank == count:
        return f"the last of {count}"
    return f"{('the best', 'second', 'third', 'fourth')[rank - 1]} of {count}"
