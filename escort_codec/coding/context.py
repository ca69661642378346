"""Coding 2, ``context``: a trained prior, adaptation inside the map, and a binary range coder."""

from __future__ import annotations

import functools
import lzma
from dataclasses import dataclass
from importlib.resources import files
from types import ModuleType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from escort_codec.coding.base import Coding, EdgeMap, check_data, check_edges, check_shape
from escort_codec.compiling import compiling
from escort_codec.errors import CodingError, EscortError

Segment = tuple[int, int, int]
"""(row, left, right): the pixels x + left .. x + right of the row ``row`` above the current one."""

WINDOWS: Final[tuple[tuple[Segment, ...], ...]] = (
    ((2, -2, 2), (1, -3, 3), (0, -4, -1)),
    ((3, -2, 2), (2, -2, 2), (1, -1, 2), (0, -2, -1)),
    ((2, 0, 5), (1, -1, 6), (0, -2, -1)),
    ((2, -5, -1), (1, -4, 1), (0, -5, -1)),
    ((5, -1, 1), (4, -2, 2), (3, -1, 1), (1, -1, 1), (0, -2, -1)),
)
"""The static contexts, 16 pixels each. A context is a binary number; its first pixel is the highest bit."""

BIASES: Final[tuple[tuple[Segment, ...], ...]] = (
    ((2, -2, 2), (1, -2, 2), (0, -2, -1)),
    ((2, 0, 0), (1, -1, 1), (0, -2, -1)),
)
"""The contexts of the biases that follow the one map: 12 and 6 pixels."""

RING: Final = 8  # rows above that are kept: five are seen
REACH: Final = 8  # columns to either side, at most: -7 .. 8

QUIET: Final = 4  # R: columns to either side, rows above and zeros before that are without an edge
BLOCK: Final = 8  # pixels of a quiet block

BLOCK_START: Final = 64500  # the probability, in 1/65536, that such a block has no edge
BLOCK_MOST: Final = 65472
BLOCK_SHIFT: Final = 6

STEP: Final = 16  # steps of a table's entry in one unit of the logit
SQUASH_SHIFT: Final = 8  # from a logit in 1/65536 to a place in the squash table: 1/256
SQUASH_SIZE: Final = 6144  # logits from -12 to 12

WIDE_RATE: Final = 3  # of the two biases, in 2^-RATE_SHIFT
NARROW_RATE: Final = 2
RATE_SHIFT: Final = 6

GAIN_SHIFT: Final = 8  # static * gain >> GAIN_SHIFT is a logit in 1/65536
GAIN_START: Final = 65536 * (1 << GAIN_SHIFT) // STEP
GAIN_LEAST: Final = GAIN_START // 4
GAIN_MOST: Final = GAIN_START * 4
GAIN_RATE_SHIFT: Final = 9


def window_size(window: tuple[Segment, ...]) -> int:
    """Pixels of a window."""
    return sum(right - left + 1 for _, left, right in window)


def here(window: tuple[Segment, ...]) -> int:
    """The mask of a context's bits that stand for pixels of the current row: its lowest ones."""
    return sum(1 << i for i in range(sum(right - left + 1 for row, left, right in window if row == 0)))


FILES = {1: "prior-1.xz"}
"""Prior number -> file beside this module. A number's bytes never change (their hash stands in spec/prior.md)."""

ENTRIES = 1 << 16


@dataclass(frozen=True, slots=True)
class Prior:
    """``tables``: int8 (windows, 65536), logits of an edge in 1/16, by context. ``number`` is the prior's name."""

    number: int
    tables: NDArray[np.int8]


@functools.cache
def load_prior(number: int) -> Prior:
    """The prior of that number; raises EscortError where the installed file is not a prior."""
    name = FILES[number]
    try:
        tables = unpack_prior(files("escort_codec.coding").joinpath(name).read_bytes())
    except (OSError, lzma.LZMAError, ValueError) as exc:
        raise EscortError(f"the installed file {name} is missing or damaged: install escort again ({exc})") from exc
    return Prior(number, tables)


def pack_prior(tables: NDArray[np.int8]) -> bytes:
    """A prior's file: the tables one after another, one byte an entry, as an ``.xz`` stream."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 0}]
    return lzma.compress(np.ascontiguousarray(tables).tobytes(), check=lzma.CHECK_CRC32, filters=filters)


def unpack_prior(data: bytes) -> NDArray[np.int8]:
    """The inverse of ``pack_prior``; raises ValueError or LZMAError."""
    return np.frombuffer(lzma.decompress(data), np.int8).reshape(len(WINDOWS), ENTRIES)


@functools.cache
def squash() -> NDArray[np.uint16]:
    """P0, the probability of no edge in 1/65536, by logit: entry i is that of (i - 3072 + 1/2) / 256, within 6..65530.

    Rounded half up. No value is within 10^-4 of a half, so that any double precision exp gives the same integers.
    """
    logits = (np.arange(SQUASH_SIZE) - SQUASH_SIZE // 2 + 0.5) / 256
    return np.clip(np.floor(65536 / (1 + np.exp(logits)) + 0.5), 6, 65530).astype(np.uint16)


@functools.cache
def _kernels() -> ModuleType:
    with compiling("the context coder"):
        from escort_codec.coding import context_kernels
    return context_kernels


class Context(Coding):
    """Each pixel is coded with a probability that is made of the pixels before it.

    The logit is the sum of one entry of each of the prior's tables, scaled by a gain, and of two biases; the gain and
    the biases follow the one map. Eight pixels far from any edge cost one flag (spec section "Coding 2: context").
    A later prior is another member of the registry with its own ``name`` and ``number``.
    """

    name = "context"
    number = 2
    prior = 1

    def prepare(self) -> None:
        """Reads the prior, and compiles the kernels or loads them from the cache."""
        load_prior(self.prior)
        _kernels()

    def encode(self, edges: EdgeMap) -> bytes:
        """The bits of ``edges``, bool (H, W): the only bytes that ``decode`` takes for this map."""
        pixels = (check_edges(edges).view(np.uint8) != 0).view(np.uint8)
        tables, kernels = load_prior(self.prior).tables, _kernels()
        out = np.empty(pixels.size // 8 + 2 * pixels.shape[1] + 64, np.uint8)
        while (written := kernels.encode(pixels, tables, squash(), out)) == kernels.FULL:  # rare: longer than packed
            out = np.empty(2 * out.size, np.uint8)
        return out[:written].tobytes()

    def decode(self, data: bytes, shape: tuple[int, int]) -> EdgeMap:
        """The map of ``shape``; raises CodingError for bits that ``encode`` does not write."""
        check_shape(shape)
        check_data(data)
        tables, kernels = load_prior(self.prior).tables, _kernels()
        pixels = np.zeros(shape, np.uint8)
        if kernels.decode(np.frombuffer(data, np.uint8), tables, squash(), pixels) != 0:
            raise CodingError(f"context-coded bits are no map of {shape[1]} x {shape[0]} pixels, or not its only form")
        return pixels.view(np.bool_)
