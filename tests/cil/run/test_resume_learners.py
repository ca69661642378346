"""A learner that is killed and resumed ends as if it had not been, also between and inside the stages of a phase."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from escort_cil.evaluation import evaluate_run
from escort_cil.run.command import configure
from escort_cil.trainer import train
from tests.cil.run.test_checkpoint import RESULTS, Killed, killer
from tests.cil.small_runs import logged, quick

pytestmark = pytest.mark.usefixtures("one_thread")

STAGED: dict[str, dict[str, Any]] = {
    "bic": {},
    "podnet": {"finetune_epochs": 2, "proxies": 2},
    "foster": {"compression_epochs": 2, "new_on_old": "az", "align_teacher": True},
    "ewc": {},
}
"""Learners with a second stage, and their settings; each stage but EWC's has two epochs here."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def results(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RESULTS if (folder / name).exists()}


# test_checkpoint.py kills icarl and memo, which have no second stage and all that others keep between phases.
@pytest.mark.parametrize("method", [*STAGED, "lwf", "simplecil"])
def test_a_learner_resumes(method: str, small_data: Path, tmp_path: Path, cache: str) -> None:
    options = {"init_epochs": 2, "epochs": 2, **STAGED.get(method, {})}
    config = quick(small_data, method=method, cache=cache, epochs=None, method_options=options)
    train(config, out=tmp_path / "whole")
    whole = results(tmp_path / "whole")
    # Events: the first phase begins, has two epochs and ends; the second begins, has two epochs and then, if it has a
    # second stage, more. After 7 that stage has not begun, after 8 it has a checkpoint of its own.
    for point in {"bic": (7, 8), "podnet": (8,), "foster": (8,), "ewc": (7,)}.get(method, (4,)):
        out = tmp_path / f"killed{point}"
        with pytest.raises(Killed), logged(killer(point)):
            train(config, out=out)
        train(config, out=out, resume=True)
        assert results(out) == whole
    figures = evaluate_run(tmp_path / "whole", small_data).main
    assert figures.to_record()["top1"] == train(config, out=tmp_path / "whole", resume=True).records[-1]["top1"]


@pytest.mark.parametrize("method", ["foster", "ewc", "simplecil"])
def test_new_classes_for_a_finished_run(method: str, small_data: Path, tmp_path: Path, cache: str) -> None:
    labels = sorted(path.name for path in (small_data / "train").iterdir())
    for name, group in (("old", labels[:3]), ("new", labels[3:])):
        for split in ("train", "test"):
            (tmp_path / name / split).mkdir(parents=True)
            for label in group:
                (tmp_path / name / split / label).symlink_to(small_data / split / label)
    first = train(quick(tmp_path / "old", method=method, cache=cache, increment=3), out=tmp_path / "first")
    config = configure({"data": str(tmp_path / "new"), "cache": cache}, continued=tmp_path / "first").config
    second = train(config, out=tmp_path / "second")
    assert [record["classes"] for record in second.records] == [3, 5]
    assert list(second.records[:1]) == list(first.records)
    assert evaluate_run(tmp_path / "second", tmp_path / "new").main.to_record()["top1"] == second.records[-1]["top1"]
