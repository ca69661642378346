"""Reading an ``.escx`` file: any exemplar in one seek."""

from __future__ import annotations

import operator
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, SupportsIndex, overload

from escort_codec.container.block import Block
from escort_codec.container.layout import BLOCK
from escort_codec.container.state import Loss, state_of
from escort_codec.errors import DamagedError, EscortError
from escort_codec.exemplar import Exemplar, Recipe

_CACHE_BYTES = 32 << 20


class Reader(Sequence[Exemplar]):
    """The exemplars of a file, by number, by name, by class; edge maps are decoded when asked for.

    ``reader[5]``, ``reader["cat/001.jpg"]``, ``reader.of_label("cat")``, iteration. Safe to share between threads and
    forked processes (positioned reads only) and to pickle into spawned ones. A block's checksum is verified whenever
    it is read; at most 32 MiB of blocks are kept, or one block where that is larger.

    Raises NotEscxError, VersionError, IncompleteError, DamagedError. With ``recover``, a file without its end or with
    damage opens all the same: what whole blocks hold is there, and ``losses`` says what is not. ``file`` and
    ``state`` are for the container's own modules.
    """

    def __init__(self, path: str | PathLike[str], *, recover: bool = False) -> None:
        self.path = Path(path)
        self._recover = recover
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, Block] = OrderedDict()
        self.file, state, losses = state_of(self.path, recover=recover)
        self.state = state
        self._index = state.index
        self.losses: tuple[Loss, ...] = tuple(losses)
        self.recipes: tuple[Recipe, ...] = tuple(state.recipes)

    @property
    def source(self) -> str:
        """The data folder that ``escort encode`` was given, as it was typed; ``""`` where there was none."""
        return self.state.source

    @property
    def writer(self) -> str:
        """The program and version that began the file."""
        return self.state.writer

    @property
    def size(self) -> int:
        """The file's size on disk in bytes."""
        return self.file.size

    @property
    def labels(self) -> dict[str, int]:
        """Exemplars of each class, in the order of first appearance."""
        return self._index.label_counts()

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds that any exemplar records, rising."""
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
        """The number of the exemplar ``label/name``; raises KeyError."""
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
        """The numbers of a class's exemplars, rising; empty for a class that the file does not hold."""
        wanted = self._index.labels.get(label)
        found: list[int] = []
        for number, members in enumerate(self._index.members):
            if wanted in members:
                block = self.block(number)
                start = self._index.starts[number]
                found += [start + i for i, v in enumerate(block.label.tolist()) if block.labels[v] == label]
        return found

    def blocks(self) -> Iterator[Block]:
        """The blocks in the file's order."""
        return (self.block(number) for number in range(len(self._index.offsets)))

    def block(self, number: int) -> Block:
        """Block ``number``, from memory or the file; checked against its checksum and the index."""
        with self._lock:
            if number in self._cache:
                self._cache.move_to_end(number)
                return self._cache[number]
        offset = self._index.offsets[number]
        head = self.file.head(offset)
        if head.type != BLOCK or head.length != self._index.lengths[number]:
            raise DamagedError("the block is not what the index says of it", chunk=head.name, offset=offset)
        block = Block(self.file.payload(head), head, self.recipes)
        self._index.check_block(number, block, head)
        with self._lock:
            self._cache[number] = block
            kept = sum(len(b.payload) for b in self._cache.values())
            while kept > _CACHE_BYTES and len(self._cache) > 1:
                kept -= len(self._cache.popitem(last=False)[1].payload)
        return block

    def close(self) -> None:
        """Closes the file; more than once does no harm."""
        self.file.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self.path.absolute()), self._recover, self.size)

    def __repr__(self) -> str:
        return f"<Reader of {str(self.path)!r}: {len(self)} exemplars in {len(self._index.labels)} classes>"


def _reopen(path: str, recover: bool, size: int) -> Reader:
    reader = Reader(path, recover=recover)
    if reader.size < size:
        raise EscortError(f"{path}: the file was replaced by a shorter one since the reader was pickled")
    return reader
