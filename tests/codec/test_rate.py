"""Rate control: what fits, what is recorded, and the whole file's budget."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from skimage.data import coffee

import escort_codec
from escort_codec.container.verify import verify
from escort_codec.edges import edge_map, enlarged
from escort_codec.encode.copies import LatentCopy, WebPCopy, parse_copy
from escort_codec.encode.folder import EncodeReport, encode_folder
from escort_codec.encode.rate import (
    LATENT_HINT,
    WEBP,
    fit_hint,
    fit_picture,
    fit_quality,
    map_fidelity,
    picture_fidelity,
)
from escort_codec.errors import SourceError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.latent.picture import encode_latent
from escort_codec.measure import edge_score
from escort_codec.recipe import EdgeSettings, EncodeOptions
from escort_codec.source import load_image, load_rgb
from tests.helpers import read_all

IMAGES = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of six drawn pictures, some busy, one without an edge."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(IMAGES):
        rng = np.random.Generator(np.random.PCG64(number))
        picture = Image.fromarray(rng.integers(90, 160, (6, 8, 3), dtype=np.uint8)).resize((200, 150))
        draw = ImageDraw.Draw(picture)
        for _ in range(number * number):
            x, y = rng.integers(0, 190, 2).tolist()
            colour = tuple(rng.integers(0, 256, 3).tolist())
            draw.ellipse([x, y, x + int(rng.integers(4, 60)), y + int(rng.integers(4, 60))], colour)
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        picture.save(path)
    return folder


def encode(data: Path, out: Path, **options: Any) -> tuple[EncodeReport, list[Exemplar]]:
    report = encode_folder(data, out, EncodeOptions(**{"workers": 1, "overwrite": True, **options}))
    assert verify(out).fault is None
    return report, read_all(out)


def size(exemplar: Exemplar) -> int:
    return len(exemplar.payload) + len(exemplar.hint or b"")


@pytest.mark.parametrize("codec", ["vp8", "latent"])
@pytest.mark.parametrize("rate", [64, 300, 900])
def test_no_prompt_is_above_its_bytes_and_its_record_makes_the_same_map(
    data: Path, tmp_path: Path, rate: int, codec: str
) -> None:
    _, exemplars = encode(data, tmp_path / "out.escx", bytes_per_exemplar=rate, hint_codec=codec)
    assert len(exemplars) == IMAGES
    assert max(map(size, exemplars)) <= rate
    assert sum(map(size, exemplars)) / IMAGES > 0.7 * rate  # some are too plain to take more
    for exemplar in exemplars:
        rgb, made = load_rgb(data / exemplar.key), exemplar.edge_settings
        again = edge_map(rgb, settings=made, side=min(exemplar.map_shape))
        assert np.array_equal(again, exemplar.edges)
    assert (len({exemplar.map_shape for exemplar in exemplars}) > 1) == (rate < 900)


def test_more_bytes_keep_more(data: Path, tmp_path: Path) -> None:
    kept = []
    for rate in (100, 300, 900):
        _, exemplars = encode(data, tmp_path / "out.escx", bytes_per_exemplar=rate)
        kept.append(np.mean([map_fidelity(e.edges, load_rgb(data / e.key)) for e in exemplars]))
    assert kept[0] < kept[1] < kept[2]


def test_a_hint_uses_its_bytes_where_every_try_came_out_a_little_above() -> None:
    picture = Image.fromarray(coffee())

    def code(side: int, quality: int) -> bytes:
        return encode_latent(picture, side, quality=quality)

    for most in range(40, 240, 6):
        hint = fit_hint(code, most, max(picture.size), LATENT_HINT)
        assert hint is not None
        assert 0.35 * most < len(hint) <= most
    assert fit_hint(code, LATENT_HINT.least - 1, max(picture.size), LATENT_HINT) is None


def test_the_same_file_for_any_number_of_workers_and_no_hint_if_none_is_asked_for(data: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        encode(data, tmp_path / f"{workers}.escx", bytes_per_exemplar=250, hint=0, workers=workers)
    assert (tmp_path / "1.escx").read_bytes() == (tmp_path / "3.escx").read_bytes()
    assert all(exemplar.hint is None for exemplar in read_all(tmp_path / "1.escx"))


def test_without_rate_control_the_map_is_the_papers(data: Path, tmp_path: Path) -> None:
    _, exemplars = encode(data, tmp_path / "out.escx")
    for exemplar in exemplars:
        assert exemplar.edge_settings == EdgeSettings()
        assert np.array_equal(exemplar.edges, edge_map(load_rgb(data / exemplar.key)))


@pytest.mark.parametrize("kind", ["latent", "webp", "webp:48", "latent:40"])
def test_pictures_within_their_bytes(data: Path, tmp_path: Path, kind: str) -> None:
    _, exemplars = encode(data, tmp_path / "out.escx", kind=kind, bytes_per_exemplar=220)
    sizes = [size(exemplar) for exemplar in exemplars]
    assert max(sizes) <= 220
    assert kind != "webp" or np.mean(sizes) > 0.85 * 220
    if ":" in kind:
        side = int(kind.partition(":")[2])
        shown = [e.picture() if e.kind == "latent" else load_rgb(e.image) for e in exemplars]
        assert {max(picture.shape) for picture in shown} == {side}


def test_a_budget_is_of_the_whole_file(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.escx"
    for budget in (2500, 6000):
        report, _ = encode(data, out, budget=budget)
        assert 0.8 * budget < out.stat().st_size <= budget
        assert report.exemplars == IMAGES
        assert report.bytes_per_exemplar is not None
    with pytest.raises(UsageError, match="12 images need at least about") as caught:
        encode(data, out, budget=300)
    assert caught.value.setting == "budget"
    assert out.stat().st_size > 2500  # the one before


def test_images_of_which_too_little_would_be_kept_are_left_out(data: Path, tmp_path: Path) -> None:
    report, exemplars = encode(data, tmp_path / "out.escx", bytes_per_exemplar=150, min_fidelity=0.7)
    assert 0 < report.left_out < IMAGES
    assert report.left_out + len(exemplars) == IMAGES
    assert report.skipped == []
    assert all(map_fidelity(e.edges, load_rgb(data / e.key)) >= 0.7 for e in exemplars)
    assert "a/0.png" not in {exemplar.key for exemplar in exemplars}  # it has no edge at all
    with pytest.raises(SourceError, match="all images would be below `min_fidelity`"):
        encode(data, tmp_path / "none.escx", kind="webp:16:1", min_fidelity=1.0)
    assert not (tmp_path / "none.escx").exists()
    report, exemplars = encode(data, tmp_path / "webp.escx", kind="webp:16:1", min_fidelity=0.75)
    assert report.left_out + len(exemplars) == IMAGES
    assert all(picture_fidelity(load_rgb(e.image), load_rgb(data / e.key)) >= 0.75 for e in exemplars)


@pytest.mark.parametrize(
    "options",
    [
        {"bytes_per_exemplar": 300, "budget": 9000},
        {"bytes_per_exemplar": 31},
        {"bytes_per_exemplar": 300, "settings": EdgeSettings(blur=1.0)},
        {"bytes_per_exemplar": 300, "hint": 16},
        {"budget": 9000, "hint_quality": 30},
        {"budget": 9000, "shard": (1, 2)},
        {"budget": 9000, "kind": "original"},
        {"bytes_per_exemplar": 300, "kind": "latent:64:20"},
        {"bytes_per_exemplar": 40, "kind": "webp"},
        {"min_fidelity": 1.5},
    ],
)
def test_settings_that_do_not_go_together(data: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        encode(data, tmp_path / "out.escx", **options)
    assert list(tmp_path.iterdir()) == []


def test_names_of_rates() -> None:
    assert parse_copy("webp:400B") == WebPCopy(None, 20, 400) == parse_copy("webp", 400)
    assert parse_copy("webp:64:400B") == WebPCopy(64, 20, 400) == parse_copy("webp:64", 400)
    assert parse_copy("latent:250B") == LatentCopy(None, most_bytes=250) == parse_copy("latent", 250)
    for text in ("webp:400B", "webp:64:400B", "latent:250B", "latent:64:250B"):
        assert str(parse_copy(text)) == text


def test_the_highest_quality_that_fits_is_found() -> None:
    def code(side: int, quality: int) -> bytes:
        return bytes(round(30 * math.exp(quality / 25)))

    for most in (31, 100, 333, 1200):
        found = fit_quality(code, most, 8, WEBP, 12)
        best = max((len(code(8, q)) for q in range(101) if len(code(8, q)) <= most), default=0)
        assert found is not None
        assert 0.97 * most < len(found) <= most or len(found) == best
    assert fit_quality(code, 29, 8, WEBP, 12) is None


def test_a_picture_shrinks_until_it_fits(data: Path) -> None:
    picture = load_image(data / "a/10.png")
    found = fit_picture(lambda side, quality: bytes(side), lambda code: np.zeros((2, 2, 3), np.uint8), picture, 3, WEBP)
    assert len(found.data) <= 3


def test_lines_of_a_small_map_are_drawn_thin() -> None:
    small = np.zeros((6, 8), np.bool_)
    small[1, 1:6] = small[2:5, 5] = small[4, 0] = True
    large = enlarged(small, (60, 80))
    assert large[15, 15:56].all()
    assert large[15:46, 55].all()
    assert large[45, 5]
    assert large.sum() == 41 + 30 + 1
    assert enlarged(small, (6, 8)) is small
    diagonal = np.eye(5, dtype=np.bool_)
    assert edge_score(enlarged(diagonal, (50, 50)), np.eye(50, dtype=np.bool_)).precision == 1


def test_a_rate_is_taken_from_a_file_for_further_images(data: Path, tmp_path: Path) -> None:
    from escort_cil.memory.prompts import options_of

    encode(data, tmp_path / "out.escx", bytes_per_exemplar=300)
    with escort_codec.open(tmp_path / "out.escx") as reader:
        options = options_of(reader, EncodeOptions(), None)
    assert options.bytes_per_exemplar is not None
    assert 250 < options.bytes_per_exemplar <= 300
