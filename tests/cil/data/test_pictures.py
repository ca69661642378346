"""The store of pictures of any size: what it keeps, where, and that nothing of it is lost or mixed up."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from escort_cil.augment import transforms
from escort_cil.data.decoding import Source
from escort_cil.data.pictures import PictureStore, training_store
from escort_cil.data.store import ImageStore
from escort_codec.errors import ImageError, OutputError


def drawn(value: int, height: int = 2, width: int = 3) -> NDArray[np.uint8]:
    """A picture that knows its number."""
    return np.full((height, width, 3), value, np.uint8)


def values(store: PictureStore, ids: torch.Tensor) -> list[int]:
    pixels, _ = store.batch(ids)
    assert all((picture == picture[0, 0, 0]).all() for picture in pixels)  # every one is whole
    return [int(picture[0, 0, 0]) for picture in pixels]


def test_pictures_are_kept_as_they_are_up_to_the_size_that_crops_can_use(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    small, large = (rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((30, 50), (90, 200)))
    path = tmp_path / "small.png"
    Image.fromarray(small).save(path)
    store = PictureStore(2000)
    pixels, aspects = store.batch(store.add([path, small, large]))
    assert (pixels[0] == small).all()
    assert (pixels[1] == small).all()
    assert pixels[2].shape == (30, 66, 3)  # sides times sqrt(2000 / 18000), and no more than 2000 pixels
    assert aspects.tolist() == pytest.approx([5 / 3, 5 / 3, 200 / 90])
    assert store.memory_bytes == 3 * (1500 + 1500 + 1980)
    expected = np.asarray(Image.fromarray(large).resize((66, 30), Image.Resampling.LANCZOS))
    assert (pixels[2] == expected).all()


def test_a_strip_stays_a_strip() -> None:
    store = PictureStore(100)
    pixels, aspects = store.batch(store.add([drawn(1, 1, 60_000), drawn(2, 60_000, 1), drawn(3, 1, 50)]))
    assert [picture.shape for picture in pixels] == [(1, 2449, 3), (2449, 1, 3), (1, 50, 3)]
    assert aspects.tolist() == pytest.approx([60_000, 1 / 60_000, 50])


def test_a_transform_gets_the_store_that_its_crops_need() -> None:
    large, small = transforms.get("large")(28), transforms.get("small")(16)
    pictures, squares = training_store(large), training_store(small)
    assert isinstance(pictures, PictureStore)
    assert pictures.most_pixels == large.most_pixels == 13_067
    assert isinstance(squares, ImageStore)
    assert squares.side == 16


def test_a_bad_image_is_named_and_nothing_is_kept(tmp_path: Path) -> None:
    store = PictureStore(100, cache_bytes=18, folder=tmp_path)
    kept = store.add([drawn(1), drawn(2)])
    assert (store.memory_bytes, store.disk_bytes) == (18, 18)
    with pytest.raises(ImageError, match="image 1 of 3"):
        store.add([drawn(3), b"no image", drawn(4)], workers=1)
    assert (len(store), store.memory_bytes, store.disk_bytes) == (2, 18, 18)
    assert values(store, kept) == [1, 2]
    again = store.add([drawn(5)])
    assert again.tolist() == [2]
    assert values(store, torch.cat([again, kept])) == [5, 1, 2]
    with pytest.raises(IndexError, match="image 9 is not in the store"):
        store.batch(torch.tensor([9]))
    with pytest.raises(ValueError, match="cache_bytes"):
        PictureStore(100, cache_bytes=-1)
    store.close()
    assert (len(store), store.memory_bytes, store.disk_bytes) == (0, 0, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path) -> None:
    store = PictureStore(100, cache_bytes=0, folder=tmp_path)
    kept = store.add([drawn(1)])
    with Path("/dev/full").open("wb", buffering=0) as full:
        assert store._file is not None
        real = os.dup(store._file.fileno())
        os.dup2(full.fileno(), store._file.fileno())
        with pytest.raises(OutputError, match="more `cache_memory`"):
            store._put(7, drawn(2))
        os.dup2(real, store._file.fileno())
        os.close(real)
    assert values(store, kept) == [1]
    store.close()


@settings(deadline=None, max_examples=40)
@given(
    cache=st.integers(0, 400),
    steps=st.lists(
        st.tuples(st.lists(st.integers(1, 9), max_size=5), st.lists(st.integers(0, 25), max_size=8)), max_size=6
    ),
)
def test_any_history_keeps_what_was_not_dropped(cache: int, steps: list[tuple[list[int], list[int]]]) -> None:
    store = PictureStore(1000, cache_bytes=cache)
    held: dict[int, tuple[int, int]] = {}
    number = 0
    for widths, dropped in steps:
        new: list[Source] = []
        for width in widths:
            number += 1
            new.append(drawn(number, 2, width))
        for i, n, width in zip(
            store.add(new, workers=2).tolist(), range(number - len(new) + 1, 200), widths, strict=False
        ):
            held[i] = n, 6 * width
        gone = [i for i in set(dropped) if i in held]
        store.drop(torch.tensor(gone, dtype=torch.int64))
        for i in gone:
            del held[i]
        ids = torch.tensor(list(held), dtype=torch.int64)
        assert values(store, ids) == [n for n, _ in held.values()]
        assert store.ids().tolist() == sorted(held)
        assert store.memory_bytes <= cache
        assert store.memory_bytes + store.disk_bytes == sum(size for _, size in held.values())
        if store._file is not None:  # no gap is left
            assert os.fstat(store._file.fileno()).st_size == store.disk_bytes
    store.close()


def test_a_part_of_a_batch_comes_with_all_aspect_ratios() -> None:
    store = PictureStore(1000)
    ids = store.add([drawn(i, 2, 2 * (i + 1)) for i in range(5)])
    pixels, aspects = store.batch(ids.flip(0), part=slice(1, 3))
    assert [int(picture[0, 0, 0]) for picture in pixels] == [3, 2]
    assert aspects.tolist() == [5, 4, 3, 2, 1]
