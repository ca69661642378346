"""The codings of edge maps. Adding one is one file and one line here."""

from __future__ import annotations

from escort_codec.coding.base import Coding, EdgeMap, codings
from escort_codec.coding.context import Context
from escort_codec.coding.packed import Packed
from escort_codec.coding.rle import RunLengths
from escort_codec.recipe import EncodeOptions

codings.add("packed", Packed())
codings.add("rle", RunLengths())
codings.add("context", Context())

__all__ = ["DEFAULT", "Coding", "EdgeMap", "codings", "decode_edges", "encode_edges"]

DEFAULT = EncodeOptions().coding


def encode_edges(edges: EdgeMap, coding: str = DEFAULT) -> bytes:
    """The coded bytes of an edge map, bool (H, W). Raises CodingError, UnknownNameError."""
    return codings.get(coding).encode(edges)


def decode_edges(data: bytes, shape: tuple[int, int], coding: str = DEFAULT) -> EdgeMap:
    """The inverse of ``encode_edges``: an edge map, bool, of ``shape`` (H, W).

    Raises CodingError for bytes that the coding does not write, UnknownNameError.
    """
    return codings.get(coding).decode(data, shape)
