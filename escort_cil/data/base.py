"""What stores of decoded images have in common: images by id, added, handed out in batches, and dropped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from numpy import uint8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from escort_cil.data.decoding import Source, decode_all
from escort_codec.recipe import Colour


class Room(Protocol):
    """Places of a store that are being filled. ``ids`` (N,), int64, are valid once they are."""

    ids: Tensor

    def put(self, i: int, picture: Image.Image) -> None:
        """Stores a picture (Pillow, mode RGB) as the i-th. Raises OutputError if the file cannot take it."""


class Store(ABC):
    """Images by id, in memory and in a temporary file; ``background`` is the colour under transparent pixels."""

    background: Colour

    @abstractmethod
    def room(self, count: int) -> AbstractContextManager[Room]:
        """Room for ``count`` images, which the block puts into it, from any thread. If it raises none is kept.

        No other thread may use the store meanwhile: it would wait for ever. Raises OutputError if the file cannot take
        the images.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Images held now."""

    @abstractmethod
    def ids(self) -> Tensor:
        """The ids of the images held now, int64 (N,), rising."""

    @abstractmethod
    def batch(
        self, ids: Tensor, *, part: slice | None = None, pin_memory: bool = False
    ) -> tuple[Tensor | list[NDArray[uint8]], Tensor]:
        """The pixels of the images ``ids``, int64 (B,), and their aspect ratios w/h, float32 (B,).

        With ``part`` the pixels are only those of ``ids[part]``: a process's share of the batch. ``pin_memory`` puts a
        tensor where a GPU can fetch it while the CPU works on. Raises IndexError for an id that is unknown or was
        dropped.
        """

    @abstractmethod
    def drop(self, ids: Tensor) -> None:
        """Forgets images and frees their memory. Raises IndexError for an id that is unknown or was dropped."""

    @abstractmethod
    def close(self) -> None:
        """Frees memory and file; the store is empty after it."""

    @property
    @abstractmethod
    def memory_bytes(self) -> int:
        """Bytes of pixels in memory: at most ``cache_bytes``."""

    @property
    @abstractmethod
    def disk_bytes(self) -> int:
        """Bytes of pixels in the file."""

    def add(
        self, images: Sequence[Source], *, names: Sequence[str] | None = None, workers: int | None = None
    ) -> Tensor:
        """Decodes images in ``workers`` threads (None: one per core) and stores them; returns their ids, int64 (N,).

        ``names`` are for messages about images that are not files. If one image is bad none is stored: raises
        ImageError naming the first, and OutputError if the file cannot take them.
        """
        with self.room(len(images)) as room:
            decode_all(images, room.put, names=names, workers=workers, background=self.background)
        return room.ids
