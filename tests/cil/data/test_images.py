"""Each image is decoded once: in the store of a run's images, and in whole runs of every kind."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from escort_cil.augment import Transform, transforms
from escort_cil.data.decoding import Source, Square
from escort_cil.data.images import DecodedImages, Items
from escort_cil.evaluation import evaluate_run
from escort_cil.memory.contents import Contents
from escort_cil.phase_data import PhaseData
from escort_cil.trainer import train
from escort_codec.container import Reader
from escort_codec.encode.folder import encode_folder
from escort_codec.errors import ImageError
from escort_codec.export.options import ExportOptions
from escort_codec.export.tree import export_file
from escort_codec.recipe import EncodeOptions
from escort_codec.regenerate import make_regenerator
from escort_codec.source import image as source_image
from escort_codec.source import scan
from tests.cil.run_folders import draw_picture
from tests.cil.small_runs import logged, quick


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image file's pixels were decoded, by a hash of the file."""
    counts: Counter[str] = Counter()
    decode = source_image._load

    def counted(data: bytes, *options: Any) -> Image.Image:
        counts[hashlib.sha256(data).hexdigest()] += 1
        return decode(data, *options)

    monkeypatch.setattr(source_image, "_load", counted)
    return counts


def saved(folder: Path, number: int) -> Path:
    path = folder / f"{number}.png"
    Image.fromarray(draw_picture(number)).save(path)
    return path


def shown(images: DecodedImages, ids: torch.Tensor) -> list[NDArray[np.uint8]]:
    return [np.asarray(pixels) for pixels in images.training.batch(ids)[0]]


LARGE, SMALL = transforms.get("large")(28), transforms.get("small")(16)


@pytest.mark.parametrize("transform", [LARGE, SMALL], ids=["large", "small"])
def test_both_squares_come_of_one_decoding(transform: Transform, tmp_path: Path, decodes: Counter[str]) -> None:
    paths = [saved(tmp_path, number) for number in range(4)]
    images = DecodedImages(transform)
    wanted = [True, False, True, True]
    sizes = images.decode(paths, lambda i, picture: (i, picture.size), names=["x"] * 4, evaluated=wanted)
    assert sizes == [(i, (80, 60)) for i in range(4)]
    ids = images.add(paths, names=["x"] * 4, evaluated=wanted)
    assert list(decodes.values()) == [1] * 4
    for path, pixels in zip(paths, shown(images, ids), strict=True):
        picture = Image.open(path)
        whole = Square(transform.size).of(picture)[0] if transform.one_store else np.asarray(picture)
        assert (pixels == whole).all()
    store, places = images.evaluation(ids[torch.tensor(wanted)])
    for path, evaluated in zip([paths[0], paths[2], paths[3]], store.batch(places)[0].numpy(), strict=True):
        assert (evaluated == Square(transform.size, transform.short_side).of(Image.open(path))[0]).all()
    if not transform.one_store:
        with pytest.raises(KeyError):
            images.evaluation(ids[1:2])


def test_what_is_known_is_not_decoded_again(tmp_path: Path, decodes: Counter[str]) -> None:
    first, second, third = (saved(tmp_path, number) for number in range(3))
    images = DecodedImages(LARGE)
    a, b = images.add([first, second], names=["a", "b"]).tolist()
    data = second.read_bytes()
    for path in (first, second):
        path.unlink()  # not even read
    # By its path, by what it held, and the same twice.
    other = saved(tmp_path, 3).read_bytes()
    sources: list[Source] = [data, first, third, third, other, other]
    ids = images.add(sources, names=["x"] * 6).tolist()
    assert ids == [b, a, ids[2], ids[2], ids[4], ids[4]]
    assert set(decodes.values()) == {1}
    assert len(images) == 4
    assert images.decode([data], lambda i, picture: pytest.fail("was decoded"), names=["x"]) == []
    assert images.add([data], names=["x"]).tolist() == [b]
    images.keep([data, third])
    assert len(images) == 2
    assert images.add([data, third], names=["x", "y"]).tolist() == [b, ids[2]]
    assert set(decodes.values()) == {1}
    assert [pixels.shape for pixels in shown(images, torch.tensor([b]))] == [(60, 80, 3)]
    with pytest.raises(ImageError, match=r"0\.png"):
        images.add([first], names=["x"])  # it is gone
    images.close()
    assert len(images) == 0


def test_the_bytes_of_a_file_are_known_once_it_was_decoded(tmp_path: Path, decodes: Counter[str]) -> None:
    path = saved(tmp_path, 1)
    images = DecodedImages(LARGE)
    both: list[Source] = [path, path.read_bytes()]
    ids = images.add(both, names=["x", "y"]).tolist()
    assert ids[0] == ids[1]
    assert list(decodes.values()) == [2]  # once too often, in one call
    assert images.add(both, names=["x", "y"]).tolist() == ids
    assert list(decodes.values()) == [2]
    images.keep([path])
    assert len(images) == 1


def test_evaluation_can_be_left_out(tmp_path: Path) -> None:
    images = DecodedImages(LARGE, evaluates=False, cache_bytes=3 * 60 * 80)
    ids = images.add([saved(tmp_path, 1)], names=["x"], evaluated=[False])
    assert images.training.disk_bytes == 0  # all of the memory is for training
    with pytest.raises(KeyError, match="evaluation"):
        images.evaluation(ids)


def test_an_evaluation_square_can_be_asked_for_later(tmp_path: Path, decodes: Counter[str]) -> None:
    path = saved(tmp_path, 1)
    images = DecodedImages(LARGE)
    ids = images.add([path], names=["x"], evaluated=[False])
    again = images.add([path], names=["x"])
    assert list(decodes.values()) == [2]
    assert (shown(images, again)[0] == shown(images, ids)[0]).all()
    assert images.evaluation(again)[0].batch(images.evaluation(again)[1])[0].shape == (1, 3, 28, 28)
    images.keep([path])
    assert len(images) == 1


def test_a_bad_image_adds_nothing(tmp_path: Path) -> None:
    images = DecodedImages(LARGE, cache_bytes=20_000, folder=tmp_path / "cache")
    good, bad = saved(tmp_path, 1), tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:90])
    with pytest.raises(ImageError, match=r"bad\.png"):
        images.add([good, bad], names=["x", "y"])
    with pytest.raises(ImageError, match="memory: a/b"):
        images.add([b"no image"], names=["memory: a/b"])
    assert len(images) == 0
    ids = images.add([good], names=["x"])
    assert len(images) == 1
    assert images.training.disk_bytes == 0
    assert (shown(images, ids)[0] == np.asarray(Image.open(good))).all()
    images.close()


def test_memory_is_shared_out_and_the_rest_is_on_disk(tmp_path: Path) -> None:
    cap = 60_000
    images = DecodedImages(LARGE, cache_bytes=cap, folder=tmp_path / "cache")
    paths = [saved(tmp_path, number) for number in range(30)]
    ids = images.add(paths, names=["x"] * 30)
    evaluation, places = images.evaluation(ids)
    for store in (images.training, evaluation):
        assert store.disk_bytes > 0
    assert 0.9 * cap < images.training.memory_bytes + evaluation.memory_bytes <= cap
    images.keep(paths[::10])
    assert (images.training.disk_bytes, evaluation.disk_bytes) == (0, 0)
    for path, pixels in zip(paths[::10], shown(images, ids[::10]), strict=True):
        assert (pixels == np.asarray(Image.open(path))).all()
    assert evaluation.batch(places[::10])[0].shape == (3, 3, 28, 28)
    images.close()


RUNS: dict[str, dict[str, Any]] = {
    "prompts": {},
    "prompts without augmentation": {"augmentation_prob": 0.0},
    "the paper's": {"budget": "", "keep": "2 original + 3 prompt"},
    "originals": {"keep": "original", "augmentation_prob": 0.5, "budget": "20KB"},
    "originals without augmentation": {"keep": "original", "budget": "20KB"},
    "reduced images": {"keep": "webp:16:20"},
    "reduced images and prompts": {"keep": "50% webp:16:20 + 50% prompt"},
    "both views": {"eval_views": "both"},
    "joint": {"method": "joint"},
    "finetune": {"method": "finetune"},
    "prompts alone": {"memory_only": True},
    "originals and prompts alone": {"memory_only": True, "keep": "2 original + 4 prompt", "budget": "20KB"},
    "reduced images and prompts alone": {
        "memory_only": True,
        "keep": "2 webp:16:5 + 3 prompt",
        "budget": "2500",
    },
    "several threads": {"keep": "50% original + 50% prompt", "workers": 4, "budget": "12KB"},
}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("encoded", [False, True], ids=["no file of prompts", "a file of prompts"])
@pytest.mark.parametrize("transform", ["small", "large"])
@pytest.mark.parametrize("run", RUNS)
def test_a_run_decodes_each_image_once(
    run: str, transform: str, encoded: bool, small_data: Path, tmp_path: Path, decodes: Counter[str]
) -> None:
    options = {"transform": transform, "epochs": 1, "check": False, **RUNS[run]}
    if encoded:
        encode_folder(
            str(small_data), tmp_path / "out.escx", EncodeOptions(seeds=(0, 1), hint=8, coding="rle", workers=1)
        )
        options["prompts_file"] = str(tmp_path / "out.escx")
        decodes.clear()
    train(quick(small_data, **options), out=tmp_path / "run")
    assert set(decodes.values()) == {1}
    own = {hashlib.sha256(image.path.read_bytes()).hexdigest() for image in scan(small_data)}
    if not options.get("memory_only"):
        assert own <= decodes.keys()


@pytest.mark.usefixtures("one_thread")
def test_a_phase_holds_what_it_shows_and_no_more(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    expected: list[int] = []
    load = PhaseData.load

    def watched(self: PhaseData, phase: int, remembered: Contents) -> tuple[Items, int, int]:
        found = load(self, phase, remembered)
        held.append(len(self.images))
        expected.append(len({*found[0].own.tolist(), *found[0].copies.flatten().tolist()} - {-1}))
        return found

    monkeypatch.setattr(PhaseData, "load", watched)
    options = {"budget": "", "keep": "2 original + 3 prompt", "epochs": 1}
    train(quick(small_data, **options), out=tmp_path / "run")
    # Images of 2, 2 and 1 classes with two copies each; of a class before, two originals and three prompts' copies.
    assert held == expected == [16 * 3, 16 * 3 + 2 * (2 * 3 + 3 * 2), 8 * 3 + 4 * (2 * 3 + 3 * 2)]


@pytest.mark.usefixtures("one_thread")
def test_a_resumed_run_decodes_each_image_once(
    small_data: Path, tmp_path: Path, decodes: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick(small_data, budget="", keep="2 original + 3 prompt", check=False)
    whole = train(config, out=tmp_path / "whole")

    def stop(line: str) -> None:
        if line.startswith("phase 2 epoch 1/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), logged(stop):
        train(config, out=tmp_path / "run")
    decodes.clear()
    assert train(config, out=tmp_path / "run", resume=True).records == whole.records
    assert set(decodes.values()) == {1}


def make_tree(prompts: Path, folder: Path) -> None:
    """What ``escort decode`` makes of a file."""
    with Reader(prompts) as reader, make_regenerator("harmonic", {"workers": 1}) as harmonic:
        export_file(reader, folder, ExportOptions(), harmonic)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("given", ["prompts_file", "exemplars"])
def test_a_test_image_is_not_taken_for_a_training_image_of_its_name(
    given: str, small_data: Path, tmp_path: Path
) -> None:
    """Files of prompts and of copies know an image by class and name, and test/ has the names of train/."""
    assert scan(small_data, "test")[0].key in {image.key for image in scan(small_data)}
    options = {"method": "finetune", "epochs": 1, "eval_views": "both", "hint": 8}
    alone = train(quick(small_data, **options), out=tmp_path / "alone")
    out = tmp_path / "out.escx"
    encode_folder(str(small_data), out, EncodeOptions(seeds=(0, 1), hint=8, coding="rle", workers=1))
    if given == "exemplars":
        make_tree(out, tmp_path / "tree")
        for path in (tmp_path / "tree").rglob("*.jpg"):
            Image.new("RGB", (48, 48)).save(path)  # to be seen at once
    place = {"prompts_file": str(out), "exemplars": str(tmp_path / "tree")}[given]
    run = train(quick(small_data, **{**options, given: place}), out=tmp_path / "run")
    assert run.records == alone.records
    afterwards = evaluate_run(tmp_path / "run", small_data).to_record()
    for view, figures in alone.records[-1]["views"].items():
        assert afterwards["views"][view]["top1"] == figures["top1"]


@pytest.mark.usefixtures("one_thread")
def test_a_run_says_who_made_the_copies_that_it_was_given(small_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.escx"
    encode_folder(str(small_data), out, EncodeOptions(seeds=(0, 1), hint=8, coding="rle", workers=1))
    make_tree(out, tmp_path / "tree")
    lines: list[str] = []
    config = quick(small_data, prompts_file=str(out), exemplars=str(tmp_path / "tree"), epochs=1)
    with logged(lines.append):
        train(config, out=tmp_path / "run")
    assert f"uses the images in {tmp_path / 'tree'}, made by harmonic" in lines
    assert not [line for line in lines if "images regenerated" in line]
    assert not list((tmp_path / "run").rglob("cache/*/*.jpg"))


@pytest.mark.parametrize(("width", "height"), [(1, 65_520), (65_520, 1), (2, 4_000), (1, 1), (3, 300)])
def test_strips_of_pixels_become_squares_in_little_memory(width: int, height: int) -> None:
    rng = np.random.default_rng(1)
    picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
    for square in (Square(24), Square(24, 28)):
        pixels, aspect = square.of(picture)
        assert pixels.shape == (3, 24, 24)
        assert aspect == (1 if square.short_side else width / height)


def test_a_strip_is_cropped_as_other_pictures_are() -> None:
    """Either way of the centre square: the picture resized and then cropped, or cropped and then resized."""
    pixels = np.zeros((40, 40 * 15, 3), np.uint8)
    pixels[:, :, 0] = np.linspace(0, 255, 600).astype(np.uint8)
    picture = Image.fromarray(pixels)
    square = Square(24, 28)
    assert np.abs(square.of(picture)[0].astype(int) - square.strip(picture).astype(int)).max() <= 1
