"""Kinds of exemplar: how they are written, what they make, and that a new one is a class and a line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import escort_codec
from escort_cil.memory.contents import ClassMemory, figures_of
from escort_cil.memory.keep import STORED, Keep
from escort_cil.memory.kinds import ExemplarKind, Latent, Original, Prompt, WebP, is_regenerated, kinds
from escort_cil.memory.prompts import Prompts
from escort_cil.trainer import train
from escort_codec.encode.copies import LatentCopy, WebPCopy
from escort_codec.errors import ConfigError, UnknownNameError
from escort_codec.exemplar import Exemplar
from escort_codec.latent.picture import DEFAULT_QUALITY
from escort_codec.recipe import EncodeOptions
from escort_codec.source import SourceImage, load_image, scan
from tests.cil.small_runs import quick

PROMPTS = Prompts(EncodeOptions(seeds=(0, 1), hint=12, coding="rle", workers=1))


@pytest.fixture
def image(small_data: Path) -> SourceImage:
    return scan(small_data)[0]


@pytest.mark.parametrize(
    ("name", "options", "kind", "text"),
    [
        ("original", "", Original(), "original"),
        ("prompt", "", Prompt(), "prompt"),
        ("webp", "64", WebP(WebPCopy(64, 20)), "webp:64:20"),
        ("webp", "400B", WebP(WebPCopy(None, 20, 400)), "webp:400B"),
        ("prompt", "400B", Prompt(400), "prompt:400B"),
        ("latent", "250B", Latent(LatentCopy(None, most_bytes=250)), "latent:250B"),
        ("webp", "16383:100", WebP(WebPCopy(16383, 100)), "webp:16383:100"),
        ("latent", "64", Latent(LatentCopy(64)), f"latent:64:{DEFAULT_QUALITY}"),
        ("latent", "1024:0", Latent(LatentCopy(1024, 0)), "latent:1024:0"),
        ("latent", "64:250B", Latent(LatentCopy(64, most_bytes=250)), "latent:64:250B"),
    ],
)
def test_a_kind_is_written_as_it_is_read(name: str, options: str, kind: ExemplarKind, text: str) -> None:
    assert kinds.get(name).parse(options) == kind
    assert str(kind) == text
    assert kinds.get(name).parse(text.partition(":")[2]) == kind


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("original", "1"),
        ("prompt", "x"),
        ("prompt", "31B"),
        ("webp", "79B"),
        ("webp", ""),
        ("webp", "0"),
        ("webp", "64:101"),
        ("latent", "64:64"),
    ],
)
def test_options_that_a_kind_does_not_have(name: str, options: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kinds.get(name).parse(options)
    assert caught.value.setting == "keep"


def test_what_kinds_make(image: SourceImage) -> None:
    picture = load_image(image.path)
    original = Original().make(image, None, PROMPTS)
    assert (original.kind, original.key, original.image) == ("real", image.key, image.path.read_bytes())
    reduced = WebP(WebPCopy(16)).make(image, picture, PROMPTS)
    assert (reduced.kind, max(reduced.size), reduced.image[:4]) == ("real", 16, b"RIFF")
    learned = Latent(LatentCopy(16, 50)).make(image, picture, PROMPTS)
    assert (learned.kind, learned.size) == ("latent", (picture.height, picture.width))
    assert max(learned.picture().shape) == 16
    prompt = Prompt().make(image, picture, PROMPTS)
    assert (prompt.kind, prompt.coding, prompt.seeds, prompt.hint is None) == ("prompt", "rle", (0, 1), False)
    assert [is_regenerated(exemplar) for exemplar in (original, reduced, learned, prompt)] == [
        False,
        False,
        False,
        True,
    ]
    assert STORED == ("real", "latent", "prompt")


@dataclass(frozen=True, slots=True)
class Sketch(ExemplarKind):
    """Prompts without colour, for tests: ``sketch``."""

    name = "sketch"
    stored = "prompt"
    units = 1 / 48
    regenerated = True
    is_copy = True

    def make(self, image: SourceImage, picture: Image.Image | None, prompts: Prompts) -> Exemplar:
        """A prompt exemplar without a hint, with a text of its own."""
        assert picture is not None
        return replace(prompts.encode(image, picture), hint=None, prompt="a sketch")


@dataclass(frozen=True, slots=True)
class Grey(WebP):
    """Grey images, for tests: ``grey:SIDE``."""

    name = "grey"
    units = 1 / 3

    def make(self, image: SourceImage, picture: Image.Image | None, prompts: Prompts) -> Exemplar:
        """A real exemplar without colours."""
        assert picture is not None
        return WebP.make(self, image, picture.convert("L").convert("RGB"), prompts)


@pytest.fixture
def more_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sketches and grey images are registered."""
    monkeypatch.setattr(kinds, "_members", dict(kinds._members))
    kinds.add("sketch", Sketch)
    kinds.add("grey", Grey)


@pytest.mark.usefixtures("more_kinds", "one_thread")
@pytest.mark.parametrize("keep", ["sketch", "grey:16:50", "40% grey:16:50 + 60% sketch", "2 original + 3 sketch"])
def test_a_new_kind_needs_a_class_and_a_line(keep: str, small_data: Path, tmp_path: Path) -> None:
    """It is trained with, kept in the memory and counted, and nothing else knows of it."""
    config = quick(small_data, keep=keep, augmentation_prob=0.5, epochs=1, budget="4KB", hint=8)
    result = train(config, out=tmp_path / "run")
    with escort_codec.open(tmp_path / "run" / "memory.escx") as memory:
        exemplars = list(memory)
    assert {exemplar.kind for exemplar in exemplars} == {kind.stored for kind in Keep.parse(keep).kinds}
    for exemplar in exemplars:
        if exemplar.kind == "prompt":
            assert (exemplar.prompt, exemplar.hint) == ("a sketch", None)
        elif "grey" in keep:
            red, green, blue = np.moveaxis(np.asarray(load_image(exemplar.image)).astype(int), 2, 0)
            assert max(abs(red - green).max(), abs(green - blue).max()) <= 2
            assert max(exemplar.size) == 16
    last = result.records[-1]
    units = {kind.stored: kind.units for kind in Keep.parse(keep).kinds}
    expected = sum(units[exemplar.kind] for exemplar in exemplars)
    assert last["memory_units"] == pytest.approx(expected, abs=0.01)


@pytest.mark.usefixtures("more_kinds")
def test_units_are_those_of_what_is_kept(image: SourceImage) -> None:
    contents = (ClassMemory("a", {"real": (Original().make(image, None, PROMPTS),)}),)
    assert figures_of(contents, 0).units == 1  # a later kind that is stored as real changes nothing
    assert figures_of(contents, 0, Keep.parse("grey:16").kinds).units == pytest.approx(1 / 3)


def test_a_kind_that_does_not_exist() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'prompt'"):
        kinds.get("promt")
