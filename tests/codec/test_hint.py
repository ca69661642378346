from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from escort_codec.errors import DamagedError, EscortError, LimitError, UsageError
from escort_codec.hint import decode_hint, encode_hint, hint_size, thumbnail_shape, webp_file
from escort_codec.limits import MAX_HINT


def _picture(height: int, width: int) -> NDArray[np.uint8]:
    """A smooth gradient in all three channels with a disc in it."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    disc = (x - 0.4) ** 2 + (y - 0.4) ** 2 < 0.04
    planes = [255 * x, 255 * y, 128 + 100 * np.sin(6 * x)]
    return np.stack([np.where(disc, 255 - p, p) for p in planes], axis=2).astype(np.uint8)


PLAIN = encode_hint(_picture(90, 120), 32)


def _header(width: int = 32, height: int = 24, tag: int = 0x10, first: int = 0, code: bytes = b"\x9d\x01\x2a") -> bytes:
    """A VP8 key frame's ten bytes, by hand (RFC 6386, section 9.1)."""
    return (tag | first << 5).to_bytes(3, "little") + code + struct.pack("<HH", width, height)


def test_a_hint_is_the_frame_of_the_file_that_pillow_writes() -> None:
    rgb = _picture(24, 32)
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "WEBP", quality=20, method=4)
    whole = file.getvalue()
    assert whole[:4] + whole[8:16] == b"RIFFWEBPVP8 "
    hint = encode_hint(rgb)
    assert whole[20 : 20 + len(hint)] == hint
    assert set(whole[20 + len(hint) :]) <= {0}
    with Image.open(file) as image:
        assert np.array_equal(decode_hint(hint), np.asarray(image.convert("RGB")))


@pytest.mark.must("M27")
def test_no_trailing_zero_and_no_riff_byte_is_kept() -> None:
    """Spec M27."""
    assert PLAIN[3:6] == b"\x9d\x01\x2a"
    assert PLAIN[-1] != 0
    assert b"RIFF" not in PLAIN
    assert b"WEBP" not in PLAIN


@pytest.mark.parametrize("length", [10, 11])
def test_the_rebuilt_file_byte_for_byte(length: int) -> None:
    data = _header() + bytes(length - 10)
    frame = data + bytes(8 + length % 2)  # eight implied zeros, then an even length
    size = struct.pack("<I", len(frame))
    assert webp_file(data) == b"RIFF" + struct.pack("<I", len(frame) + 12) + b"WEBP" + b"VP8 " + size + frame


def test_a_flat_picture_ends_in_more_zeros_than_are_left_out() -> None:
    flat = np.full((700, 700, 3), 128, np.uint8)
    hint = encode_hint(flat, side=700)
    assert hint.endswith(bytes(9))
    assert np.abs(decode_hint(hint).astype(int) - 128).max() <= 2  # WebP's YCbCr has fewer greys


def test_size_colour_and_bytes_of_a_plain_hint() -> None:
    rgb = _picture(90, 120)
    assert hint_size(PLAIN) == (24, 32)
    assert len(PLAIN) < 300
    small = decode_hint(PLAIN)
    assert small.shape == (24, 32, 3)
    assert small.dtype == np.uint8
    means = rgb[:88, :120].reshape(22, 4, 30, 4, 3).mean(axis=(0, 1, 2, 3))
    assert np.abs(small.mean(axis=(0, 1)) - means).max() < 8
    assert small[12, 30, 0] > small[12, 2, 0] + 150  # red grows to the right: neither mirrored nor BGR


@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [
        ((300, 200), 32, (32, 21)),
        ((200, 300), 32, (21, 32)),
        ((5000, 1), 32, (32, 1)),
        ((1, 1), 32, (1, 1)),
        ((20, 10), 32, (20, 10)),
        ((65535, 2), 1, (1, 1)),
        ((64, 3), 32, (32, 2)),  # 1.5 is rounded up
        ((2000, 1000), 1024, (1024, 512)),
    ],
)
def test_the_thumbnails_shape(shape: tuple[int, int], side: int, expected: tuple[int, int]) -> None:
    assert thumbnail_shape(shape, side) == expected


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3)])
def test_the_smallest_pictures(shape: tuple[int, int]) -> None:
    hint = encode_hint(np.full((*shape, 3), 200, np.uint8), 32)
    assert hint_size(hint) == thumbnail_shape(shape, 32)
    assert np.abs(decode_hint(hint).astype(int) - 200).max() <= 8


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
    st.integers(1, 48),
    st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_any_picture_has_the_size_in_its_header(rgb: NDArray[np.uint8], side: int, quality: int) -> None:
    hint = encode_hint(rgb, side, quality)
    assert hint == encode_hint(rgb, side, quality)
    assert hint_size(hint) == thumbnail_shape((rgb.shape[0], rgb.shape[1]), side)
    assert decode_hint(hint).shape[:2] == hint_size(hint)


@pytest.mark.parametrize(("side", "quality"), [(0, 20), (1025, 20), (-1, 20), (32, -1), (32, 101)])
def test_options_out_of_range(side: int, quality: int) -> None:
    with pytest.raises(UsageError):
        encode_hint(_picture(8, 8), side, quality)


@pytest.mark.parametrize(
    "rgb",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_arrays_that_are_not_pictures(rgb: NDArray[np.uint8]) -> None:
    with pytest.raises(UsageError):
        encode_hint(rgb)


def test_a_hint_above_the_cap_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), np.uint8)
    with pytest.raises(LimitError):
        encode_hint(noise, side=1024, quality=100)


@pytest.mark.must("M28")
@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", DamagedError),
        (_header()[:9], DamagedError),
        (_header(tag=0x11), DamagedError),  # no key frame
        (_header(tag=0x00), DamagedError),  # not shown
        (_header(tag=0x18), DamagedError),  # profile 4
        (_header(code=b"\x9d\x01\x2b"), DamagedError),
        (_header(first=9), DamagedError),  # longer than header, bytes and implied zeros
        (_header(width=0), DamagedError),
        (_header(height=0), DamagedError),
        (_header(width=32 | 1 << 14), DamagedError),
        (_header(height=32 | 3 << 14), DamagedError),
        (_header(width=1025), LimitError),
        (_header(width=16383, height=16383), LimitError),
        (_header() + bytes(MAX_HINT - 9), LimitError),
    ],
)
def test_bad_headers_never_reach_pillow(data: bytes, error: type[EscortError], monkeypatch: pytest.MonkeyPatch) -> None:
    """Spec M28."""

    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("Pillow was asked")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(error):
        hint_size(data)
    with pytest.raises(error):
        decode_hint(data)


@pytest.mark.must("M29")
def test_a_picture_of_another_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spec M29. A WebP library that is right about sizes never shows it, so it is given another hint's file."""
    other = webp_file(encode_hint(_picture(8, 9)))
    monkeypatch.setattr("escort_codec.hint.webp_file", lambda data: other)
    with pytest.raises(DamagedError):
        decode_hint(PLAIN)


def test_the_caps_themselves_are_allowed() -> None:
    assert hint_size(_header(width=1024, height=1024, first=8)) == (1024, 1024)
    assert hint_size(_header() + bytes(MAX_HINT - 10)) == (24, 32)


def test_every_truncation_and_every_flipped_bit_is_a_hint_or_our_error() -> None:
    """Checksums are the container's; here nothing but a picture of the announced size or one of our errors."""
    broken = [PLAIN[:n] for n in range(len(PLAIN))]
    for bit in range(len(PLAIN) * 8):
        flipped = bytearray(PLAIN)
        flipped[bit // 8] ^= 1 << bit % 8
        broken.append(bytes(flipped))
    refused = 0
    for data in broken:
        try:
            pixels = decode_hint(data)
        except (DamagedError, LimitError):
            refused += 1
        else:
            assert pixels.shape == (*hint_size(data), 3)
    assert 10 <= refused < len(broken)


@given(st.binary(max_size=200), st.integers(1, 1024), st.integers(1, 1024), st.integers(0, 300))
@settings(max_examples=150, deadline=None)
def test_any_bytes_after_a_valid_header(body: bytes, width: int, height: int, first: int) -> None:
    data = _header(width, height, first=first) + body
    try:
        pixels = decode_hint(data)
    except DamagedError:
        pass
    else:
        assert pixels.shape == (height, width, 3)
