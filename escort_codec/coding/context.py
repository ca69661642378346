"""Coding 2, ``context``: a trained prior, adaptation inside the map, and a binary range coder."""

from __future__ import annotations

import functools
import lzma
from importlib.resources import files
from types import ModuleType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from escort_codec.coding.base import Coding, EdgeMap, check_data, check_edges, check_shape
from escort_codec.errors import CodingError, EscortError
from escort_codec.workers import compiling

Segment = tuple[int, int, int]
"""(row, left, right): the pixels x + left .. x + right, ``row`` rows above the current one."""

WINDOWS: Final[tuple[tuple[Segment, ...], ...]] = (
    ((2, -2, 2), (1, -3, 3), (0, -4, -1)),
    ((3, -2, 2), (2, -2, 2), (1, -1, 2), (0, -2, -1)),
    ((2, 0, 5), (1, -1, 6), (0, -2, -1)),
    ((2, -5, -1), (1, -4, 1), (0, -5, -1)),
    ((5, -1, 1), (4, -2, 2), (3, -1, 1), (1, -1, 1), (0, -2, -1)),
)
"""The static contexts, 16 pixels each. A context is a binary number whose highest bit is its first pixel.

Windows, biases and the constants below define the coding (spec section "Coding 2: context"): a change needs a new
coding number.
"""

BIASES: Final[tuple[tuple[Segment, ...], ...]] = (
    ((2, -2, 2), (1, -2, 2), (0, -2, -1)),
    ((2, 0, 0), (1, -1, 1), (0, -2, -1)),
)
"""The contexts of the biases, which adapt to the map: 12 and 6 pixels."""

RING: Final = 8  # rows that are kept: the contexts use five
REACH: Final = 8  # columns to either side of a pixel: -7 .. 8

QUIET: Final = 4  # columns, rows and pixels around a quiet block that have no edge
BLOCK: Final = 8  # pixels of a quiet block

BLOCK_START: Final = 64500  # probability of a quiet block without an edge, in 1/65536
BLOCK_MOST: Final = 65472
BLOCK_SHIFT: Final = 6

STEP: Final = 16  # table steps per unit of the logit
SQUASH_SHIFT: Final = 8  # from a logit in 1/65536 to an index of the squash table: 1/256
SQUASH_SIZE: Final = 6144  # logits from -12 to 12

WIDE_RATE: Final = 3  # learning rates of the biases, in 2^-RATE_SHIFT
NARROW_RATE: Final = 2
RATE_SHIFT: Final = 6

GAIN_SHIFT: Final = 8  # static * gain >> GAIN_SHIFT is a logit in 1/65536
GAIN_START: Final = 65536 * (1 << GAIN_SHIFT) // STEP
GAIN_LEAST: Final = GAIN_START // 4
GAIN_MOST: Final = GAIN_START * 4
GAIN_RATE_SHIFT: Final = 9


def window_size(window: tuple[Segment, ...]) -> int:
    """The number of pixels of a window."""
    return sum(right - left + 1 for _, left, right in window)


def row_mask(window: tuple[Segment, ...]) -> int:
    """The mask of the bits of a context that are pixels of the current row: its lowest bits."""
    return sum(1 << i for i in range(sum(right - left + 1 for row, left, right in window if row == 0)))


FILES = {1: "prior-1.xz"}
"""Prior number -> file beside this module. The bytes of a prior never change (spec/prior.md has their hashes)."""

ENTRIES = 1 << 16


@functools.cache
def load_prior(number: int) -> NDArray[np.int8]:
    """The tables of a prior: int8 (windows, 65536), logits of an edge in 1/16, by context.

    Raises EscortError if the installed file is missing or damaged.
    """
    name = FILES[number]
    try:
        data = lzma.decompress(files("escort_codec.coding").joinpath(name).read_bytes())
        return np.frombuffer(data, np.int8).reshape(len(WINDOWS), ENTRIES)
    except (OSError, lzma.LZMAError, ValueError) as exc:
        raise EscortError(f"the installed file {name} is missing or damaged: install escort again ({exc})") from exc


def pack_prior(tables: NDArray[np.int8]) -> bytes:
    """The file of a prior: an ``.xz`` stream of the tables one after another, one byte per entry."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 0}]
    return lzma.compress(np.ascontiguousarray(tables).tobytes(), check=lzma.CHECK_CRC32, filters=filters)


@functools.cache
def squash() -> NDArray[np.uint16]:
    """P0, the probability of no edge in 1/65536, by logit: entry i is that of (i - 3072 + 1/2) / 256, within 6..65530.

    Rounded half up. No value is within 10^-4 of a half, so any double-precision exp gives the same integers.
    """
    logits = (np.arange(SQUASH_SIZE) - SQUASH_SIZE // 2 + 0.5) / 256
    return np.clip(np.floor(65536 / (1 + np.exp(logits)) + 0.5), 6, 65530).astype(np.uint16)


@functools.cache
def _kernels() -> ModuleType:
    with compiling("the context coder"):
        from escort_codec.coding import context_kernels
    return context_kernels


class Context(Coding):
    """Codes each pixel with a probability that depends on the pixels before it.

    The logit is the sum of one entry from each table of the prior, scaled by a gain, plus two biases; gain and biases
    adapt to the map. Eight pixels far from any edge cost one flag (spec section "Coding 2: context"). A later prior is
    another member of the registry with its own ``name`` and ``number``.
    """

    name = "context"
    number = 2
    prior = 1

    def prepare(self) -> None:
        """Reads the prior; compiles the kernels or loads them from the cache."""
        load_prior(self.prior)
        _kernels()

    def encode(self, edges: EdgeMap) -> bytes:
        """The coded bytes of ``edges``, bool (H, W): the only ones that ``decode`` accepts for this map."""
        pixels = (check_edges(edges).view(np.uint8) != 0).view(np.uint8)
        tables, kernels = load_prior(self.prior), _kernels()
        out = np.empty(pixels.size // 8 + 2 * pixels.shape[1] + 64, np.uint8)
        while (written := kernels.encode(pixels, tables, squash(), out)) == kernels.FULL:  # rare: longer than packed
            out = np.empty(2 * out.size, np.uint8)
        return out[:written].tobytes()

    def decode(self, data: bytes, shape: tuple[int, int]) -> EdgeMap:
        """The edge map. Raises CodingError for bytes that ``encode`` does not write."""
        check_shape(shape)
        check_data(data)
        tables, kernels = load_prior(self.prior), _kernels()
        pixels = np.zeros(shape, np.uint8)
        if kernels.decode(np.frombuffer(data, np.uint8), tables, squash(), pixels) != 0:
            raise CodingError(f"context-coded bytes are not the only form of a map of {shape[1]} x {shape[0]} pixels")
        return pixels.view(np.bool_)
