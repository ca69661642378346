"""Held-out images: drawn once, recorded with the run, and never trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from escort_cil.data.protocol import read_data
from escort_cil.data.split import Split, apply_splits, splits_from_map, splits_to_map
from escort_cil.evaluation import find_images
from escort_cil.run.folder import RunFolder
from escort_cil.trainer import train
from escort_codec.errors import SourceError, TrainingError
from escort_codec.source import SourceImage
from tests.cil.small_runs import logged, quick

pytestmark = pytest.mark.usefixtures("one_thread")


def image(label: str, name: str) -> SourceImage:
    return SourceImage(Path(label) / name, label, name)


def test_images_that_came_or_went() -> None:
    images = {"cat": tuple(image("cat", f"{i}.jpg") for i in (1, 2, 4, 5)), "dog": (image("dog", "1.jpg"),)}
    splits = {"cat": Split(("1.jpg", "3.jpg"), ("2.jpg", "6.jpg", "7.jpg")), "dog": Split(("1.jpg",), ())}
    train, test, notes = apply_splits(images, splits)
    assert train == {"cat": (image("cat", "1.jpg"),), "dog": (image("dog", "1.jpg"),)}
    assert test == {"cat": (image("cat", "2.jpg"),), "dog": ()}
    assert notes == [
        "not used: 2 images added since the run began: cat/4.jpg and cat/5.jpg",
        "2 held-out images of the run are missing",
    ]


def test_the_record_is_read_as_it_was_written() -> None:
    splits = {"cat": Split(("1.jpg", "é/2.jpg"), ("3.jpg",)), "日本": Split((), ())}
    assert splits_from_map(json.loads(json.dumps(splits_to_map(splits))), "x") == splits


@pytest.mark.parametrize(
    "wrong", [[], None, {"cat": []}, {"cat": {"train": [], "test": [1]}}, {"cat": {"train": [], "test": "1.jpg"}}]
)
def test_a_record_that_is_none(wrong: object) -> None:
    with pytest.raises(TrainingError, match="x:"):
        splits_from_map(wrong, "x")


@pytest.fixture(scope="module")
def folder(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders without a test folder."""
    folder = tmp_path_factory.mktemp("held") / "data"
    shutil.copytree(small_data / "train", folder)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> RunFolder:
    """A run on the class folders, of one epoch."""
    out = tmp_path_factory.mktemp("run") / "run"
    train(quick(folder, epochs=1, increment=3), out=out)
    return RunFolder(out)


def names(images: object) -> dict[str, list[str]]:
    assert isinstance(images, dict)
    return {label: [each.name for each in group] for label, group in images.items()}


def test_added_images_never_move_a_training_image_to_the_test(folder: Path, run: RunFolder, tmp_path: Path) -> None:
    before = read_data(str(folder))
    more = tmp_path / "data"
    shutil.copytree(folder, more)
    for label in before.labels:
        for n in range(3):
            shutil.copy(more / label / "000.jpg", more / label / f"new{n}.jpg")
    drawn = read_data(str(more))
    trained = {image.key for group in before.train.values() for image in group}
    assert any(image.key in trained for group in drawn.test.values() for image in group)  # what a new draw would do
    kept = read_data(str(more), recorded=run.read_split())
    assert (names(kept.train), names(kept.test)) == (names(before.train), names(before.test))
    assert kept.changes == (
        f"not used: 15 images added since the run began: {', '.join(f'balloon/new{n}.jpg' for n in range(3))} and "
        "12 more",
    )


def test_a_run_is_evaluated_on_what_it_held_out(folder: Path, run: RunFolder) -> None:
    config = run.train_config()
    before = read_data(str(folder))
    label = before.labels[0]
    new = folder / label / "0000.jpg"  # sorts before the others, so that a new draw takes other images
    shutil.copy(folder / label / "000.jpg", new)
    lines: list[str] = []
    try:
        with logged(lines.append):
            found, held_out = find_images(folder, run, config)
    finally:
        new.unlink()
    assert held_out
    assert names(found) == names(before.test)
    assert lines[-1] == f"not used: 1 image added since the run began: {label}/0000.jpg"


def test_a_continued_run_keeps_the_record_of_the_run_before(folder: Path, run: RunFolder, tmp_path: Path) -> None:
    new = folder / "zebra"
    shutil.copytree(folder / "balloon", new)
    try:
        train(quick(folder, epochs=1, continued=str(run.path)), out=tmp_path / "next")
    finally:
        shutil.rmtree(new)
    first, then = run.read_split(), RunFolder(tmp_path / "next").read_split()
    assert first is not None
    assert then is not None
    assert {label: then[label] for label in first} == first
    assert set(then) - set(first) == {"zebra"}
    assert len(then["zebra"].test) == 2


def test_training_images_that_are_all_gone(folder: Path, run: RunFolder, tmp_path: Path) -> None:
    split = run.read_split()
    assert split is not None
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    for name in split["balloon"].train:
        (data / "balloon" / name).unlink()
    with pytest.raises(SourceError, match="the training images of balloon are missing"):
        read_data(str(data), recorded=split)
