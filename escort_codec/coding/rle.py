"""Coding 1, ``rle``: the lengths of the runs in adaptive Rice codes."""

from __future__ import annotations

import functools
from types import ModuleType

import numpy as np

from escort_codec.coding.base import Coding, EdgeMap, check_data, check_edges, check_shape
from escort_codec.compiling import compiling
from escort_codec.errors import CodingError


@functools.cache
def _kernels() -> ModuleType:
    with compiling("the run-length coder"):
        from escort_codec.coding import rle_kernels
    return rle_kernels


class RunLengths(Coding):
    """The map row after row as runs of white (no edge) and black (edge) pixels, white first, bit-packed.

    Rice codes (R. F. Rice, 1979) whose parameter follows the mean of the runs of that colour, as in JPEG-LS
    (ITU-T T.87). The last run is not coded, so that a map without an edge takes no byte (spec section "Coding 1").
    """

    name = "rle"
    number = 1

    def prepare(self) -> None:
        """Compiles the kernels or loads them from the cache."""
        _kernels()

    def encode(self, edges: EdgeMap) -> bytes:
        """The bits of ``edges``, bool (H, W): the only bytes that ``decode`` takes for this map."""
        edges = check_edges(edges)
        kernels = _kernels()
        packed = np.zeros((edges.size + 63) // 64 * 8, np.uint8)
        packed[: (edges.size + 7) // 8] = np.packbits(edges, bitorder="little")
        words = packed.view("<u8").astype(np.uint64, copy=False)
        out = np.empty(words.nbytes + 8, np.uint8)
        while (written := kernels.encode(words, edges.size, out)) == kernels.FULL:  # rare: longer than packed bits
            out = np.empty(2 * out.size, np.uint8)
        return out[:written].tobytes()

    def decode(self, data: bytes, shape: tuple[int, int]) -> EdgeMap:
        """The map of ``shape``; raises CodingError for bits that ``encode`` does not write."""
        check_shape(shape)
        check_data(data)
        kernels = _kernels()
        pixels = np.zeros(shape[0] * shape[1], np.uint8)
        match kernels.decode(np.frombuffer(data, np.uint8), pixels):
            case kernels.TRUNCATED:
                raise CodingError("run lengths end within a code")
            case kernels.BEYOND:
                raise CodingError(f"run lengths go on beyond the map of {shape[1]} x {shape[0]} pixels")
            case kernels.WASTED:
                raise CodingError("run lengths end in bytes that say nothing")
        return pixels.view(np.bool_).reshape(shape)
