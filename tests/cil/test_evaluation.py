"""A saved model on a folder of images: the trainer's own numbers, other folders, and what cannot be evaluated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from escort_cil.evaluation import EvaluationOptions, evaluate_run
from escort_cil.learners import learners
from escort_cil.trainer import train
from tests.cil.small_runs import quick

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Copies that all runs share."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def run(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three phases whose views are both."""
    out = tmp_path_factory.mktemp("runs") / "run"
    train(quick(small_data, eval_views="both"), out=out)
    return out


def last_line(run: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    return record


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_as_trained(found: dict[str, Any], line: dict[str, Any], skip: tuple[str, ...] = ()) -> None:
    """Every figure of one evaluation equals that of metrics.jsonl, in every view."""
    assert list(found["views"]) == list(line["views"])
    for view, figures in found["views"].items():
        assert len(figures) == 10
        for key, value in figures.items():
            if key not in skip:
                assert value == line["views"][view][key], (view, key)
    assert found["view"] == line["view"]
    assert found["top1"] == line["top1"]


@pytest.mark.parametrize("method", learners.names())
def test_the_numbers_are_the_trainers(method: str, small_data: Path, tmp_path: Path, cache: str) -> None:
    out = tmp_path / "run"
    train(quick(small_data, method=method, cache=cache), out=out)
    line, confusion = last_line(out), np.load(out / "confusion.npz")["2/real/linear/confusion"]
    # Nothing but the saved model, its configuration and the memory is needed.
    for name in ("metrics.jsonl", "confusion.npz", "log.txt"):
        (out / name).unlink()
    before = tree(out)
    said: list[str] = []
    evaluation = evaluate_run(out, small_data, say=said.append)
    found = evaluation.to_record()
    remembers = learners.get(method).uses_memory
    # The upper bound takes its class means from all training images, which no run folder has.
    assert_as_trained(found, line, skip=() if remembers else ("nme_top1", "nme_top5", "nme_accuracy_by_phase"))
    assert (found["nme_top1"] is not None) == remembers
    assert said == ([] if remembers else [f"no nearest mean: {out} has no memory.escx"])
    assert found["confusion"] == confusion.tolist()
    assert tree(out) == before


def test_both_views_and_what_was_lost(run: Path, small_data: Path, tmp_path: Path) -> None:
    line = last_line(run)
    assert_as_trained(evaluate_run(run, small_data).to_record(), line)
    # Without the cache the images are regenerated: to a place that is not the run's.
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors", "memory.escx"):
        shutil.copy(run / name, bare)
    before = tree(bare)
    said: list[str] = []
    found = evaluate_run(bare, small_data / "test", say=said.append).to_record()
    assert_as_trained(found, line)
    assert sum("images regenerated (harmonic)" in text for text in said) == 2
    assert tree(bare) == before
    plain = evaluate_run(bare, small_data, EvaluationOptions(views="real", nearest_mean=False)).to_record()
    assert plain["view"] == "real"
    assert plain["top1"] == line["views"]["real"]["top1"]
    assert plain["nme_top1"] is None
    assert plain["nme_confusion"] is None
