import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from escort_cil.data.decoding import Source
from escort_cil.data.store import ImageStore
from escort_codec.errors import ImageError, OutputError

SIDE = 4
BYTES = 3 * SIDE * SIDE


def drawn(value: int, height: int = SIDE, width: int = SIDE) -> NDArray[np.uint8]:
    """An image that knows its number."""
    return np.full((height, width, 3), value, np.uint8)


def photograph(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def values(store: ImageStore, ids: torch.Tensor) -> list[int]:
    pixels, _ = store.batch(ids)
    assert (pixels == pixels[:, :1, :1, :1]).all()  # every image is whole
    return [int(v) for v in pixels[:, 0, 0, 0]]


def test_every_kind_of_source_gives_the_same_pixels(tmp_path: Path) -> None:
    rgb = photograph(30, 45)
    path = tmp_path / "image.png"
    Image.fromarray(rgb).save(path)
    store = ImageStore(16)
    pixels, aspects = store.batch(store.add([path, path.read_bytes(), rgb]))
    assert pixels.shape == (3, 3, 16, 16)
    assert pixels.dtype == torch.uint8
    assert (pixels[0] == pixels[1]).all()
    assert (pixels[0] == pixels[2]).all()
    assert aspects.tolist() == [1.5, 1.5, 1.5]
    assert aspects.dtype == torch.float32
    expected = np.asarray(Image.fromarray(rgb).resize((16, 16), Image.Resampling.BILINEAR))
    assert (pixels[0].permute(1, 2, 0).numpy() == expected).all()


def test_an_image_of_the_stored_size_is_kept_to_the_bit() -> None:
    rgb = photograph(16, 16)
    store = ImageStore(16)
    pixels, _ = store.batch(store.add([rgb]))
    assert (pixels[0].permute(1, 2, 0).numpy() == rgb).all()


@pytest.mark.parametrize(("height", "width"), [(30, 45), (45, 30), (31, 77), (20, 20)])
def test_evaluation_is_resize_and_centre_crop(height: int, width: int) -> None:
    rgb = photograph(height, width)
    store = ImageStore(16, short_side=20)
    pixels, aspects = store.batch(store.add([rgb]))
    # torchvision's Resize(20) and CenterCrop(16), written out: the longer side is cut to whole pixels.
    long = int(20 * max(height, width) / min(height, width))
    size = (long, 20) if width >= height else (20, long)
    resized = Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - 16) / 2), round((size[1] - 16) / 2)
    expected = np.asarray(resized.crop((left, top, left + 16, top + 16)))
    assert (pixels[0].permute(1, 2, 0).numpy() == expected).all()
    assert aspects.tolist() == [1.0]


def test_orientation_is_respected(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to look at it
    path = tmp_path / "turned.jpg"
    Image.fromarray(photograph(20, 40)).save(path, exif=exif)
    store = ImageStore(8)
    assert store.batch(store.add([path]))[1].tolist() == [0.5]


def test_a_bad_image_is_named_and_nothing_is_kept(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(photograph(8, 8)).save(good)
    bad.write_bytes(good.read_bytes()[:60])
    store = ImageStore(SIDE, cache_bytes=2 * BYTES)
    kept = store.add([drawn(1)])
    with pytest.raises(ImageError, match=r"bad\.png"):
        store.add([good, good, bad, good])
    with pytest.raises(ImageError, match="memory/7"):
        store.add([b"no image"], names=["memory/7"])
    with pytest.raises(ImageError, match="image 1 of 2"):
        store.add([drawn(1), b""])
    with pytest.raises(ImageError, match="uint8"):
        store.add([np.zeros((4, 4), np.uint8)])
    with pytest.raises(ImageError, match=r"missing\.png"):
        store.add([tmp_path / "missing.png"])
    assert len(store) == 1
    assert store.memory_bytes == BYTES
    assert store.disk_bytes == 0
    assert values(store, kept) == [1]
    assert values(store, store.add([drawn(2)])) == [2]


def test_memory_is_bounded_and_the_rest_is_on_disk(tmp_path: Path) -> None:
    store = ImageStore(SIDE, cache_bytes=3 * BYTES + 5, folder=tmp_path / "cache")
    ids = store.add([drawn(i) for i in range(10)])
    assert store.memory_bytes == 3 * BYTES
    assert store.disk_bytes == 7 * BYTES
    order = torch.tensor([9, 0, 3, 2, 9, 1])
    assert values(store, ids[order]) == order.tolist()
    # What was on disk moves to memory where images are dropped.
    store.drop(ids[:8])
    assert (store.memory_bytes, store.disk_bytes) == (2 * BYTES, 0)
    assert values(store, ids[8:]) == [8, 9]
    store.close()
    assert (len(store), store.memory_bytes, store.disk_bytes) == (0, 0, 0)
    assert list((tmp_path / "cache").iterdir()) == []


def test_no_memory_at_all_is_possible(tmp_path: Path) -> None:
    store = ImageStore(SIDE, cache_bytes=0, folder=tmp_path)
    ids = store.add([drawn(i) for i in range(5)])
    assert store.memory_bytes == 0
    assert values(store, ids.flip(0)) == [4, 3, 2, 1, 0]
    store.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ImageStore(SIDE, cache_bytes=0, folder=tmp_path)
    kept = store.add([drawn(1)])
    with Path("/dev/full").open("wb", buffering=0) as full:
        assert store._file is not None
        real = os.dup(store._file.fileno())
        os.dup2(full.fileno(), store._file.fileno())  # from now on every write finds the disk full
        with pytest.raises(OutputError, match="more `cache_memory`"):
            store._put(0, np.zeros((3, SIDE, SIDE), np.uint8))
        os.dup2(real, store._file.fileno())
        os.close(real)
    assert values(store, kept) == [1]
    store.close()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = ImageStore(SIDE, cache_bytes=0, folder=tmp_path / "file" / "cache")
    with pytest.raises(OutputError, match="cache"):
        store.add([drawn(1)])
    assert len(store) == 0


def test_ids_are_never_used_twice_and_dropped_ones_are_refused() -> None:
    store = ImageStore(SIDE)
    first = store.add([drawn(1), drawn(2)])
    store.drop(first[:1])
    second = store.add([drawn(3)])
    assert second.tolist() == [2]
    assert values(store, torch.cat([first[1:], second])) == [2, 3]
    for gone in (first, torch.tensor([7]), torch.tensor([-1])):
        with pytest.raises(IndexError, match="not in the store"):
            store.batch(gone)
        with pytest.raises(IndexError, match="not in the store"):
            store.drop(gone)
    assert len(store) == 2
    assert store.batch(torch.empty(0, dtype=torch.int64))[0].shape == (0, 3, SIDE, SIDE)


@settings(deadline=None, max_examples=40)
@given(
    in_memory=st.integers(0, 12),
    steps=st.lists(st.tuples(st.integers(0, 6), st.lists(st.integers(0, 30), max_size=8)), max_size=6),
)
def test_any_history_keeps_what_was_not_dropped(in_memory: int, steps: list[tuple[int, list[int]]]) -> None:
    store = ImageStore(SIDE, cache_bytes=in_memory * BYTES)
    held: dict[int, int] = {}
    for added, dropped in steps:
        new: list[Source] = [drawn(len(held) + 40 * i) for i in range(added)]
        for i, image in zip(store.add(new, workers=2).tolist(), new, strict=True):
            assert isinstance(image, np.ndarray)
            held[i] = int(image[0, 0, 0])
        gone = [i for i in set(dropped) if i in held]
        store.drop(torch.tensor(gone, dtype=torch.int64))
        for i in gone:
            del held[i]
        ids = torch.tensor(list(held), dtype=torch.int64)
        assert values(store, ids) == list(held.values())
        assert store.memory_bytes == min(len(held), in_memory) * BYTES
        assert store.memory_bytes + store.disk_bytes == len(held) * BYTES == len(store) * BYTES
    store.close()


def test_a_part_of_a_batch_comes_with_all_aspect_ratios() -> None:
    store = ImageStore(SIDE)
    ids = store.add([drawn(i, SIDE, SIDE * (i + 1)) for i in range(5)])
    pixels, aspects = store.batch(ids.flip(0), part=slice(1, 3))
    assert pixels[:, 0, 0, 0].tolist() == [3, 2]
    assert aspects.tolist() == [5, 4, 3, 2, 1]


def test_the_number_of_threads_changes_nothing() -> None:
    images: list[Source] = []
    for i in range(12):
        file = io.BytesIO()
        Image.fromarray(photograph(40 + i, 30, seed=i)).save(file, "jpeg")
        images.append(file.getvalue())
    batches = []
    for workers in (1, 4):
        store = ImageStore(16)
        batches.append(store.batch(store.add(images, workers=workers)))
    assert (batches[0][0] == batches[1][0]).all()
    assert (batches[0][1] == batches[1][1]).all()


def test_batches_are_right_while_images_come_and_go(tmp_path: Path) -> None:
    store = ImageStore(SIDE, cache_bytes=8 * BYTES, folder=tmp_path)
    kept = store.add([drawn(i) for i in range(12)])
    wrong: list[list[int]] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            found = values(store, kept)
            if found != list(range(12)):
                wrong.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        store.drop(store.add([drawn(99)] * 20))
    done.set()
    reader.join()
    assert wrong == []
    store.close()


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ValueError, match="side"):
        ImageStore(0)
    with pytest.raises(ValueError, match="short_side"):
        ImageStore(32, short_side=31)
    with pytest.raises(ValueError, match="cache_bytes"):
        ImageStore(32, cache_bytes=-1)
