"""The files of configs/ are what configs/make.py writes, and each is read as the setting that its name says."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from escort_cil.data.protocol import split_phases
from escort_cil.learners import learners
from escort_cil.run.command import configure
from escort_cil.run.presets import filled

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "configs"
CLASSES = {"caltech256": 256, "food101": 101, "places100": 100, "imagenet100": 100, "cifar100": 100}


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("configs_make", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_the_files_are_those_that_the_script_writes(make: ModuleType) -> None:
    settings = make.settings()
    assert {setting.path for setting in settings} == {
        path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.json")
    }
    for setting in settings:
        assert (FOLDER / setting.path).read_text("utf-8") == make.text_of(setting), "python configs/make.py"
    page = (ROOT / "REPRODUCE.md").read_text("utf-8")
    assert make.page(page) == page, "python configs/make.py"
    assert len(re.findall(r"\| not run \|", page)) == len(settings)


def test_every_setting_has_a_file() -> None:
    paper = {path.stem for path in (FOLDER / "paper").iterdir()}
    assert paper == {
        f"{data}-{split}-{method}{prompts}"
        for data in ("caltech256", "food101", "places100", "imagenet100")
        for split in ("lfs", "lfh")
        for method in ("icarl", "wa", "der", "memo")
        for prompts in ("", "-prompts")
    }
    pycil = {path.stem for path in (FOLDER / "pycil").iterdir()}
    kept = set(learners.names()) - {"joint"}
    assert pycil == {f"{d}-{s}-{m}" for d in ("cifar100", "imagenet100") for s in ("b0-10", "b50-5") for m in kept}


@pytest.mark.parametrize("group", ["paper", "pycil"])
def test_every_file_is_read(group: str) -> None:
    for path in sorted((FOLDER / group).iterdir()):
        parts = re.split(r"-(?=lfs|lfh|b0|b50)", path.stem)
        asked = configure({}, file=path)
        config, _ = filled(asked.config)
        values = json.loads(path.read_text("utf-8"))
        rest = parts[1].split("-")
        method = rest[1] if group == "paper" else rest[2]
        assert (config.method, config.dataset, asked.seeds) == (method, parts[0], (1993,)), path
        sizes = split_phases(CLASSES[parts[0]], config.init_cls, config.increment)
        if group == "paper":
            assert len(sizes) == (10 if rest[0] == "lfs" else 11)
            assert sizes[0] >= sizes[1] == sizes[-1]
            assert (sizes[0] > 2 * sizes[1]) == (rest[0] == "lfh")
            assert config.budget == "20units/class"
            with_prompts = rest[-1] == "prompts"
            assert config.keep == ("18 original + 48 prompt" if with_prompts else "20 original")
            assert config.regenerator == ("controlnet" if with_prompts else "harmonic")
            assert config.probability == (0.5 if with_prompts else 0)
            assert (config.image_size, config.autoaugment) == (224, "imagenet")
        else:
            assert sizes == ((10,) * 10 if rest[0] == "b0" else (50, *(5,) * 10))
            assert (config.image_size, config.autoaugment) == ((32, "off") if parts[0] == "cifar100" else (224, "off"))
            units = {"foster": "20units/class", "simplecil": "0units"}.get(method, "2000units")
            assert config.budget == units
        stem = "cifar" if parts[0] == "cifar100" else "imagenet"
        if stem == "imagenet" and sizes[0] != sizes[1] and method != "memo":
            stem = "pycil"
        assert config.stem == stem, path
        assert config.backbone == values["convnet_type"].removeprefix("memo_")
        assert not [note for note in asked.notes if "not used" in note and group == "paper"]
