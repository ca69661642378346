from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from escort_cil.demo.drawings import draw_dataset, draw_picture
from escort_cil.demo.shapes import SHAPES
from escort_codec.errors import OutputError, UsageError


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    names = draw_dataset(tmp_path / "data", classes=3, train=2, test=1, size=48)
    assert names == ["balloon", "butterfly", "cactus"]
    files = sorted(p.relative_to(tmp_path / "data").as_posix() for p in (tmp_path / "data").rglob("*.*"))
    wanted = [f"{split}/{name}/{n:03d}.jpg" for name in names for split, n in (("train", 0), ("train", 1), ("test", 0))]
    assert files == sorted(wanted)
    for file in files:
        with Image.open(tmp_path / "data" / file) as image:
            assert image.format == "JPEG"
            assert image.mode == "RGB"
            assert 38 <= max(image.size) <= 48


def test_the_same_seed_draws_the_same_files(tmp_path: Path) -> None:
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        draw_dataset(tmp_path / folder, classes=2, train=2, test=1, size=32, seed=seed)
    a, b, c = ([p.read_bytes() for p in sorted((tmp_path / f).rglob("*.jpg"))] for f in "abc")
    assert a == b
    assert len(set(a)) == 6  # every picture is another, test and train too
    assert not set(a) & set(c)


def test_a_picture_does_not_depend_on_how_many_are_drawn(tmp_path: Path) -> None:
    draw_dataset(tmp_path / "few", classes=2, train=2, test=0, size=32)
    draw_dataset(tmp_path / "many", classes=4, train=3, test=1, size=32)
    for file in (tmp_path / "few").rglob("*.jpg"):
        assert (tmp_path / "many" / file.relative_to(tmp_path / "few")).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", SHAPES)
def test_every_kind_varies_and_has_edges(name: str) -> None:
    pictures = [draw_picture(name, "train", n, size=64) for n in range(6)]
    assert len({p.shape for p in pictures}) > 1
    small = [cv2.resize(p, (16, 16), interpolation=cv2.INTER_AREA).astype(int) for p in pictures]
    for i, one in enumerate(small):
        assert np.std(one) > 10
        for two in small[i + 1 :]:
            assert np.abs(one - two).mean() > 8
    assert all((cv2.Canny(p, 100, 200) > 0).mean() > 0.01 for p in pictures)


def test_colour_alone_does_not_tell_the_classes_apart() -> None:
    """A nearest-mean classifier on mean colours must do poorly, or a network would have nothing to learn."""
    names = list(SHAPES)[:10]
    train = np.array([[draw_picture(n, "train", k, size=32).mean(axis=(0, 1)) for k in range(6)] for n in names])
    test = np.array([[draw_picture(n, "test", k, size=32).mean(axis=(0, 1)) for k in range(6)] for n in names])
    distance = np.linalg.norm(test[:, :, None] - train.mean(axis=1)[None, None], axis=3)
    right = (distance.argmin(axis=2) == np.arange(10)[:, None]).mean()
    assert right < 0.4


@pytest.mark.parametrize("options", [{"classes": 0}, {"classes": 13}, {"train": -1}, {"test": -1}, {"size": 15}])
def test_numbers_that_cannot_be_meant(options: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        draw_dataset(tmp_path, **options)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("a file in the way")
    with pytest.raises(OutputError, match="train"):
        draw_dataset(tmp_path, classes=1, train=1, test=0)
