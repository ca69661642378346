"""The base of stores of decoded images, which add images, give them out in batches by id, and drop them."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy import uint8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from escort_cil.data.decoding import Source, decode_all
from escort_codec.errors import OutputError
from escort_codec.recipe import Colour


class Room:
    """Room for N images of a store. The ``ids`` (N,), int64, are valid once the room is filled.

    ``fit`` turns a picture into the pixels to store and the aspect ratio w/h; ``keep`` stores the i-th pixels.
    """

    def __init__(
        self,
        ids: Tensor,
        fit: Callable[[Image.Image], tuple[NDArray[uint8], float]],
        keep: Callable[[int, NDArray[uint8]], None],
    ) -> None:
        self.ids = ids
        self.aspects = np.ones(len(ids), np.float32)
        self._fit = fit
        self._keep = keep

    def put(self, i: int, picture: Image.Image) -> None:
        """Stores a picture (Pillow, mode RGB) as the i-th. Raises OutputError if the file cannot take it."""
        pixels, self.aspects[i] = self._fit(picture)
        self._keep(i, pixels)


class Store(ABC):
    """Images by id, in memory and in a temporary file; ``background`` is the colour under transparent pixels."""

    background: Colour

    @abstractmethod
    def room(self, count: int) -> AbstractContextManager[Room]:
        """Room for ``count`` images, which the block fills from any thread. If the block raises, none is kept.

        No other thread may use the store in the meantime: it would wait for ever. Raises OutputError if the file cannot
        take the images.
        """

    @abstractmethod
    def __len__(self) -> int:
        """The number of images in the store."""

    @abstractmethod
    def ids(self) -> Tensor:
        """The ids of the images in the store, int64 (N,), ascending."""

    @abstractmethod
    def batch(
        self, ids: Tensor, *, part: slice | None = None, pin_memory: bool = False
    ) -> tuple[Tensor | list[NDArray[uint8]], Tensor]:
        """The pixels of the images ``ids``, int64 (B,), and their aspect ratios w/h, float32 (B,).

        With ``part`` the pixels are only those of ``ids[part]``: a process's share of the batch. ``pin_memory`` puts a
        tensor into pinned memory, which a GPU can read while the CPU continues. Raises IndexError for an id that is
        unknown or was dropped.
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


def temporary_file(folder: Path | None) -> BinaryIO:
    """A new unbuffered file in ``folder`` (None: the system's temporary folder); it is gone once closed. Raises
    OSError.

    On POSIX it has no name, so that a killed process leaves nothing behind.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(buffering=0, prefix="images-", dir=folder)


def cache_error(folder: Path | None, reason: str | None) -> OutputError:
    """The error if decoded images cannot be kept in ``folder``."""
    where = folder or tempfile.gettempdir()
    return OutputError(f"{where}: decoded images cannot be kept there ({reason}); give more `cache_memory`")
