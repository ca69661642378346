"""What is shown of an image: itself, its regenerated copies, its reduced self."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from escort_cil.augment import transforms
from escort_cil.data.images import DecodedImages, Item, Items, store_items
from escort_cil.memory.encoder import ExemplarEncoder
from escort_cil.memory.keep import Keep
from escort_cil.memory.kinds import Original, Prompt, WebP
from escort_cil.memory.prompts import Prompts, options_of
from escort_cil.memory.synthetic import ExportedImages, SyntheticCache, SyntheticImages
from escort_codec.container import Reader, pack
from escort_codec.encode.copies import WebPCopy
from escort_codec.encode.folder import encode_folder
from escort_codec.encode.images import encode_image
from escort_codec.errors import ConfigError, OutputError, RegenerationError, SourceError
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import EdgeSettings, EncodeOptions
from escort_codec.regenerate import make_regenerator
from escort_codec.source import SourceImage, load_image, load_rgb, scan

OPTIONS = EncodeOptions(seeds=(0, 1, 2), hint=12, coding="rle", workers=1)


@pytest.fixture
def images(small_data: Path) -> list[SourceImage]:
    return scan(small_data)[:3]


def cache_in(folder: Path) -> SyntheticCache:
    return SyntheticCache(folder, make_regenerator("harmonic", {"workers": 1}))


def prompts_of(images: list[SourceImage], **options: Any) -> list[Exemplar]:
    return ExemplarEncoder(Prompts(OPTIONS, **options)).exemplars(Prompt(), images)


def test_copies_are_made_once_and_are_the_regenerators(images: list[SourceImage], tmp_path: Path) -> None:
    prompts = prompts_of(images)
    cache = cache_in(tmp_path)
    paths = cache.paths(prompts, (0, 2))
    assert cache.made == 6
    with make_regenerator("harmonic") as harmonic:
        expected = harmonic.image(prompts[1], 2)
    difference = np.abs(load_rgb(paths[1][1]).astype(int) - expected)
    assert difference.mean() < 3  # JPEG at quality 95
    again = cache_in(tmp_path)
    assert again.paths(prompts, (2, 0)) == [row[::-1] for row in paths]
    assert again.made == 0
    # A prompt without its hint is another prompt.
    assert cache_in(tmp_path).paths(prompts_of(images, hint=0), (0,))[0] == paths[0][:1]
    without = EncodeOptions(seeds=(0,), hint=0, coding="rle", workers=1)
    bare = ExemplarEncoder(Prompts(without)).exemplars(Prompt(), images)
    assert cache_in(tmp_path).paths(bare, (0,))[0] != paths[0][:1]


def test_images_with_equal_bytes_have_one_copy(images: list[SourceImage], tmp_path: Path) -> None:
    prompts = prompts_of(images[:1])
    twins = [replace(prompts[0], name=f"copy {n}.jpg") for n in range(40)]
    cache = cache_in(tmp_path)
    paths = cache.paths(twins, (0, 2))
    assert cache.made == 2
    assert {tuple(row) for row in paths} == {tuple(paths[0])}
    assert all(path.is_file() for path in paths[0])


def test_empty_copies_and_links_are_made_anew(images: list[SourceImage], tmp_path: Path) -> None:
    prompts = prompts_of(images)
    ((first, second, _),) = zip(*cache_in(tmp_path).paths(prompts, (0,)), strict=True)
    whole = first.read_bytes(), second.read_bytes()
    first.write_bytes(b"")  # as a power cut leaves it
    (tmp_path / "mine.jpg").write_bytes(b"mine")
    second.unlink()
    second.symlink_to(tmp_path / "mine.jpg")
    cache = cache_in(tmp_path)
    assert cache.find(prompts[0], 0) is cache.find(prompts[1], 0) is None
    cache.paths(prompts, (0,))
    assert cache.made == 2
    assert (first.read_bytes(), second.read_bytes()) == whole
    assert not second.is_symlink()
    assert (tmp_path / "mine.jpg").read_bytes() == b"mine"


def test_a_link_in_place_of_a_folder_of_the_cache_is_refused(images: list[SourceImage], tmp_path: Path) -> None:
    prompts = prompts_of(images)
    ((first, *_),) = zip(*cache_in(tmp_path / "cache").paths(prompts, (0,)), strict=True)
    (tmp_path / "mine").mkdir()
    first.unlink()
    first.parent.rmdir()
    first.parent.symlink_to(tmp_path / "mine")
    with pytest.raises(OutputError, match="is a symbolic link"):
        cache_in(tmp_path / "cache").paths(prompts, (0,))
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_prompt_that_cannot_be_regenerated_is_named(tmp_path: Path) -> None:
    empty = Exemplar.from_edges(np.zeros((0, 0), np.bool_), label="a", name="b.jpg")
    with pytest.raises(RegenerationError, match=r"a/b\.jpg"):
        cache_in(tmp_path).paths([empty], (0,))


def test_which_copies_a_policy_has(images: list[SourceImage], tmp_path: Path) -> None:
    def copies(keep: str) -> SyntheticImages:
        return SyntheticImages(ExemplarEncoder(Prompts(OPTIONS)), cache_in(tmp_path), Keep.parse(keep), (0, 1))

    originals = copies("original").of_images(images)
    assert all(isinstance(source, Path) and len(row) == 2 for row in originals for source in row)
    assert copies("prompt").of_images(images) == originals
    reduced = copies("webp:16").of_images(images)
    assert [len(row) for row in reduced] == [1, 1, 1]
    data = reduced[0][0]
    assert isinstance(data, bytes)
    assert max(Image.open(io.BytesIO(data)).size) == 16
    both = copies("50% webp:16 + 50% prompt").of_images(images)
    assert [row[:2] for row in both] == originals
    assert [row[2:] for row in both] == [row * 2 for row in reduced]  # each kind is as likely
    assert copies("prompt").of_images(images, (1,)) == [row[1:] for row in originals]


def test_the_way_to_encode_is_that_of_the_files_prompts(images: list[SourceImage], tmp_path: Path) -> None:
    made = EncodeOptions(preset="lowres", settings=EdgeSettings(60, 120), seeds=(3,), hint=12, coding="context")
    blank = Exemplar.from_edges(np.zeros((2, 2), np.bool_), label="a", name="a.jpg", edge_settings=made.settings)
    assert blank.coding != "context"  # a simpler one is shorter
    blank = replace(encode_image(images[0], made).exemplar, label="a", payload=blank.payload, coding=blank.coding)
    path = tmp_path / "out.escx"
    path.write_bytes(pack([replace(blank, map_shape=(2, 2)), encode_image(images[1], made).exemplar]))
    with Reader(path) as reader:
        found = options_of(reader, EncodeOptions(workers=2), None)
        assert found == replace(made, workers=2)
        assert options_of(reader, EncodeOptions(), 8).hint == 8
    path.write_bytes(pack(ExemplarEncoder(Prompts(OPTIONS)).exemplars(Original(), images)))
    with Reader(path) as reader, pytest.raises(ConfigError, match="holds no prompts"):
        options_of(reader, EncodeOptions(), None)


@pytest.mark.parametrize(
    ("keep", "shown", "expected"),
    [  # (prompt, prompt of a real exemplar, reduced) of a training image, of one in the last phase, of a test image
        ("prompt", True, [(1, 0, 0), (1, 0, 0), (1, 0, 0)]),
        ("prompt", False, [(1, 0, 0), (1, 0, 0), (0, 0, 0)]),
        ("50% original + 50% prompt", True, [(1, 1, 0), (1, 0, 0), (1, 0, 0)]),
        ("50% original + 50% prompt", False, [(1, 0, 0), (1, 0, 0), (0, 0, 0)]),
        ("original", True, [(1, 1, 0), (1, 0, 0), (1, 0, 0)]),
        ("original", False, [(0, 0, 0), (0, 0, 0), (0, 0, 0)]),
        ("webp:16", True, [(0, 0, 1), (0, 0, 1), (0, 0, 1)]),
        ("webp:16", False, [(0, 0, 1), (0, 0, 1), (0, 0, 0)]),
        ("50% webp:16 + 50% prompt", True, [(1, 0, 1), (1, 0, 1), (1, 0, 1)]),
        ("50% webp:16 + 50% prompt", False, [(1, 0, 1), (1, 0, 1), (0, 0, 0)]),
    ],
)
def test_what_is_made_of_an_image_that_is_decoded(
    keep: str, shown: bool, expected: list[tuple[int, int, int]], tmp_path: Path
) -> None:
    synthetic = SyntheticImages(ExemplarEncoder(Prompts(OPTIONS)), cache_in(tmp_path), Keep.parse(keep), (0,))
    needs = [
        synthetic.needs(shown=shown, remembered=True, later=True),
        synthetic.needs(shown=shown, remembered=True),
        synthetic.needs(shown=shown),
    ]
    assert [(Prompt() in n.kinds, n.of_real == Prompt(), WebP(WebPCopy(16)) in n.kinds) for n in needs] == expected


def test_copies_of_what_is_remembered(images: list[SourceImage], tmp_path: Path) -> None:
    encoder = ExemplarEncoder(Prompts(OPTIONS))
    (prompt,) = encoder.exemplars(Prompt(), images[:1])
    (real,) = encoder.exemplars(Original(), images[1:2])
    assert real.image == images[1].path.read_bytes()
    copier = SyntheticImages(encoder, cache_in(tmp_path), Keep.parse("50% original + 50% prompt"), (0, 1))
    of_prompt, of_real = copier.of_exemplars([prompt, real], reals=False)
    assert (len(of_prompt), of_real) == (2, [])
    of_prompt, of_real = copier.of_exemplars([prompt, real], reals=True)
    # A real exemplar's copies are those that its image had before it was remembered.
    assert of_real == copier.of_images(images[1:2])[0]
    (reduced,) = encoder.exemplars(WebP(WebPCopy(16)), images[1:2])
    copier = SyntheticImages(encoder, cache_in(tmp_path), Keep.parse("50% webp:16 + 50% prompt"), (0, 1))
    assert copier.of_exemplars([reduced], reals=True) == [[]]
    assert reduced.image == WebPCopy(16).reduced(load_image(images[1].path))


def test_copies_of_escort_decode_are_found_by_their_manifest(
    images: list[SourceImage], small_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of another data set with equal names none is used."""
    from escort_codec.container import Reader
    from escort_codec.export.options import ExportOptions
    from escort_codec.export.tree import export_file

    encode_folder(str(small_data), tmp_path / "out.escx", OPTIONS)
    tree = tmp_path / "tree"
    with Reader(tmp_path / "out.escx") as reader, make_regenerator("harmonic", {"workers": 1}) as harmonic:
        export_file(reader, tree, ExportOptions(seeds=(0,), limit=2), harmonic)
        exported = ExportedImages(tree)
        assert exported.regenerators == ("harmonic",)
        prompts = prompts_of(images, prompts_file=reader)
        assert prompts == [reader[image.key] for image in images]
        cache = SyntheticCache(tmp_path / "cache", harmonic, exported.find)
        paths = cache.paths(prompts, (0, 1))
        with caplog.at_level("WARNING"):
            others = [replace(prompt, payload=prompts[2].payload) for prompt in prompts[:2]]
            assert [exported.find(prompt, 0) for prompt in others] == [None, None]
        assert exported.find(prompts[0], 0) is not None
    (line,) = caplog.messages
    assert f"{tree}: the images of {prompts[0].key} are of another exemplar with that name" in line
    assert line.endswith("such images are made anew")
    # Two images with seed 0 were there; the others are made, not left out.
    assert cache.made == 4
    assert [path.is_relative_to(tree) for row in paths for path in row] == [True, False, True, False, False, False]
    assert all(path.is_file() for row in paths for path in row)
    with pytest.raises(SourceError, match=r"no manifest\.jsonl"):
        ExportedImages(tmp_path / "cache")


def test_drawing(tmp_path: Path) -> None:
    shown = [
        Item(0, np.full((8, 8, 3), 10, np.uint8), [], "an image without copies"),
        Item(1, None, [np.full((8, 8, 3), 20 + i, np.uint8) for i in range(3)], "a prompt"),
        Item(2, np.full((8, 8, 3), 30, np.uint8), [np.full((8, 8, 3), 31, np.uint8)], "an image with a copy"),
    ]
    decoded = DecodedImages(transforms.get("small")(8), workers=1)
    items, store = store_items(shown, decoded, evaluated=False), decoded.training
    assert items.labels.tolist() == [0, 1, 2]

    def values(probability: float, seed: int = 0) -> list[list[int]]:
        index = torch.arange(3).repeat(400)
        ids = items.draw(index, probability, torch.Generator().manual_seed(seed))
        pixels = store.batch(ids)[0]
        assert isinstance(pixels, torch.Tensor)
        return pixels[:, 0, 0, 0].reshape(400, 3).T.tolist()

    plain, prompt, copied = values(0.25)
    assert set(plain) == {10}
    assert all(100 <= count <= 170 for count in Counter(prompt).values())
    assert set(prompt) == {20, 21, 22}
    assert Counter(copied)[31] == pytest.approx(100, abs=35)
    assert set(values(0.0)[2]) == {30}
    assert set(values(1.0)[2]) == {31}
    assert values(0.25) == values(0.25)
    assert values(0.25) != values(0.25, seed=1)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=8), st.floats(0, 1), st.integers(0, 99)
)
def test_what_is_drawn_belongs_to_the_item(kinds: list[tuple[bool, int]], probability: float, seed: int) -> None:
    width = max(1, *(count for _, count in kinds)) if kinds else 1
    own, copies, counts = [], torch.full((len(kinds), width), -1), []
    for i, (real, count) in enumerate(kinds):
        count = count if real else max(1, min(count, width))
        own.append(1000 + i if real else -1)
        copies[i, :count] = torch.arange(10 * i, 10 * i + count)
        counts.append(count)
    items = Items(torch.zeros(len(kinds), dtype=torch.int64), torch.tensor(own), copies, torch.tensor(counts))
    index = torch.arange(len(kinds)).repeat(5)
    ids = items.draw(index, probability, torch.Generator().manual_seed(seed))
    for i, drawn in zip(index.tolist(), ids.tolist(), strict=True):
        assert drawn in copies[i, : counts[i]].tolist() or drawn == own[i] >= 0
