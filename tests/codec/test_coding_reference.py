"""The codings against the second implementation: the same maps, and the same bytes refused."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from escort_codec.coding import EdgeMap, codings
from escort_codec.errors import CodingError
from tests.codec.reference_codings import RefusedError, decode

ROOT = Path(__file__).parents[2]
MAPS = hnp.arrays(np.bool_, st.tuples(st.integers(0, 14), st.integers(0, 20)), fill=st.just(False))
NAMES = [coding.name for coding in codings]


def reference(data: bytes, shape: tuple[int, int], number: int) -> EdgeMap | None:
    try:
        return decode(data, shape, number)
    except RefusedError:
        return None


def library(data: bytes, shape: tuple[int, int], name: str) -> EdgeMap | None:
    try:
        return codings.get(name).decode(data, shape)
    except CodingError:
        return None


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(edges=MAPS)
def test_both_decode_what_was_encoded(name: str, edges: EdgeMap) -> None:
    coding = codings.get(name)
    data = coding.encode(edges)
    shape = (edges.shape[0], edges.shape[1])
    np.testing.assert_array_equal(coding.decode(data, shape), edges)
    np.testing.assert_array_equal(decode(data, shape, coding.number), edges)


@pytest.mark.must("M30")
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=120, deadline=None)
@given(edges=MAPS, cut=st.integers(0, 3), flip=st.integers(0, 400), more=st.binary(max_size=2))
def test_both_refuse_the_same_bytes_and_only_one_form_is_taken(
    name: str, edges: EdgeMap, cut: int, flip: int, more: bytes
) -> None:
    coding = codings.get(name)
    shape = (edges.shape[0], edges.shape[1])
    data = bytearray(coding.encode(edges))
    if cut:
        del data[-cut:]
    if data and flip:
        data[flip // 8 % len(data)] ^= 1 << flip % 8
    changed = bytes(data) + more
    found = library(changed, shape, name)
    expected = reference(changed, shape, coding.number)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        np.testing.assert_array_equal(found, expected)
        assert coding.encode(found) == changed


@pytest.mark.must("M36")
def test_an_extra_zero_byte_is_refused() -> None:
    edges = np.eye(9, dtype=np.bool_)
    data = codings.get("context").encode(edges)
    assert library(data + b"\0", (9, 9), "context") is None
    assert library(b"\xff\xff\xff\xff", (9, 9), "context") is None


def test_the_prior_is_the_one_that_the_spec_names() -> None:
    """Each file has the SHA-256 of its row, and all of a prior unpack to the tables of the first row."""
    text = (ROOT / "spec" / "prior.md").read_text("utf-8")
    rows = re.findall(r"^\| .*\| ([^|]+) \| ([\d,]+) \| `([0-9a-f]{64})` \|$", text, re.MULTILINE)
    (_, size, tables), *files = rows
    assert [name for name, _, _ in files] == ["`escort_codec/coding/prior-1.xz`", "`spec/prior-1.bin.gz`"]
    for name, length, digest in files:
        data = (ROOT / name.strip("`")).read_bytes()
        assert (f"{len(data):,}", hashlib.sha256(data).hexdigest()) == (length, digest)
        unpacked = (gzip if name.endswith("gz`") else lzma).decompress(data)
        assert (f"{len(unpacked):,}", hashlib.sha256(unpacked).hexdigest()) == (size, tables)


def test_no_other_copy_of_the_prior_differs() -> None:
    copies = [path for name in ("spec", "viewer") for path in (ROOT / name).glob("prior-1*.gz")]
    assert ROOT / "spec" / "prior-1.bin.gz" in copies
    assert len({gzip.decompress(path.read_bytes()) for path in copies}) == 1
