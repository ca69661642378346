"""The base class of codings (an edge map to bytes and back) and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from escort_codec.errors import CodingError
from escort_codec.limits import MAX_PAYLOAD, MAX_PIXELS, MAX_SIDE
from escort_codec.registry import Registry

EdgeMap = NDArray[np.bool_]


class Coding(ABC):
    """One way to write an edge map.

    ``number`` identifies it in files and never changes (spec section "Codings"). A coding keeps no state between maps,
    adds no header (the table of the block has the shape), and is safe to share between threads.
    """

    name: ClassVar[str]
    number: ClassVar[int]

    def prepare(self) -> None:
        """Compiles the kernels or loads them from the cache. Call it once before workers start."""

    @abstractmethod
    def encode(self, edges: EdgeMap) -> bytes:
        """The coded bytes of an edge map, bool (H, W); H and W may be 0. Raises CodingError."""

    def encode_within(self, edges: EdgeMap, limit: int) -> bytes | None:
        """``encode``, or None if the result is longer than ``limit`` bytes; a coding may stop early."""
        data = self.encode(edges)
        return data if len(data) <= limit else None

    @abstractmethod
    def decode(self, data: bytes, shape: tuple[int, int]) -> EdgeMap:
        """The edge map, bool, of ``shape`` (H, W) whose coded bytes are ``data``.

        Raises CodingError for bytes that ``encode`` does not write. Never reads outside ``data``; needs no more memory
        than the pixels of the map.
        """


def check_shape(shape: tuple[int, int]) -> None:
    """Raises CodingError if (H, W) is above the caps. Called before memory is taken."""
    height, width = shape
    if not (0 <= height <= MAX_SIDE and 0 <= width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise CodingError(f"an edge map of {width} x {height} pixels is above the cap of {MAX_PIXELS} pixels")


def check_edges(edges: EdgeMap) -> EdgeMap:
    """``edges`` as a C-contiguous bool array (H, W) within the caps. Raises CodingError for anything else."""
    if edges.ndim != 2 or edges.dtype != np.bool_:
        raise CodingError(f"an edge map is a bool array (H, W), not {edges.dtype} of shape {tuple(edges.shape)}")
    check_shape((edges.shape[0], edges.shape[1]))
    return np.ascontiguousarray(edges)


def check_data(data: bytes) -> None:
    """Raises CodingError for more bytes than a payload may have."""
    if len(data) > MAX_PAYLOAD:
        raise CodingError(f"{len(data)} coded bytes are above the cap of {MAX_PAYLOAD}")


codings: Registry[Coding] = Registry("coding")
