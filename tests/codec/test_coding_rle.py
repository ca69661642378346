"""Coding 1: runs counted by hand, round trips, the second implementation, and bits that nobody wrote."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from escort_codec.coding import EdgeMap, codings, decode_edges, encode_edges
from escort_codec.errors import CodingError
from tests.codec.reference_codings import RefusedError, decode

SHAPES = st.tuples(st.integers(0, 40), st.integers(0, 40))
DENSE = hnp.arrays(np.bool_, SHAPES)
SPARSE = hnp.arrays(np.bool_, SHAPES, fill=st.just(False), elements=st.just(True))


def shape_of(edges: EdgeMap) -> tuple[int, int]:
    return edges.shape[0], edges.shape[1]


def row(text: str) -> EdgeMap:
    return np.array([[c == "1" for c in text]], np.bool_)


@pytest.mark.parametrize(
    ("edges", "bits"),
    [
        # 16 white pixels on average at first, so k = 4 (8 * 2^4 >= 5 * 16); black begins with k = 0.
        (row(""), ""),
        (row("0"), ""),
        (row("0000000000"), ""),
        (row("1"), "0 0000 111"),
        (row("1111"), "0 0000 111"),
        (row("01"), "0 0001 111"),
        (row("0" * 15 + "1"), "0 1111 111"),
        (row("0" * 16 + "1"), "10 0000 11"),
        # one white; one black (its length less one: 0); white now has sum 17, count 2: k = 3 (16 * 2^3 >= 85)
        (row("0100"), "0 0001 0 11"),
        (row("01001"), "0 0001 0 0 001 1111 11"),
        # black of three: 2 with k = 0 is 110
        (row("01110"), "0 0001 110"),
        # 256 = 16 * 2^4 and more is written out: sixteen ones, 26 bits of what is above 256
        (row("0" * 255 + "1"), "111111111111111 0 1111 1111"),
        (row("0" * 256 + "1"), "1" * 16 + "0" * 26 + "1" * 6),
        (row("0" * 259 + "1"), "1" * 16 + "0" * 24 + "11" + "1" * 6),
    ],
)
def test_maps_counted_by_hand(edges: EdgeMap, bits: str) -> None:
    bits = bits.replace(" ", "")
    if len(bits) % 8:
        bits = bits + "1" * (-len(bits) % 8)
    data = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    assert encode_edges(edges, "rle") == data
    assert (decode_edges(data, (1, edges.size), "rle") == edges).all()


def test_halving_after_thirty_one_runs() -> None:
    # Runs of one pixel: white values are 1 and then 0s. After 31 runs the count is 32 and both are halved; the map
    # must still come back, and the second implementation must agree on where k falls.
    edges = row("01" * 200 + "0" * 50 + "1")
    assert (decode(encode_edges(edges, "rle"), shape_of(edges), 1) == edges).all()


@settings(max_examples=300, deadline=None)
@given(st.one_of(DENSE, SPARSE))
def test_round_trip_and_second_implementation(edges: EdgeMap) -> None:
    shape = shape_of(edges)
    data = encode_edges(edges, "rle")
    back = decode_edges(data, shape, "rle")
    assert back.dtype == np.bool_
    assert back.shape == shape
    assert (back == edges).all()
    assert (decode(data, shape, 1) == edges).all()
    with pytest.raises(CodingError):
        decode_edges(data + b"\xff", shape, "rle")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), SHAPES)
def test_any_bytes_are_the_only_form_of_a_map_or_refused(data: bytes, shape: tuple[int, int]) -> None:
    try:
        edges = decode_edges(data, shape, "rle")
    except CodingError:
        with pytest.raises(RefusedError):
            decode(data, shape, 1)
    else:
        assert (decode(data, shape, 1) == edges).all()
        assert encode_edges(edges, "rle") == data


def test_the_largest_white_map_with_one_edge() -> None:
    edges = np.zeros((8192, 8192), np.bool_)
    assert encode_edges(edges, "rle") == b""
    edges[-1, -2] = True
    data = encode_edges(edges, "rle")
    assert len(data) == 6  # 16 + 26 bits, and one for the black run
    assert (decode_edges(data, shape_of(edges), "rle") == edges).all()


def test_alternating_pixels_after_a_long_run_outgrow_the_first_buffer() -> None:
    # k stays high for a while after the long run, so that the code is longer than packed bits.
    edges = np.concatenate([row("0" * 3000), row("01" * 20)], axis=1)
    short = edges[:, 2900:]
    for each in (edges, short, np.tile(row("10"), (1, 50))):
        data = encode_edges(each, "rle")
        assert (decode_edges(data, (1, each.size), "rle") == each).all()


def test_every_byte_that_is_not_zero_is_an_edge() -> None:
    canny = np.array([[0, 255, 255, 0, 255]], np.uint8)
    assert encode_edges(canny.view(np.bool_), "rle") == encode_edges(canny > 0, "rle")


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        (b"\x00", (0, 0)),  # no pixel, but a run
        (b"\xff", (1, 1)),  # eight ones say nothing
        (b"\xff\xff\xff\xff\xff\xff", (4, 4)),  # a run beyond the map
        (b"\xff\xff\x00", (4, 4)),  # an escape without its 26 bits
        (b"\x07" + b"\xff" * 3, (4, 4)),
        (b"\x0f", (1, 1)),  # a white run of one pixel would be the last, which is not coded
        (b"\x00", (65536, 1)),
        (b"\x00", (65535, 65535)),
        (b"\x00", (-1, 4)),
    ],
)
def test_bad_bytes_are_refused(data: bytes, shape: tuple[int, int]) -> None:
    with pytest.raises(CodingError) as caught:
        decode_edges(data, shape, "rle")
    assert "\n" not in str(caught.value)


def test_importing_the_codings_never_imports_numba() -> None:
    code = "import sys, escort_codec, escort_codec.coding; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_registered_under_the_frozen_numbers() -> None:
    assert (codings.get("packed").number, codings.get("rle").number) == (0, 1)
