"""Coding 2: round trips, the second implementation, and bits that nobody wrote."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from escort_codec.coding import EdgeMap, codings, decode_edges, encode_edges
from escort_codec.coding.context import BIASES, QUIET, REACH, RING, WINDOWS
from escort_codec.coding.context_kernels import HERE, note_row, prepare_row
from escort_codec.errors import CodingError

SHAPES = st.tuples(st.integers(0, 40), st.integers(0, 40))
DENSE = hnp.arrays(np.bool_, SHAPES)
SPARSE = hnp.arrays(np.bool_, SHAPES, fill=st.just(False), elements=st.just(True))


@settings(max_examples=200, deadline=None)
@given(st.one_of(DENSE, SPARSE))
def test_round_trip(edges: EdgeMap) -> None:
    shape = (edges.shape[0], edges.shape[1])
    data = encode_edges(edges, "context")
    back = decode_edges(data, shape, "context")
    assert back.dtype == np.bool_
    assert (back == edges).all()
    for wasted in (b"\x00", b"\x01", b"\x80"):
        with pytest.raises(CodingError):
            decode_edges(data + bytes(9) + wasted, shape, "context")


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=40), SHAPES)
def test_any_bytes_are_the_only_form_of_a_map_or_refused(data: bytes, shape: tuple[int, int]) -> None:
    try:
        edges = decode_edges(data, shape, "context")
    except CodingError:
        return
    assert encode_edges(edges, "context") == data


@settings(max_examples=100, deadline=None)
@given(st.one_of(DENSE, SPARSE), st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_gives_another_map_or_is_refused(edges: EdgeMap, place: int, flip: int) -> None:
    data = bytearray(encode_edges(edges, "context"))
    if not data:
        return
    data[place % len(data)] ^= flip
    try:
        other = decode_edges(bytes(data), (edges.shape[0], edges.shape[1]), "context")
    except CodingError:
        return
    assert not np.array_equal(other, edges)


def test_registered_under_the_frozen_number() -> None:
    assert codings.get("context").number == 2


def test_the_kernel_sees_the_windows_of_the_model() -> None:
    """``prepare_row`` writes the windows out by hand, for speed: every bit of every context is checked here."""
    height, width = RING, 40
    pixels = np.random.default_rng(1).integers(0, 2, (height, width)).astype(np.uint8)
    columns = np.zeros((RING, width + REACH), np.uint16)
    for y in range(height - 1):
        note_row(pixels[y], columns[y % RING])
    y = height - 1
    contexts = np.zeros((len(WINDOWS + BIASES), width), np.uint16)
    near = np.zeros(width, np.uint16)
    prepare_row(y, columns, contexts, near)
    padded = np.pad(pixels, 16)  # pixels outside the map are 0
    for x in range(width):
        seen = padded[16 + y - 4 : 16 + y, 16 + x - QUIET : 16 + x + 12]
        assert bool(near[x]) == bool(seen.any())
        held = int("".join(map(str, padded[16 + y, x : 16 + x])), 2)  # the pixels before x, x - 1 lowest
        for number, window in enumerate(WINDOWS + BIASES):
            bits = [
                padded[16 + y - row, 16 + column]
                for row, left, right in window
                for column in range(x + left, x + right + 1)
            ]
            assert contexts[number, x] | (held & HERE[number]) == int("".join(map(str, bits)), 2)
