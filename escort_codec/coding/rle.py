"""Coding 1, ``rle``: run lengths in adaptive Rice codes."""

from __future__ import annotations

import functools
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from escort_codec.coding.base import Coding, EdgeMap, check_data, check_edges, check_shape
from escort_codec.errors import CodingError
from escort_codec.workers import compiling


@functools.cache
def _kernels() -> ModuleType:
    with compiling("the run-length coder"):
        from escort_codec.coding import rle_kernels
    return rle_kernels


class RunLengths(Coding):
    """The map row after row as runs of white (no edge) and black (edge) pixels, white first, bit-packed.

    Rice codes (R. F. Rice, 1979) whose parameter follows the mean length of the runs of that colour, as in JPEG-LS
    (ITU-T T.87). The last run is not coded, so that a map without an edge has no bytes (spec section "Coding 1").
    """

    name = "rle"
    number = 1

    def prepare(self) -> None:
        """Compiles the kernels or loads them from the cache."""
        _kernels()

    def encode(self, edges: EdgeMap) -> bytes:
        """The coded bytes of ``edges``, bool (H, W): the only ones that ``decode`` accepts for this map."""
        words = _words(check_edges(edges))
        room = words.nbytes
        while (bits := _encode(words, edges.size, room)) is None:  # rare: longer than packed
            room *= 2
        return bits

    def encode_within(self, edges: EdgeMap, limit: int) -> bytes | None:
        """``encode``, or None as soon as the result is longer than ``limit`` bytes."""
        bits = _encode(_words(check_edges(edges)), edges.size, limit)
        return bits if bits is not None and len(bits) <= limit else None

    def decode(self, data: bytes, shape: tuple[int, int]) -> EdgeMap:
        """The edge map. Raises CodingError for bytes that ``encode`` does not write."""
        check_shape(shape)
        check_data(data)
        kernels = _kernels()
        pixels = np.zeros(shape[0] * shape[1], np.uint8)
        match kernels.decode(np.frombuffer(data, np.uint8), pixels):
            case kernels.TRUNCATED:
                raise CodingError("run lengths end inside a code")
            case kernels.BEYOND:
                raise CodingError(f"run lengths reach beyond the map of {shape[1]} x {shape[0]} pixels")
            case kernels.WASTED:
                raise CodingError("run lengths end in superfluous bytes")
        return pixels.view(np.bool_).reshape(shape)


def _words(edges: EdgeMap) -> NDArray[np.uint64]:
    """The pixels in 64-bit words, the first pixel lowest; zeros after the last."""
    packed = np.zeros((edges.size + 63) // 64 * 8, np.uint8)
    packed[: (edges.size + 7) // 8] = np.packbits(edges, bitorder="little")
    return packed.view("<u8").astype(np.uint64, copy=False)


def _encode(words: NDArray[np.uint64], pixels: int, room: int) -> bytes | None:
    """The coded bytes, or None if they are more than ``room`` (a few more may pass)."""
    kernels = _kernels()
    out = np.empty(room + 8, np.uint8)
    written = kernels.encode(words, pixels, out)
    return None if written == kernels.FULL else out[:written].tobytes()
