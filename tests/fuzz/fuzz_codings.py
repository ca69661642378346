"""Fuzzes each coding's decoder and the hint's. Only EscortError may come out, and a map has only one form.

By hand, ten minutes, from the repository's root::

    python tests/fuzz/golden_inputs.py CORPUS
    python tests/fuzz/fuzz_codings.py -max_total_time=600 CORPUS/codings

An input is a byte that chooses the coding (0 to 2) or the hint (3), two bytes for height and width (not for the hint),
and the coded bytes. A map that is decoded must be encoded to the same bytes again. Small maps are decoded by the tests'
reference too, which must agree; being plain Python, it also shows the fuzzer where to go, which compiled code cannot.
Crashes are as in ``fuzz_container.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports(include=["escort_codec.hint", "escort_codec.coding.packed", "tests.codec"]):
    from escort_codec.coding import EdgeMap, codings
    from escort_codec.hint import decode_hint, hint_size
    from tests.codec import reference_codings

from escort_codec.errors import EscortError
from tests.fuzz.harness import fuzz

HINT = 3
MOST_REFERENCE = 300  # pixels: the reference takes about 20 microseconds for each


def decode_by_reference(number: int, data: bytes, shape: tuple[int, int]) -> EdgeMap | None:
    try:
        return reference_codings.decode(data, shape, number)
    except reference_codings.RefusedError:
        return None


def try_hint(data: bytes) -> None:
    try:
        size = hint_size(data)
        pixels = decode_hint(data)
    except EscortError:
        return
    assert pixels.shape == (*size, 3)
    assert pixels.dtype == np.uint8


def test_one_input(data: bytes) -> None:
    """See the module."""
    if len(data) < 3:
        return
    if data[0] % 4 == HINT:
        try_hint(data[1:])
        return
    coding = next(c for c in codings if c.number == data[0] % 4)
    shape, bits = (data[1], data[2]), data[3:]
    edges: EdgeMap | None
    try:
        edges = coding.decode(bits, shape)
    except EscortError:
        edges = None
    if edges is not None:
        assert edges.shape == shape
        assert edges.dtype == np.bool_
        assert not (edges.view(np.uint8) > 1).any()
        assert coding.encode(edges) == bits
    if shape[0] * shape[1] <= MOST_REFERENCE:
        wanted = decode_by_reference(coding.number, bits, shape)
        assert (wanted is None) == (edges is None)
        if wanted is not None and edges is not None:
            assert (wanted == edges).all()


if __name__ == "__main__":
    for each in codings:
        each.prepare()
    fuzz(test_one_input)
