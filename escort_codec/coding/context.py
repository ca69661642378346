"""Coding 2, ``context``: a trained prior, adaptation inside the map, and a binary range coder."""

from __future__ import annotations

import functools
from types import ModuleType

import numpy as np

from escort_codec.coding.base import Coding, EdgeMap, check_data, check_edges, check_shape
from escort_codec.coding.prior import load, squash
from escort_codec.compiling import compiling
from escort_codec.errors import CodingError


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
        load(self.prior)
        _kernels()

    def encode(self, edges: EdgeMap) -> bytes:
        """The bits of ``edges``, bool (H, W): the only bytes that ``decode`` takes for this map."""
        pixels = (check_edges(edges).view(np.uint8) != 0).view(np.uint8)
        tables, kernels = load(self.prior).tables, _kernels()
        out = np.empty(pixels.size // 8 + 2 * pixels.shape[1] + 64, np.uint8)
        while (written := kernels.encode(pixels, tables, squash(), out)) == kernels.FULL:  # rare: longer than packed
            out = np.empty(2 * out.size, np.uint8)
        return out[:written].tobytes()

    def decode(self, data: bytes, shape: tuple[int, int]) -> EdgeMap:
        """The map of ``shape``; raises CodingError for bits that ``encode`` does not write."""
        check_shape(shape)
        check_data(data)
        tables, kernels = load(self.prior).tables, _kernels()
        pixels = np.zeros(shape, np.uint8)
        if kernels.decode(np.frombuffer(data, np.uint8), tables, squash(), pixels) != 0:
            raise CodingError(f"context-coded bits are no map of {shape[1]} x {shape[0]} pixels, or not its only form")
        return pixels.view(np.bool_)
