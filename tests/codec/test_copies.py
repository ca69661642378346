"""What ``escort encode --as`` keeps: WebP copies, files, learned pictures, and prompts with a latent hint."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import escort_codec
from escort_codec.container import Reader, Writer
from escort_codec.container.verify import verify
from escort_codec.encode.copies import LatentCopy, OriginalFile, WebPCopy, parse_copy
from escort_codec.encode.folder import encode_folder
from escort_codec.errors import DamagedError, EscortError, FormatError, LimitError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.latent.picture import DEFAULT_QUALITY, encode_latent, latent_head
from escort_codec.recipe import EncodeOptions
from escort_codec.regenerate.base import image_digest
from escort_codec.source import load_rgb
from tests.helpers import draw_edges, read_all


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes of two pictures each, 90 x 60 pixels, one of them 20 x 30."""
    for label, number in (("cat", 0), ("cat", 1), ("dog", 2), ("dog", 3)):
        path = tmp_path / "data" / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.Generator(np.random.PCG64(number))
        small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        small.resize((20, 30) if number == 3 else (90, 60), Image.Resampling.BICUBIC).save(path)
    return tmp_path / "data"


def encode(data: Path, out: Path, **options: Any) -> list[Exemplar]:
    encode_folder(data, out, EncodeOptions(workers=1, overwrite=True, **options))
    assert verify(out).fault is None
    return read_all(out)


@pytest.mark.parametrize(
    ("text", "copy"),
    [
        ("prompt", None),
        ("original", OriginalFile()),
        ("webp:64", WebPCopy(64, 20)),
        ("webp:64:5", WebPCopy(64, 5)),
        ("latent:64", LatentCopy(64, DEFAULT_QUALITY)),
        ("latent:64:0", LatentCopy(64, 0)),
        ("latent:1024:63", LatentCopy(1024, 63)),
        ("latent:64:250B", LatentCopy(64, DEFAULT_QUALITY, 250)),
    ],
)
def test_names_of_copies(text: str, copy: object) -> None:
    assert parse_copy(text) == copy
    if copy is not None:
        assert parse_copy(str(copy)) == copy


@pytest.mark.parametrize(
    "text",
    ["", "jpeg", "prompt:1", "original:1", "webp", "webp:0", "latent", "latent:0", "latent:1025", "latent:64:64",
     "latent:64:31B", "latent:64:2000000B", "latent:64:", "latent:64:9b"],
)  # fmt: skip
def test_names_that_are_no_copies(text: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        encode(data, tmp_path / "out.escx", kind=text)
    assert (caught.value.setting, caught.value.value) == ("kind", text)
    assert not (tmp_path / "out.escx").exists()


def test_learned_pictures_of_a_folder(data: Path, tmp_path: Path) -> None:
    found = encode(data, tmp_path / "out.escx", kind="latent:64:50", seeds=(3, 5))
    assert [(e.kind, e.size, e.seeds) for e in found] == [("latent", (60, 90), (3, 5))] * 3 + [
        ("latent", (30, 20), (3, 5))
    ]
    assert [latent_head(e.payload).size for e in found] == [(43, 64)] * 3 + [(30, 20)]
    assert {latent_head(e.payload).quality for e in found} == {50}
    for exemplar in found[3:]:  # not reduced
        rgb = load_rgb(data / exemplar.key)
        error = np.square(exemplar.picture().astype(float) - rgb).mean()
        assert error < np.square(rgb - rgb.mean((0, 1))).mean() / 5
    bounded = encode(data, tmp_path / "bounded.escx", kind="latent:64:90B")
    assert all(len(e.payload) <= 90 for e in bounded)


def test_the_bytes_do_not_depend_on_the_number_of_workers(data: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        encode_folder(data, tmp_path / f"{workers}.escx", EncodeOptions(workers=workers, kind="latent:64"))
    assert (tmp_path / "1.escx").read_bytes() == (tmp_path / "2.escx").read_bytes()


def test_webp_copies_and_files(data: Path, tmp_path: Path) -> None:
    reduced = encode(data, tmp_path / "out.escx", kind="webp:32:10")
    assert [(e.kind, max(e.size)) for e in reduced] == [("real", 32)] * 3 + [("real", 30)]
    assert {e.image[:4] for e in reduced} == {b"RIFF"}
    files = encode(data, tmp_path / "files.escx", kind="original")
    assert [e.image for e in files] == [(data / e.key).read_bytes() for e in files]


@pytest.mark.parametrize("kind", ["original", "webp:64", "latent:64"])
def test_a_damaged_image_is_not_kept(kind: str, data: Path, tmp_path: Path) -> None:
    path = data / "cat" / "0.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(EscortError, match=r"0\.png"):
        encode(data, tmp_path / "out.escx", kind=kind)
    assert not (tmp_path / "out.escx").exists()
    assert len(encode(data, tmp_path / "out.escx", kind=kind, on_error="skip")) == 3


def test_prompts_with_a_latent_hint(data: Path, tmp_path: Path) -> None:
    found = encode(data, tmp_path / "out.escx", hint_codec="latent", hint=24, hint_quality=40)
    for exemplar in found:
        assert exemplar.hint is not None
        pixels = exemplar.hint_pixels
        assert pixels is not None
        assert (exemplar.hint_codec, exemplar.hint_size, max(pixels.shape)) == ("latent", pixels.shape[:2], 24)
    plain = encode(data, tmp_path / "plain.escx")
    assert [e.payload for e in plain] == [e.payload for e in found]
    assert {e.hint_codec for e in plain} == {"latent"}
    assert {e.hint_codec for e in encode(data, tmp_path / "vp8.escx", hint_codec="vp8")} == {"vp8"}
    with pytest.raises(UsageError) as caught:
        encode(data, tmp_path / "out.escx", hint_codec="latent", hint_quality=64)
    assert caught.value.setting == "hint_quality"


def test_damaged_latents_are_found_by_verify(tmp_path: Path) -> None:
    good = encode_latent(draw_edges(16, 16)[:, :, None].repeat(3, 2).astype(np.uint8) * 255, quality=40)
    for payload in (good + b"\0", b"\2" + good[1:], good[:4] + b"\xff" * 6):
        path = tmp_path / "f.escx"
        path.write_bytes(escort_codec.pack([Exemplar.from_latents(payload, label="a", size=(16, 16))]))
        verdict = verify(path)
        assert verdict.kind is FormatError
        (exemplar,) = read_all(path)
        with pytest.raises(DamagedError):
            exemplar.picture()


def test_a_writer_refuses_a_hint_that_is_no_learned_picture(tmp_path: Path) -> None:
    for hint in (b"\1\xff\0\0", b"\1"):
        exemplar = Exemplar.from_edges(draw_edges(8, 8), label="a", hint=hint, hint_codec="latent")
        with pytest.raises(LimitError):
            escort_codec.pack([exemplar])


def test_other_kinds_have_no_latents() -> None:
    prompt = Exemplar.from_edges(draw_edges(8, 8), label="a")
    with pytest.raises(EscortError, match="no latents"):
        prompt.picture()
    learned = Exemplar.from_latents(encode_latent(np.zeros((8, 8, 3), np.uint8)), label="a", size=(8, 8))
    for name in ("edges", "image"):
        with pytest.raises(EscortError, match="latent exemplar"):
            getattr(learned, name)


def test_a_prompt_without_a_hint_is_the_same_before_and_after_it_is_written(data: Path, tmp_path: Path) -> None:
    """Else its regenerated images would be made twice: their digest has the hint's codec."""
    hinted = next(iter(encode(data, tmp_path / "hinted.escx")))
    assert hinted.hint_codec == "latent"
    dropped = dataclasses.replace(hinted, hint=None)
    assert dropped.hint_codec == "vp8"
    with Writer(tmp_path / "out.escx") as writer:
        writer.add(dropped)
    with Reader(tmp_path / "out.escx") as reader:
        assert image_digest(reader[0], 0) == image_digest(dropped, 0)
