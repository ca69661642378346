"""What a coding is: one edge map into bits and back, and the registry of the codings."""

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

    ``number`` is its name on the wire and never changes (spec section "Codings"). A coding keeps no state
    between maps, adds no header (the shape stands in the block's table), and is safe to share between threads.
    """

    name: ClassVar[str]
    number: ClassVar[int]

    def prepare(self) -> None:
        """Compiles what the coding needs, or loads it from the cache: once, before workers are started."""

    @abstractmethod
    def encode(self, edges: EdgeMap) -> bytes:
        """The bits of ``edges``, bool of shape (H, W), C-contiguous; any H and W, 0 included."""

    def encode_within(self, edges: EdgeMap, limit: int) -> bytes | None:
        """``encode``'s bits where they are at most ``limit`` bytes, else None: a coding may find that out sooner."""
        bits = self.encode(edges)
        return bits if len(bits) <= limit else None

    @abstractmethod
    def decode(self, data: bytes, shape: tuple[int, int]) -> EdgeMap:
        """The edge map of ``shape`` (H, W) that ``encode`` made ``data`` of.

        Raises CodingError where ``data`` cannot come from ``encode``; never reads outside ``data`` and never
        takes more memory than the map's pixels.
        """


def check_shape(shape: tuple[int, int]) -> None:
    """Raises CodingError where (H, W) is not within the caps; called before memory is taken."""
    height, width = shape
    if not (0 <= height <= MAX_SIDE and 0 <= width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise CodingError(f"an edge map of {width} x {height} pixels is beyond the cap of {MAX_PIXELS} pixels")


def check_edges(edges: EdgeMap) -> EdgeMap:
    """``edges`` as a C-contiguous bool array (H, W) within the caps; raises CodingError for anything else."""
    if edges.ndim != 2 or edges.dtype != np.bool_:
        raise CodingError(f"an edge map is a bool array (H, W), not {edges.dtype} of shape {tuple(edges.shape)}")
    check_shape((edges.shape[0], edges.shape[1]))
    return np.ascontiguousarray(edges)


def check_data(data: bytes) -> None:
    """Raises CodingError where the coded bytes are more than a payload may have."""
    if len(data) > MAX_PAYLOAD:
        raise CodingError(f"{len(data)} coded bytes are beyond the cap of {MAX_PAYLOAD}")


codings: Registry[Coding] = Registry("coding")
