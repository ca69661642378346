"""Coding 0, ``packed``: one bit per pixel."""

from __future__ import annotations

import numpy as np

from escort_codec.coding.base import Coding, EdgeMap, check_edges, check_shape
from escort_codec.errors import CodingError


class Packed(Coding):
    """Row after row, no padding between rows; the first pixel is the highest bit of the first byte.

    The unused low bits of the last byte are 0 (spec section "Coding 0").
    """

    name = "packed"
    number = 0

    def encode(self, edges: EdgeMap) -> bytes:
        """ceil(H * W / 8) bytes."""
        return np.packbits(check_edges(edges)).tobytes()

    def decode(self, data: bytes, shape: tuple[int, int]) -> EdgeMap:
        """The edge map. Raises CodingError for a wrong length or a padding bit that is not 0."""
        check_shape(shape)
        pixels = shape[0] * shape[1]
        if len(data) != (pixels + 7) // 8:
            raise CodingError(f"a packed map of {pixels} pixels has {(pixels + 7) // 8} bytes, not {len(data)}")
        bits = np.unpackbits(np.frombuffer(data, np.uint8))
        if bits[pixels:].any():
            raise CodingError("a packed map has padding bits that are not 0")
        return bits[:pixels].astype(np.bool_).reshape(shape)
