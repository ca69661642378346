"""Coding 2: round trips, the second implementation, and bits that nobody wrote."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from escort_codec.coding import EdgeMap, codings, decode_edges, encode_edges
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
def test_any_bits_are_a_map_in_its_only_form_or_refused(data: bytes, shape: tuple[int, int]) -> None:
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
