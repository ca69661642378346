"""The codings. Adding one is one file and one line here."""

from __future__ import annotations

from escort_codec.coding.base import Coding, EdgeMap, codings
from escort_codec.coding.context import Context
from escort_codec.coding.packed import Packed
from escort_codec.coding.rle import RunLengths

codings.add("packed", Packed())
codings.add("rle", RunLengths())
codings.add("context", Context())

__all__ = ["Coding", "EdgeMap", "codings", "decode_edges", "encode_edges"]


def encode_edges(edges: EdgeMap, coding: str = "rle") -> bytes:
    """The bits of ``edges`` (bool, (H, W)) under the coding of that name."""
    return codings.get(coding).encode(edges)


def decode_edges(data: bytes, shape: tuple[int, int], coding: str = "rle") -> EdgeMap:
    """The edge map (bool, ``shape`` = (H, W)) that ``encode_edges`` made ``data`` of.

    Raises CodingError where ``data`` is not what that coding writes.
    """
    return codings.get(coding).decode(data, shape)
