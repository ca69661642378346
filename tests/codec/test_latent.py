"""Learned pictures: sizes, bytes, seeds, and the integer coding against a slow one written from the spec."""

from __future__ import annotations

import contextlib
import hashlib
import json
import lzma
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from escort_codec.errors import DamagedError, EscortError, LimitError, UsageError
from escort_codec.latent import kernels
from escort_codec.latent.picture import (
    LEAST_BYTES,
    Latents,
    decode_latent,
    drawn,
    encode_latent,
    latent_head,
    read_latents,
)
from escort_codec.latent.tables import ARRAYS, CHANNELS, FOLDER, load_costs, load_tables, pack, unpack
from escort_codec.limits import MAX_LATENT
from tests.codec import reference_latent

ROOT = Path(__file__).parents[2]


def picture(height: int, width: int, seed: int = 1) -> NDArray[np.uint8]:
    """Smooth colours with an edge in them."""
    rng = np.random.Generator(np.random.PCG64(seed))
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    pixels = np.array(small.resize((width, height), Image.Resampling.BICUBIC))
    pixels[height // 3 :, width // 2 :] = 255 - pixels[height // 3 :, width // 2 :]
    return pixels


def coded(values: NDArray[np.int16], quality: int) -> bytes:
    """Exactly these latents as bytes, without a head: a weight above any number of bits changes none."""
    out, chosen = np.empty(1 << 18, np.uint8), np.empty_like(values)
    tables = load_tables().arrays
    written = kernels.encode(tables, quality, values.astype(np.float32), load_costs(), 1e9, chosen, out)
    assert (chosen == values).all()
    return out[:written].tobytes()


def head(height: int, width: int, quality: int = 20) -> bytes:
    def side(pixels: int) -> bytes:
        return bytes([pixels - 1] if pixels <= 128 else [(pixels - 1) % 128 + 128, (pixels - 1) // 128])

    return bytes([1, quality]) + side(height) + side(width)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (7, 9), (8, 8), (64, 64), (61, 83), (129, 130), (16, 300)])
def test_any_size_comes_back(shape: tuple[int, int]) -> None:
    rgb = picture(*shape)
    data = encode_latent(rgb, quality=40)
    assert latent_head(data).size == shape
    shown = decode_latent(data)
    assert shown.shape == (*shape, 3)
    assert shown.dtype == np.uint8


def test_quality_buys_fidelity_and_costs_bytes() -> None:
    rgb = picture(64, 64)
    found = []
    for quality in (0, 16, 32, 48, 63):
        data = encode_latent(rgb, quality=quality)
        error = np.square(decode_latent(data).astype(float) - rgb).mean()
        found.append((len(data), error))
    sizes, errors = zip(*found, strict=True)
    assert list(sizes) == sorted(sizes)
    assert sizes[-1] > 3 * sizes[0]
    assert list(errors) == sorted(errors, reverse=True)
    assert errors[-1] < np.square(rgb - rgb.mean((0, 1))).mean() / 20


def test_the_longer_side_is_reduced_and_small_images_stay() -> None:
    assert latent_head(encode_latent(picture(120, 90), 64)).size == (64, 48)
    assert latent_head(encode_latent(Image.fromarray(picture(20, 30)), 64)).size == (20, 30)


@pytest.mark.parametrize("most", [LEAST_BYTES, 60, 150, 400])
def test_bytes_are_a_bound_that_is_nearly_reached(most: int) -> None:
    rgb = picture(96, 128)
    data = encode_latent(rgb, 64, most_bytes=most)
    head = latent_head(data)
    assert 0.6 * most < len(data) <= most or (head.quality == 63 and len(data) <= most)
    if head.quality < 63 and head.size == (48, 64):
        assert len(encode_latent(rgb, 64, quality=head.quality + 1)) > most


def test_the_side_shrinks_where_no_quality_fits() -> None:
    squares = np.random.Generator(np.random.PCG64(1)).integers(0, 2, (20, 20, 3), dtype=np.uint8) * 255
    data = encode_latent(squares.repeat(20, 0).repeat(20, 1), most_bytes=LEAST_BYTES)
    assert len(data) <= LEAST_BYTES
    assert max(latent_head(data).size) < 400


@pytest.mark.parametrize(
    "wrong", [{"quality": 64}, {"quality": -1}, {"side": 0}, {"side": 1025}, {"most_bytes": LEAST_BYTES - 1}]
)
def test_wrong_values_name_their_setting(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError) as caught:
        encode_latent(picture(8, 8), **wrong)
    assert caught.value.setting == next(iter(wrong))


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_refused(array: NDArray[np.uint8]) -> None:
    with pytest.raises(UsageError):
        encode_latent(array)
    with pytest.raises(UsageError):
        encode_latent(Image.new("L", (4, 4)))


# The head.


@pytest.mark.parametrize(
    ("data", "size", "start"),
    [
        (b"\x01\x14\x00\x00", (1, 1), 4),
        (b"\x01\x14\x7f\x3f", (128, 64), 4),
        (b"\x01\x14\x80\x01\x3f", (129, 64), 5),
        (b"\x01\x14\xff\x07\xff\x07", (1024, 1024), 6),
    ],
)
def test_heads_by_hand(data: bytes, size: tuple[int, int], start: int) -> None:
    found = latent_head(data)
    assert (found.size, found.start, found.quality) == (size, start, 20)
    assert head(*size) == data


@pytest.mark.parametrize(
    "data",
    [
        *(b"\x01\x14\x80\x01\xff\x07"[:n] for n in range(6)),
        b"\x02\x14\x00\x00",  # another model
        b"\x00\x14\x00\x00",
        b"\x01\x40\x00\x00",  # quality 64
        b"\x01\x14\x85\x00\x00",  # 6 in two bytes
    ],
)
def test_heads_that_are_refused(data: bytes) -> None:
    """Spec latent-1, L1."""
    with pytest.raises(DamagedError):
        latent_head(data)
    with pytest.raises(DamagedError):
        decode_latent(data)


@pytest.mark.parametrize("data", [b"\x01\x14\x80\x08\x00", b"\x01\x14\x00\xff\xff", head(8, 8) + bytes(MAX_LATENT)])
def test_caps_are_checked_before_memory_is_taken(data: bytes) -> None:
    with pytest.raises(LimitError):
        decode_latent(data)


# The coding.


def check_against_reference(data: bytes, positions: tuple[int, int], quality: int) -> bool:
    """Whether both accept the bytes; they must agree, also on every latent, mean and scale."""
    whole = head(8 * positions[0], 8 * positions[1], quality) + data
    try:
        wanted = reference_latent.decode(data, positions, quality, load_tables())
    except reference_latent.RefusedError:
        with pytest.raises(DamagedError):
            read_latents(whole)
        return False
    found = read_latents(whole)
    values, means, scales = wanted
    assert (found.values == values).all()
    assert (found.offsets == np.clip(means - 256 * values, -32768, 32767)).all()
    assert (found.scales == scales).all()
    return True


@pytest.mark.parametrize("quality", [0, 20, 63])
def test_the_kernels_code_as_the_spec_says(quality: int) -> None:
    data = encode_latent(picture(21, 30), quality=quality)
    assert check_against_reference(data[4:], (3, 4), quality)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 2.0, 20.0, 400.0]), st.integers(0, 63))
def test_any_latents_come_back(seed: int, spread: float, quality: int) -> None:
    rng = np.random.Generator(np.random.PCG64(seed))
    shape = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    values = np.clip(np.rint(rng.laplace(size=(*shape, CHANNELS)) * spread), -255, 255).astype(np.int16)
    data = coded(values, quality)
    assert check_against_reference(data, shape, quality)


@pytest.mark.parametrize("value", [-255, 255])
def test_the_largest_latents_come_back(value: int) -> None:
    values = np.full((1, 2, CHANNELS), value, np.int16)
    assert check_against_reference(coded(values, 5), (1, 2), 5)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 63))
def test_bytes_of_a_stranger_are_refused_as_the_spec_says(data: bytes, quality: int) -> None:
    """Spec latent-1, L2 and L3: and what is accepted has no other form."""
    if check_against_reference(data, (1, 1), quality):
        assert coded(read_latents(head(8, 8, quality) + data).values, quality) == data


def test_a_zero_at_the_end_and_bytes_left_over_are_refused() -> None:
    """Spec latent-1, L2."""
    data = encode_latent(picture(16, 16), quality=40)
    for more in (b"\0", b"\1", b"\0\1"):
        with pytest.raises(DamagedError):
            read_latents(data + more)


def test_every_cut_and_every_flipped_byte_is_refused_or_a_picture() -> None:
    data = encode_latent(picture(24, 24), quality=45)
    for at in range(len(data)):
        for other in (data[:at], data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]):
            with contextlib.suppress(EscortError):
                assert decode_latent(other).shape == (*latent_head(other).size, 3)


def test_the_largest_picture_of_a_stranger_takes_bounded_time() -> None:
    """A few bytes that ask for 1024 x 1024 pixels: 16,384 positions, decoded as far as memory goes."""
    tracemalloc.start()
    try:
        with contextlib.suppress(DamagedError):
            assert read_latents(head(1024, 1024, 63) + b"\x55" * 40).values.shape == (128, 128, CHANNELS)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


# Seeds.


def test_a_seed_draws_inside_the_cells_and_always_the_same() -> None:
    data = encode_latent(picture(64, 48), quality=30)
    found = read_latents(data)
    places = drawn(found, 7)
    assert np.abs(places).max() <= 0.5
    assert np.array_equal(places, drawn(found, 7))
    one, other, plain = decode_latent(data, 7), decode_latent(data, 8), decode_latent(data)
    assert np.array_equal(one, decode_latent(data, 7))
    assert not np.array_equal(one, other)
    errors = [np.square(each.astype(float) - plain).mean() for each in (one, other)]
    assert 0 < max(errors) < np.square(plain - plain.mean((0, 1))).mean()


def test_draws_follow_the_logistic_distribution_of_the_prediction() -> None:
    """Against quantiles of a distribution function that is written down again, in double precision."""
    scales = load_tables().scales
    index = int(np.argmin(abs(scales - 0.6)))
    shape = (40, 40, CHANNELS)
    found = Latents(
        latent_head(head(320, 320)),
        np.zeros(shape, np.int16),
        np.full(shape, 77, np.int16),  # the mean lies 77/256 above the latent
        np.full(shape, index, np.uint8),
    )
    places = drawn(found, 1)

    def below(place: float) -> float:
        return float(1 / (1 + np.exp(-(place - 77 / 256) / float(scales[index]))))

    for place in (-0.4, -0.1, 0.2, 0.45):
        share = (below(place) - below(-0.5)) / (below(0.5) - below(-0.5))
        assert abs((places < place).mean() - share) < 0.01


def test_draws_far_from_the_mean_lie_at_the_near_edge() -> None:
    shape = (2, 2, CHANNELS)
    far = Latents(
        latent_head(head(16, 16)),
        np.zeros(shape, np.int16),
        np.full(shape, 20 * 256, np.int16),
        np.zeros(shape, np.uint8),
    )
    places = drawn(far, 1)
    assert np.isfinite(places).all()
    assert (places > 0.2).all()


# The files.


def test_the_files_are_those_of_the_spec() -> None:
    text = (ROOT / "spec" / "latent-1.md").read_text("utf-8")
    total = 0
    for name in ("model-1.encoder.onnx", "model-1.decoder.onnx", "model-1.tables.xz"):
        data = FOLDER.joinpath(name).read_bytes()
        assert f"{len(data):,} | `{hashlib.sha256(data).hexdigest()}`" in text, name
        total += len(data) if "encoder" not in name else 0
    assert total <= 2_000_000


def test_tables_are_packed_as_they_are_unpacked() -> None:
    names = [name for name in ARRAYS if name not in ("gains", "steps", "scales")]
    tables = load_tables()
    arrays = dict(zip(names, tables.arrays, strict=True))
    arrays |= {"gains": tables.gains, "steps": tables.steps, "scales": tables.scales}
    again = unpack(lzma.decompress(pack(arrays)))
    for one, other in zip((*tables.arrays, tables.gains), (*again.arrays, again.gains), strict=True):
        assert np.array_equal(one, other)
    with pytest.raises(ValueError, match="middle"):
        pack(arrays | {"middle": arrays["middle"].astype(np.int64) + 40_000})
    for wrong in (b"1234", lzma.decompress(pack(arrays)) + b"1"):
        with pytest.raises(ValueError, match=r"buffer|bytes instead of"):
            unpack(wrong)
    assert np.abs(tables.arrays[0]).max() <= 8191  # else the sums of 32 bits could overflow
    assert tables.arrays[list(ARRAYS).index("scale_index")].max() < len(tables.scales)


def test_golden_pictures() -> None:
    """The latents are those of the golden file; pixels may differ by a grey level or two."""
    golden = json.loads((ROOT / "spec" / "vectors" / "latent" / "latents.json").read_text("utf-8"))
    for each in golden:
        found = read_latents(bytes.fromhex(each["bytes"]))
        assert hashlib.sha256(found.values.astype("<i2").tobytes()).hexdigest() == each["latents"], each["name"]
        shown = decode_latent(bytes.fromhex(each["bytes"]))
        wanted = np.array(each["some_pixels"])
        assert np.abs(shown.reshape(-1, 3)[:: each["every"]].astype(int) - wanted).max() <= 2, each["name"]
