"""A saved model on a folder of images: the trainer's own numbers, other folders, and what cannot be evaluated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from escort_cil.evaluation import Evaluation, EvaluationOptions, evaluate_run
from escort_cil.learners import learners
from escort_cil.run.checkpoint import load_tensors, save_tensors
from escort_cil.run.recorder import load_model
from escort_cil.trainer import train
from escort_codec.errors import FormatError, ModelError, SourceError, TrainingError
from escort_codec.regenerate.base import Job, JobResult
from escort_codec.regenerate.harmonic import Harmonic
from tests.cil.small_runs import logged, quick

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Copies that all runs share."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def run(one_thread: None, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three phases whose views are both."""
    out = tmp_path_factory.mktemp("runs") / "run"
    train(quick(small_data, eval_views="both"), out=out)
    return out


def evaluated(run: Path, data: Path, options: EvaluationOptions | None = None) -> tuple[Evaluation, list[str]]:
    """An evaluation and what it logs."""
    lines: list[str] = []
    with logged(lines.append):
        return evaluate_run(run, data, options or EvaluationOptions()), lines


def last_line(run: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    return record


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_as_trained(found: dict[str, Any], line: dict[str, Any], skip: tuple[str, ...] = ()) -> None:
    """Every figure of one evaluation equals that of metrics.jsonl, in every view."""
    assert list(found["views"]) == list(line["views"])
    for view, figures in found["views"].items():
        assert len(figures) == 12
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
    evaluation, lines = evaluated(out, small_data)
    found = evaluation.to_record()
    remembers = learners.get(method).uses_memory
    # The upper bound takes its class means from all training images, which no run folder has.
    nearest = ("nme_top1", "nme_top5", "nme_accuracy_by_phase", "nme_old", "nme_new")
    assert_as_trained(found, line, skip=() if remembers else nearest)
    assert (found["nme_top1"] is not None) == remembers
    assert lines == ([] if remembers else [f"no nearest mean: {out} has no memory.escx"])
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
    evaluation, lines = evaluated(bare, small_data / "test")
    found = evaluation.to_record()
    assert_as_trained(found, line)
    assert sum("images regenerated (harmonic)" in line for line in lines) == 2
    assert tree(bare) == before
    plain = evaluate_run(bare, small_data, EvaluationOptions(views="real", nearest_mean=False)).to_record()
    assert plain["view"] == "real"
    assert plain["top1"] == line["views"]["real"]["top1"]
    assert plain["nme_top1"] is None
    assert plain["nme_confusion"] is None


def test_other_classes_and_none(run: Path, small_data: Path, tmp_path: Path) -> None:
    labels = load_model(run).labels
    some = tmp_path / "some"
    shutil.copytree(small_data / "train" / labels[3], some / labels[3])
    shutil.copytree(small_data / "test" / labels[0], some / "yacht")
    options = EvaluationOptions(views="real", nearest_mean=False)
    evaluation, lines = evaluated(run, some, options)
    assert lines == [
        "not evaluated: 3 images of 1 class (yacht), which the model never learnt",
        f"no images of 4 classes ({labels[0]}, {labels[1]}, {labels[2]} and {labels[4]}), which the model knows",
    ]
    found = evaluation.to_record()
    assert found["not_learnt"] == {"yacht": 3}
    assert found["images"] == 8
    assert found["new"] is None
    assert found["old"] == found["top1"]
    assert [each["images"] for each in found["per_class"]] == [0, 0, 0, 8, 0]
    assert [each["top1"] for each in found["per_class"]] == [None, None, None, found["top1"], None]
    assert sum(found["confusion"][3]) == 8
    shutil.rmtree(some / labels[3])
    with pytest.raises(SourceError, match=r"the model knows none of its classes.* 1 class \(yacht\).* 5 classes \("):
        evaluate_run(run, some, options)


def test_the_folder_of_training_images(small_data: Path, tmp_path: Path, cache: str) -> None:
    data = tmp_path / "data"
    shutil.copytree(small_data / "train", data)
    train(quick(data, cache=cache, epochs=1), out=tmp_path / "run")
    evaluation, lines = evaluated(tmp_path / "run", data)
    assert lines == [f"{data}: the run was trained on this folder: only its held-out images are used"]
    assert_as_trained(evaluation.to_record(), last_line(tmp_path / "run"))
    shutil.move(data, tmp_path / "other" / "train")
    with pytest.raises(SourceError, match=r"has train/ and no test/: give .*train to evaluate on these images"):
        evaluate_run(tmp_path / "run", tmp_path / "other")


def test_what_cannot_be_loaded(run: Path, small_data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is not a run folder"):
        load_model(tmp_path)
    shutil.copy(run / "config.json", tmp_path)
    with pytest.raises(TrainingError, match=r"has no model.safetensors: no phase of this run is finished"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:999])
    with pytest.raises(TrainingError, match="the weights cannot be read"):
        load_model(tmp_path)
    tensors = load_tensors(run / "model.safetensors")
    save_tensors(tmp_path / "model.safetensors", tensors)
    with pytest.raises(TrainingError, match="is not a model of `escort train`"):
        load_model(tmp_path)
    save_tensors(tmp_path / "model.safetensors", tensors, {"groups": [5, 5]})
    with pytest.raises(TrainingError, match=r"knows 10 classes, config\.json names 5"):
        load_model(tmp_path)
    save_tensors(tmp_path / "model.safetensors", tensors, {"groups": [4]})
    with pytest.raises(TrainingError, match="of another network"):
        load_model(tmp_path)


def failing(self: Harmonic, jobs: Iterable[Job]) -> Iterator[JobResult]:
    for job in jobs:
        yield JobResult(job, None, self.recipe(job.exemplar), ModelError("the weights are not here"))


def test_a_memory_that_cannot_tell(
    run: Path, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config.json", "model.safetensors", "memory.escx"):
        shutil.copy(run / name, tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())

    def changed(**settings: object) -> tuple[dict[str, Any], list[str]]:
        (tmp_path / "config.json").write_text(json.dumps({**values, "eval_views": "real", **settings}))
        evaluation, lines = evaluated(tmp_path, small_data)
        return evaluation.to_record(), lines

    found, lines = changed(exemplars="no/such/folder")
    assert lines == ["no nearest mean: the images of the prompts were in no/such/folder, which does not exist"]
    assert found["nme_top1"] is None
    assert found["top1"] == last_line(run)["views"]["real"]["top1"]
    with monkeypatch.context() as patched:
        patched.setattr(Harmonic, "regenerate", failing)
        with pytest.raises(ModelError, match="not here; turn `nearest_mean` off to evaluate"):
            changed()
    (tmp_path / "memory.escx").write_bytes(b"\x89ESC")
    with pytest.raises(FormatError, match=r"memory\.escx"):
        changed()
