"""A first phase that is taken over gives the bytes of one that is trained, and is refused where it is another."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from escort_cil.trainer import train
from escort_codec.errors import ConfigError, TrainingError
from tests.cil.small_runs import draw_small, is_event, logged, quick

FILES = ("metrics.jsonl", "memory.escx", "model.safetensors", "confusion.npz", "first-phase.safetensors")
pytestmark = pytest.mark.usefixtures("one_thread")


def contents(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in FILES}


@pytest.mark.parametrize(
    ("method", "one", "other"),
    [
        ("icarl", {"budget": "8000"}, {"budget": "20KB", "keep": "50% original + 50% prompt"}),
        ("der", {"budget": "8000"}, {"budget": "6000", "selection": "random"}),
        # Without augmentation even other kinds, and prompts of other settings.
        (
            "wa",
            {"budget": "20KB", "keep": "original"},
            {"budget": "8000", "keep": "webp:16:20", "augmentation_prob": 0.0, "hint": 8},
        ),
    ],
)
def test_the_same_bytes_as_a_run_that_shares_nothing(
    method: str, one: dict[str, Any], other: dict[str, Any], small_data: Path, tmp_path: Path
) -> None:
    train(quick(small_data, method=method, increment=3, **one), out=tmp_path / "one")
    config = quick(small_data, method=method, increment=3, **other)
    train(config, out=tmp_path / "alone")
    lines: list[str] = []
    with logged(lines.append):
        train(config, out=tmp_path / "shared", first_phase=tmp_path / "one")
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
    assert contents(tmp_path / "shared")["memory.escx"] != contents(tmp_path / "one")["memory.escx"]
    assert not any(line.startswith("phase 1 epoch") for line in lines)
    assert any(line.startswith("phase 2 epoch 1/2") for line in lines)
    assert f"the first phase is reused from {tmp_path / 'one'}" in lines


def test_runs_that_do_not_fit_are_passed_over_in_a_list(small_data: Path, tmp_path: Path) -> None:
    config = quick(small_data, epochs=1)
    train(quick(small_data, epochs=2), out=tmp_path / "longer")
    train(replace(config, budget="6000"), out=tmp_path / "fits")
    lines: list[str] = []
    with logged(lines.append):
        train(config, out=tmp_path / "run", shared=[tmp_path / "none", tmp_path / "longer", tmp_path / "fits"])
    assert f"the first phase is reused from {tmp_path / 'fits'}" in lines
    lines.clear()
    with logged(lines.append):
        train(replace(config, seed=7), out=tmp_path / "seed7", shared=[tmp_path / "fits"])
    assert any(line.startswith("phase 1 epoch 1/1") for line in lines)


def test_a_first_phase_of_another_configuration_is_refused(tmp_path: Path) -> None:
    data = draw_small(tmp_path / "data")
    config = quick(data, epochs=1)
    train(config, out=tmp_path / "one")

    def refused(message: str, error: type[Exception] = ConfigError, **change: Any) -> None:
        with pytest.raises(error, match=message):
            train(replace(config, **change), out=tmp_path / "two", first_phase=tmp_path / "one")
        assert not (tmp_path / "two").exists()

    refused("one: its first phase differs: model_seed was 1, is 2$", model_seed=2)
    refused("augmentation_prob was 0.5, is 0.0$", keep="original", budget="20KB")
    refused(r"copies of its images was \['prompt'\], is \['webp:16:20'\]$", keep="webp:16:20")
    refused("hint was None, is 8$", hint=8)
    refused("seed was 1993, is 7; class_order was ", seed=7)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="empty: is not a run folder"):
        train(config, out=tmp_path / "two", first_phase=tmp_path / "empty")
    label = next((data / "train").iterdir())
    image = next(label.iterdir())
    shutil.copy(image, label / "zz.png")
    for folder in (data / "train").iterdir():  # whichever class is in the first phase
        shutil.copy(image, folder / "zz.png")
    refused("one: its first phase was trained on other images")
    (tmp_path / "one" / "first-phase.safetensors").unlink()
    refused("has no first-phase.safetensors: its first phase is not finished", TrainingError)


@pytest.mark.parametrize("where", ["before any epoch", "in the second phase"])
def test_a_run_that_takes_over_can_be_stopped_and_resumed(where: str, small_data: Path, tmp_path: Path) -> None:
    train(quick(small_data, budget="6000"), out=tmp_path / "one")
    config = quick(small_data)
    train(config, out=tmp_path / "alone")
    begins = {"before any epoch": "phase 1 of", "in the second phase": "phase 2 epoch 1/"}[where]

    def stop(line: str) -> None:
        if is_event(line) and line.startswith(begins):
            raise KeyboardInterrupt

    interrupted: Callable[..., Any] = train
    with pytest.raises(KeyboardInterrupt), logged(stop):
        interrupted(config, out=tmp_path / "run", first_phase=tmp_path / "one")
    train(config, out=tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == contents(tmp_path / "alone")
