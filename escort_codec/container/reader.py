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
from typing import Any, Generic, Protocol, SupportsIndex, TypeVar, overload

import numpy as np

from escort_codec.container.block import Block, read_rows
from escort_codec.container.file import ChunkFile, FileState, naming, read_state
from escort_codec.container.index import Index
from escort_codec.container.layout import BLOCK, MAJOR, ChunkHead
from escort_codec.container.rows import Rows
from escort_codec.container.salvage import Loss, salvage
from escort_codec.container.table import spread
from escort_codec.errors import DamagedError, EscortError
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import Recipe
from escort_codec.store.urls import Place, place

CACHE_BYTES = 64 << 20


class _HasMemory(Protocol):
    @property
    def memory(self) -> int: ...


Held = TypeVar("Held", bound=_HasMemory)


class Cache(Generic[Held]):
    """A cache of the most recently used objects: at most ``limit`` bytes together, but at least one object."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._held: OrderedDict[int, Held] = OrderedDict()

    def get(self, number: int) -> Held | None:
        """The object under ``number``, or None."""
        if number in self._held:
            self._held.move_to_end(number)
        return self._held.get(number)

    def put(self, number: int, held: Held) -> None:
        """Keeps ``held`` under ``number``; drops the least recently used."""
        if (before := self._held.pop(number, None)) is not None:
            self._bytes -= before.memory
        self._held[number] = held
        self._bytes += held.memory
        while self._bytes > self._limit and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1].memory

    def clear(self) -> None:
        """Forgets everything."""
        self._held.clear()
        self._bytes = 0


class Reader(Sequence[Exemplar]):
    """The exemplars of a file, by number, by name, by class; edge maps are decoded on access.

    ``reader[5]``, ``reader["cat/001.jpg"]``, ``reader.of_label("cat")``, iteration. Safe to share between threads and
    forked processes, and to pickle into spawned ones. The checksum of a block is verified whenever it is read. The
    cache keeps about 64 MiB of blocks, but at least one. Later appends stay invisible.

    Raises NotEscxError, VersionError, IncompleteError, DamagedError. With ``recover``, an incomplete or damaged file
    opens too: the reader holds all whole blocks, and ``losses`` lists the rest. This reads the whole file. ``file`` and
    ``state`` are for the modules of the container.
    """

    state: FileState

    def __init__(self, path: str | PathLike[str], *, recover: bool = False, size: int | None = None) -> None:
        """``size``: read the file as it was when it had this many bytes."""
        self._prepare(place(path))
        self._recover = recover
        losses: list[Loss] = []
        with naming(self.path):
            self.file: ChunkFile = ChunkFile(self.path, size)
            try:
                self.state, losses = salvage(self.file) if recover else (read_state(self.file), losses)
            except BaseException:
                self.file.close()
                raise
        self._index = self.state.index
        self.losses: tuple[Loss, ...] = tuple(losses)
        self.recipes: tuple[Recipe, ...] = tuple(self.state.recipes)

    def _prepare(self, path: Place) -> None:
        """Sets the attributes of every reader, before a file is opened."""
        self.path = path
        self.parts: tuple[Place, ...] = (path,)
        self.state = FileState()
        self._index = Index()
        self.losses = ()
        self.recipes = ()
        self._locks: dict[int, threading.Lock] = {}
        self._blocks: Cache[Block] = Cache(CACHE_BYTES)
        self._tables: Cache[Rows] = Cache(CACHE_BYTES // 4)

    def _keep_little(self, size: int) -> None:
        """Limits the cache to one block, and to ``size`` bytes of a file in a store, for one of many readers."""
        self._blocks, self._tables = Cache(0), Cache(0)
        self.file.keep_less(size)

    @property
    def source(self) -> str:
        """The data folder as given to ``escort encode``, or ``""``."""
        return self.state.head.source

    @property
    def writer(self) -> str:
        """The program and version that created the file."""
        return self.state.head.writer

    @property
    def background(self) -> str:
        """The colour under transparent pixels of the source images, such as ``#ffffff``, or ``""``."""
        return self.state.head.background

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

    def __getitems__(self, numbers: Sequence[int]) -> list[Exemplar]:
        """The exemplars of these numbers, in this order; each block is read once. ``DataLoader`` calls it for
        batches."""
        found = {number: self[number] for number in sorted(set(numbers))}
        return [found[number] for number in numbers]

    def __iter__(self) -> Iterator[Exemplar]:
        for block in self.blocks():
            yield from (block[row] for row in range(len(block)))

    def find(self, key: str) -> int:
        """The number of the exemplar ``label/name``. Raises KeyError."""
        for number, (low, high) in enumerate(zip(self._index.low, self._index.high, strict=True)):
            if low <= key <= high:
                keys = self.table(number).all_keys()
                if key in keys:
                    return self._index.starts[number] + keys.index(key)
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
            start, rows = self._index.starts[number], self.table(number)
            which = np.flatnonzero(spread(rows.label, len(rows)) == rows.labels.index(label))
            found += (start + which).tolist()
        return found

    def blocks(self) -> Iterator[Block]:
        """The blocks in file order."""
        return (self.block(number) for number in range(len(self._index.offsets)))

    def tables(self) -> Iterator[Rows]:
        """The tables of the blocks in file order; reads no payloads."""
        return (self.table(number) for number in range(len(self._index.offsets)))

    def block(self, number: int) -> Block:
        """Block ``number``, from the cache or the file, checked against its checksum and the index."""
        if (block := self._cached(self._blocks, number)) is not None:
            return block
        offset, length = self._index.offsets[number], self._index.lengths[number]
        with naming(self.path):
            head, payload = self.file.chunk(offset, length)
            self._check_type(head)
            block = Block(payload, head, self.recipes, self._cached(self._tables, number))
            self._index.check_block(number, block.rows, head)
        self._keep(self._blocks, number, block)
        return block

    def table(self, number: int) -> Rows:
        """The table of block ``number``, from the cache or the file, checked against its checksum and the index."""
        if (rows := self._cached(self._tables, number)) is not None:
            return rows
        if (block := self._cached(self._blocks, number)) is not None:
            return block.rows
        with naming(self.path):
            data, head = self.front(number)
            rows = read_rows(data, head, self.recipes)
            self._index.check_block(number, rows, head)
        self._keep(self._tables, number, rows)
        return rows

    def front(self, number: int) -> tuple[bytes, ChunkHead]:
        """(first bytes of the payload of block ``number``, with its table; its chunk's head). Checks no checksum."""
        index = self._index
        head, data = self.file.front(index.offsets[number], index.lengths[number], index.tables[number])
        self._check_type(head)
        return data, head

    def _check_type(self, head: ChunkHead) -> None:
        if head.type != BLOCK:
            raise DamagedError("the block is not what the index says", chunk=head.name, offset=head.offset)

    def _cached(self, cache: Cache[Held], number: int) -> Held | None:
        with self._guard():
            return cache.get(number)

    def _keep(self, cache: Cache[Held], number: int, held: Held) -> None:
        with self._guard():
            cache.put(number, held)

    def _guard(self) -> threading.Lock:
        """The lock of the cache: a new one in a forked child, because a thread may have held the parent's."""
        return self._locks.setdefault(os.getpid(), threading.Lock())  # atomic: all threads get the same one

    def close(self) -> None:
        """Closes the file. Closing again is harmless."""
        self.file.close()
        with self._guard():
            self._blocks.clear()
            self._tables.clear()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()

    def __reduce__(self) -> tuple[Any, ...]:
        path = self.path.absolute() if isinstance(self.path, Path) else self.path
        return _reopen, (os.fspath(path), self._recover, self.size, self.file.fingerprint())

    def __repr__(self) -> str:
        return f"<Reader of {str(self.path)!r}: {len(self)} exemplars in {len(self._index.labels)} classes>"


def _reopen(path: str, recover: bool, size: int, fingerprint: int) -> Reader:
    with closing(ChunkFile(place(path), size)) as file:
        if file.fingerprint() != fingerprint:
            raise EscortError(f"{path}: was replaced by another file since the reader was pickled")
    return Reader(path, recover=recover, size=size)
