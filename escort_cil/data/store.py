"""Decoded images as uint8 squares, given out in batches.

An image is kept as a square of ``side`` pixels, planar (3, side, side): the whole image squashed into it, or
(``short_side``) what the network sees in evaluation: shorter side resized to ``short_side``, centre cropped to
``side``.
Pictures that are cropped at random keep their shape and size: see ``escort_cil.data.pictures``.

Images are stored densely in slots: the first ``cache_bytes // image_bytes`` slots in memory, the others in one
temporary file that is memory-mapped. Dropping images closes the gaps, so that memory and file shrink, and what was in
the file moves to memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from escort_cil.augment import Transform
from escort_cil.data.base import Room, Store, cache_error, temporary_file
from escort_cil.data.decoding import Square
from escort_codec.recipe import WHITE, Colour


class ImageStore(Store):
    """Squares of one size by id.

    Args:
        side, short_side: the square that each image is kept as (``decoding.Square``).
        cache_bytes: bytes of pixels kept in memory; None keeps all of them there.
        folder: where the file with the rest is created; None means the system's temporary folder. The file has no name
            once it is open (POSIX), so that a killed process leaves nothing behind.
        background: the colour under transparent pixels.

    All methods may be called from several threads. Ids count up from 0 and are never reused.
    """

    def __init__(
        self,
        side: int,
        *,
        short_side: int | None = None,
        cache_bytes: int | None = None,
        folder: Path | None = None,
        background: Colour = WHITE,
    ) -> None:
        self._square = Square(side, short_side)
        self.background = background
        if cache_bytes is not None and cache_bytes < 0:
            raise ValueError(f"cache_bytes is {cache_bytes}; it must not be negative")
        self.side = side
        self.image_bytes = 3 * side * side
        self._memory_slots = None if cache_bytes is None else cache_bytes // self.image_bytes
        self._folder = folder
        self._lock = threading.RLock()
        self._file_lock = threading.Lock()
        self._memory = np.empty((0, 3, side, side), np.uint8)
        self._file: BinaryIO | None = None
        self._mapped: NDArray[np.uint8] | None = None
        self._slots: NDArray[np.int64] = np.empty(0, np.int64)  # by id; -1 is dropped
        self._owners: NDArray[np.int64] = np.empty(0, np.int64)  # by slot: the id
        self._aspects: NDArray[np.float32] = np.empty(0, np.float32)  # by id

    @classmethod
    def for_evaluation(
        cls, transform: Transform, *, cache_bytes: int | None = None, folder: Path | None = None
    ) -> ImageStore:
        """An empty store for images that ``normalise`` will read: they are as the network sees them."""
        return cls(
            transform.size,
            short_side=transform.short_side,
            cache_bytes=cache_bytes,
            folder=folder,
            background=transform.background,
        )

    def __len__(self) -> int:
        """The number of images in the store."""
        return len(self._owners)

    def ids(self) -> Tensor:
        """The ids of the images in the store, int64 (N,), ascending."""
        with self._lock:
            return torch.from_numpy(np.sort(self._owners))

    @property
    def memory_bytes(self) -> int:
        """Bytes of pixels in memory: at most ``cache_bytes``."""
        return self._memory.nbytes

    @property
    def disk_bytes(self) -> int:
        """Bytes of pixels in the memory-mapped file."""
        return 0 if self._mapped is None else self._mapped.nbytes

    @contextmanager
    def room(self, count: int) -> Iterator[Room]:
        """See the base class."""
        with self._lock:
            held, first = len(self), len(self._slots)
            self._resize(held + count)
            ids = torch.arange(first, first + count)
            room = Room(ids, self._square.of, lambda i, pixels: self._put(held + i, pixels))
            try:
                yield room
            except BaseException:
                self._resize(held)
                raise
            self._slots = np.concatenate([self._slots, np.arange(held, held + count)])
            self._owners = np.concatenate([self._owners, np.arange(first, first + count)])
            self._aspects = np.concatenate([self._aspects, room.aspects])

    def batch(self, ids: Tensor, *, part: slice | None = None, pin_memory: bool = False) -> tuple[Tensor, Tensor]:
        """See the base class: uint8 (B, 3, side, side). A centre-cropped image's aspect ratio is 1."""
        wanted = ids.cpu().numpy()
        mine = wanted if part is None else wanted[part]
        pixels = torch.empty((len(mine), 3, self.side, self.side), dtype=torch.uint8, pin_memory=pin_memory)
        with self._lock:
            slots = self._slots_of(wanted)
            self._gather(slots if part is None else slots[part], pixels.numpy())
            return pixels, torch.from_numpy(self._aspects[wanted])

    def drop(self, ids: Tensor) -> None:
        """Forgets images and frees their memory. Raises IndexError for an id that is unknown or was dropped."""
        with self._lock:
            dropped = np.unique(ids.cpu().numpy())
            slots = self._slots_of(dropped)
            kept = len(self) - len(slots)
            keeps = np.ones(len(self), bool)
            keeps[slots] = False
            # Past the new end there are as many live slots as gaps before it.
            movers, gaps = kept + np.flatnonzero(keeps[kept:]), np.flatnonzero(~keeps[:kept])
            step = max(1, (16 << 20) // self.image_bytes)
            for i in range(0, len(gaps), step):
                pixels = np.empty((len(gaps[i : i + step]), 3, self.side, self.side), np.uint8)
                self._gather(movers[i : i + step], pixels)
                for slot, image in zip(gaps[i : i + step], pixels, strict=True):
                    self._put(int(slot), image)
            self._owners[gaps] = self._owners[movers]
            self._slots[self._owners[gaps]] = gaps
            self._slots[dropped] = -1
            self._owners = self._owners[:kept].copy()
            self._resize(kept)

    def close(self) -> None:
        """Frees memory and file; the store is empty after it."""
        with self._lock:
            self._slots[:] = -1
            self._owners = self._owners[:0].copy()
            self._resize(0)

    def _slots_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        bad = (ids < 0) | (ids >= len(self._slots))
        if not bad.any():
            slots = self._slots[ids]
            bad = slots < 0
        if bad.any():
            raise IndexError(f"image {ids[bad][0]} is not in the store: it was dropped or never added")
        return slots

    def _gather(self, slots: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Copies the images of ``slots`` (n,) to ``out`` (n, 3, side, side)."""
        in_memory = slots < len(self._memory)
        if in_memory.all():
            # mode="clip" lets numpy write straight into out; the slots are valid.
            np.take(self._memory, slots, axis=0, out=out, mode="clip")
            return
        assert self._mapped is not None
        out[in_memory] = self._memory[slots[in_memory]]
        out[~in_memory] = self._mapped[slots[~in_memory] - len(self._memory)]

    def _put(self, slot: int, image: NDArray[np.uint8]) -> None:
        """Stores one planar image. Raises OutputError if the file cannot take it."""
        if slot < len(self._memory):
            self._memory[slot] = image
            return
        # Written, not assigned through the map: a full disk is then an error and not a SIGBUS.
        with self._file_lock:
            assert self._file is not None
            try:
                self._file.seek((slot - len(self._memory)) * self.image_bytes)
                self._file.write(image.tobytes())
            except OSError as exc:
                raise cache_error(self._folder, exc.strerror) from exc

    def _resize(self, count: int) -> None:
        """Makes room for exactly ``count`` images: memory first, then the file."""
        in_memory = count if self._memory_slots is None else min(count, self._memory_slots)
        on_disk = count - in_memory
        shape = (3, self.side, self.side)
        if on_disk == 0:
            self._mapped = None
            if self._file is not None:
                self._file.close()
                self._file = None
        elif self._mapped is None or on_disk != len(self._mapped):
            try:
                if self._file is None:
                    self._file = temporary_file(self._folder)
                # The old map stays until there is a new one; nobody reads beyond the new end.
                self._file.truncate(on_disk * self.image_bytes)
                self._mapped = np.memmap(self._file, np.uint8, "r", shape=(on_disk, *shape))
            except OSError as exc:
                raise cache_error(self._folder, exc.strerror) from exc
        if in_memory != len(self._memory):
            # In place (realloc), so that no second copy is ever needed. No view of it outlives the lock.
            self._memory.resize((in_memory, *shape), refcheck=False)
