"""The script that makes the pictures of the README and the pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from docs import make_pictures

SHOWN = Path(make_pictures.__file__).parent / "pictures"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work") / "pictures"
    overview = make_pictures.write_overview(folder)
    make_pictures.write_small(folder)
    return overview


def test_the_pictures_are_what_the_pages_link_to_and_small(made: Path) -> None:
    names = sorted(path.name for path in made.parent.iterdir())
    assert names == sorted(path.name for path in SHOWN.iterdir())
    assert {make_pictures.NAME, "latent-400.webp", "prompt-200.webp", "webp-800.webp"} <= set(names)
    for folder in (made.parent, SHOWN):
        assert 20_000 < sum(path.stat().st_size for path in folder.iterdir()) <= make_pictures.MOST_BYTES


def test_the_picture_in_the_repository_is_what_the_script_makes(made: Path) -> None:
    with Image.open(made) as new, Image.open(SHOWN / make_pictures.NAME) as old:
        assert (new.format, new.mode, new.size) == ("WEBP", "RGBA", old.size)
        difference = np.abs(np.asarray(new, float) - np.asarray(old, float))
    # Other versions of Pillow and OpenCV may differ a little in each pixel.
    assert difference.mean() < 2
    assert (difference.max(axis=2) > 60).mean() < 0.01


def test_the_same_bytes_again(made: Path, tmp_path: Path) -> None:
    assert make_pictures.write_overview(tmp_path).read_bytes() == made.read_bytes()


def test_the_paper_is_transparent_so_that_it_suits_light_and_dark_pages(made: Path) -> None:
    with Image.open(made) as picture:
        alpha = np.asarray(picture)[:, :, 3]
    assert (alpha[:, :5] == 0).all()  # the left margin
    assert (alpha == 255).mean() > 0.5


def test_who_made_the_photographs_is_said() -> None:
    assert all(name in make_pictures.CREDIT for name in make_pictures.PHOTOGRAPHS)
    assert all(name in (make_pictures.__doc__ or "") for name in make_pictures.PHOTOGRAPHS)
