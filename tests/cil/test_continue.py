"""New classes that arrive later, as a folder of their own, when no one has the old data any more."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import escort_codec
from escort_cil.runs import configure
from escort_cil.trainer import train
from escort_codec.errors import ConfigError, SourceError, TrainingError
from tests.cil.small_runs import quick

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def halves(small_data: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The data in two folders: three classes, and the other two."""
    labels = sorted(path.name for path in (small_data / "train").iterdir())
    for name, group in (("old", labels[:3]), ("new", labels[3:])):
        for split in ("train", "test"):
            for label in group:
                shutil.copytree(small_data / split / label, tmp_path / name / split / label)
    return tmp_path / "old", tmp_path / "new"


@pytest.mark.parametrize("method", ["icarl", "der"])
def test_new_classes_from_a_new_folder(method: str, halves: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = halves
    first = train(quick(old, method=method, increment=2), out=tmp_path / "first")
    shutil.rmtree(old)
    config, seeds, _ = configure({"data": str(new)}, {}, goes_on=tmp_path / "first")
    assert (config.method, config.budget, seeds) == (method, 8000, (1993,))
    second = train(config, out=tmp_path / "second")
    assert second.class_order[:3] == first.class_order
    assert [record["classes"] for record in second.records] == [2, 3, 5]
    assert list(second.records[:2]) == list(first.records)
    last = second.records[-1]
    assert last["groups"] == [2, 1, 2]
    assert last["images"] == 6  # only the new classes have test images left
    assert last["memory_bytes"] <= 8000
    with escort_codec.open(tmp_path / "second" / "memory.escx") as memory:
        assert tuple(memory.labels) == second.class_order
    # And once more, with the configuration found in the second run's folder alone.
    extra = tmp_path / "extra"
    label = second.class_order[-1]
    shutil.copytree(new / "train" / label, extra / "train" / "another")
    shutil.copytree(new / "test" / label, extra / "test" / "another")
    config, _, _ = configure({"data": str(extra), "epochs": 1}, {}, goes_on=tmp_path / "second")
    third = train(config, out=tmp_path / "third")
    assert third.class_order == (*second.class_order, "another")
    assert [record["classes"] for record in third.records] == [2, 3, 5, 6]


def test_what_cannot_be_gone_on_with(halves: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = halves
    train(quick(old, method="replay", epochs=1), out=tmp_path / "first")
    with pytest.raises(SourceError, match="nothing new to learn"):
        train(configure({"data": str(old)}, {}, goes_on=tmp_path / "first")[0], out=tmp_path / "second")
    with pytest.raises(ConfigError, match="no data"):
        train(configure({}, {}, goes_on=tmp_path / "first")[0], out=tmp_path / "second")
    (tmp_path / "first" / "metrics.jsonl").write_text("")
    with pytest.raises(TrainingError, match="has not finished"):
        train(configure({"data": str(new)}, {}, goes_on=tmp_path / "first")[0], out=tmp_path / "second")
