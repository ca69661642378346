"""Reading an ``.escx`` file: any exemplar in one seek."""

from __future__ import annotations

import operator
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import closing
from os import PathLike
from pathlib import Path
from typing import Any, SupportsIndex, overload

from escort_codec.container.block import Block
from escort_codec.container.file import ChunkFile, naming, read_state
from escort_codec.container.layout import BLOCK, MAJOR
from escort_codec.container.salvage import Loss, salvage
from escort_codec.errors import DamagedError, EscortError
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import Recipe

_CACHE_BYTES = 32 << 20


class Reader(Sequence[Exemplar]):
    """The exemplars of a file, by number, by name, by class; edge maps are decoded on access.

    ``reader[5]``, ``reader["cat/001.jpg"]``, ``reader.of_label("cat")``, iteration. Safe to share between threads and
    forked processes, and to pickle into spawned ones. The checksum of a block is verified whenever it is read. The
    cache keeps about 32 MiB of blocks, but at least one. Later appends stay invisible.

    Raises NotEscxError, VersionError, IncompleteError, DamagedError. With ``recover``, an incomplete or damaged file
    opens too: the reader holds all whole blocks, and ``losses`` lists the rest. This reads the whole file. ``file`` and
    ``state`` are for the modules of the container.
    """

    def __init__(self, path: str | PathLike[str], *, recover: bool = False, size: int | None = None) -> None:
        """``size``: read the file as it was when it had this many bytes."""
        self.path = Path(path)
        self._recover = recover
        self._locks: dict[int, threading.Lock] = {}
        self._cache: OrderedDict[int, Block] = OrderedDict()
        losses: list[Loss] = []
        with naming(self.path):
            self.file = ChunkFile(self.path, size)
            try:
                self.state, losses = salvage(self.file) if recover else (read_state(self.file), losses)
            except BaseException:
                self.file.close()
                raise
        self._index = self.state.index
        self.losses: tuple[Loss, ...] = tuple(losses)
        self.recipes: tuple[Recipe, ...] = tuple(self.state.recipes)

    @property
    def source(self) -> str:
        """The data folder as the user typed it for ``escort encode``, or ``""``."""
        return self.state.source

    @property
    def writer(self) -> str:
        """The program and version that created the file."""
        return self.state.writer

    @property
    def version(self) -> str:
        """The version of the format that the file has, such as ``1.0``."""
        return f"{MAJOR}.{self.file.minor}"

    @property
    def size(self) -> int:
        """The size of the file in bytes when it was opened."""
        return self.file.size

    @property
    def labels(self) -> dict[str, int]:
        """Exemplars of each class, in the order of first appearance."""
        return self._index.label_counts()

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all exemplars, rising."""
        return tuple(sorted(self._index.seeds))

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, key: SupportsIndex | str) -> Exemplar: ...
    @overload
    def __getitem__(self, key: slice) -> list[Exemplar]: ...
    def __getitem__(self, key: SupportsIndex | str | slice) -> Exemplar | list[Exemplar]:
        if isinstance(key, slice):
            return [self[i] for i in range(*key.indices(len(self)))]
        if isinstance(key, str):
            return self[self.find(key)]
        number = operator.index(key)
        if number < 0:
            number += len(self)
        if not 0 <= number < len(self):
            raise IndexError(f"{self.path} holds {len(self)} exemplars; there is no number {operator.index(key)}")
        block, row = self._index.find(number)
        return self.block(block)[row]

    def __iter__(self) -> Iterator[Exemplar]:
        for block in self.blocks():
            yield from (block[row] for row in range(len(block)))

    def find(self, key: str) -> int:
        """The number of the exemplar ``label/name``. Raises KeyError."""
        for number, (low, high) in enumerate(zip(self._index.low, self._index.high, strict=True)):
            if low <= key <= high:
                block = self.block(number)
                for row in range(len(block)):
                    if block.key(row) == key:
                        return self._index.starts[number] + row
        raise KeyError(f"{self.path} holds no exemplar {key!r}")

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        try:
            self.find(key)
        except KeyError:
            return False
        return True

    def of_label(self, label: str) -> list[int]:
        """The numbers of the exemplars of a class, rising; empty for an unknown class."""
        found: list[int] = []
        for number in self._index.blocks_of(label):
            block = self.block(number)
            start = self._index.starts[number]
            found += [start + i for i, v in enumerate(block.label.tolist()) if block.labels[v] == label]
        return found

    def blocks(self) -> Iterator[Block]:
        """The blocks in file order."""
        return (self.block(number) for number in range(len(self._index.offsets)))

    def block(self, number: int) -> Block:
        """Block ``number``, from the cache or the file, checked against its checksum and the index."""
        with self._guard():
            if number in self._cache:
                self._cache.move_to_end(number)
                return self._cache[number]
        offset, length = self._index.offsets[number], self._index.lengths[number]
        with naming(self.path):
            head, payload = self.file.chunk(offset, length)
            if head.type != BLOCK:
                raise DamagedError("the block is not what the index says", chunk=head.name, offset=offset)
            block = Block(payload, head, self.recipes)
            self._index.check_block(number, block, head)
        with self._guard():
            self._cache[number] = block
            kept = sum(b.memory for b in self._cache.values())
            while kept > _CACHE_BYTES and len(self._cache) > 1:
                kept -= self._cache.popitem(last=False)[1].memory
        return block

    def _guard(self) -> threading.Lock:
        """The lock of the cache: a new one in a forked child, because a thread may have held the parent's."""
        return self._locks.setdefault(os.getpid(), threading.Lock())  # atomic: all threads get the same one

    def close(self) -> None:
        """Closes the file. Closing again is harmless."""
        self.file.close()
        with self._guard():
            self._cache.clear()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self.path.absolute()), self._recover, self.size, self.file.fingerprint())

    def __repr__(self) -> str:
        return f"<Reader of {str(self.path)!r}: {len(self)} exemplars in {len(self._index.labels)} classes>"


def _reopen(path: str, recover: bool, size: int, fingerprint: int) -> Reader:
    with closing(ChunkFile(Path(path), size)) as file:
        if file.fingerprint() != fingerprint:
            raise EscortError(f"{path}: was replaced by another file since the reader was pickled")
    return Reader(path, recover=recover, size=size)
