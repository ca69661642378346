"""Several ``.escx`` files read as one: a folder or a pattern such as ``parts-*.escx``, on disk or in a store.

The parts stay as they are. Those whose key ranges (``label/name``) do not overlap are in the order of their keys, as
``merge`` would write them; others in the order of their names.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, Final

from escort_codec.container.block import Block
from escort_codec.container.file import FileHead, FileState
from escort_codec.container.index import Index
from escort_codec.container.layout import ChunkHead
from escort_codec.container.reader import CACHE_BYTES, Cache, Reader
from escort_codec.container.rows import Rows
from escort_codec.errors import EscortError, NotEscxError, UsageError
from escort_codec.recipe import Recipe
from escort_codec.store.ranges import BLOCK
from escort_codec.store.urls import Place, Url, connect, exists, place, store_errors
from escort_codec.words import counted

OPEN: Final = 64
"""The most parts that are open at once: systems allow a process about a thousand open files."""

_ENDING: Final = ".escx"
_PATTERN: Final = frozenset("*?[")


def open_memory(path: str | PathLike[str], *, recover: bool = False) -> Reader:
    """Opens an ``.escx`` file, or several as one: the parts in a folder, or those that a pattern names.

    Raises what ``Reader`` raises, and UsageError for an exemplar that two parts have.
    """
    here = place(path)
    parts = parts_of(here)
    if len(parts) == 1:
        return Reader(parts[0], recover=recover)
    if recover:
        raise UsageError(f"{here}: stands for {len(parts)} files: open them one by one to recover them")
    return ShardedReader(parts, here)


def parts_of(path: str | PathLike[str]) -> list[Place]:
    """The files that ``path`` stands for, sorted by name: itself, those in a folder, or those of a pattern.

    Raises NotEscxError if a folder or pattern has none; StoreError.
    """
    here = place(path)
    found: list[Place] | None
    if isinstance(here, Url):
        found = _in_store(here)
    elif here.is_dir():
        found = _visible(here.iterdir())
    elif _PATTERN.intersection(here.name) and not exists(here):
        folder = here.parent
        found = _visible(folder.glob(here.name)) if folder.is_dir() else []
    else:
        return [here]
    if found is None:
        return [here]
    if not found:
        raise NotEscxError(f"{here}: holds no {_ENDING} files" if _is_folder(here) else f"{here}: no file matches")
    return found


def is_there(path: str | PathLike[str]) -> bool:
    """Whether ``open_memory`` finds a file for ``path``. Raises StoreError."""
    try:
        return all(exists(part) for part in parts_of(path))
    except NotEscxError:
        return False


def _is_folder(path: Place) -> bool:
    return not path.has_pattern if isinstance(path, Url) else path.is_dir()


def _visible(paths: Iterable[Path]) -> list[Place]:
    found = sorted(p for p in paths if p.suffix.lower() == _ENDING and not p.name.startswith(".") and p.is_file())
    return list[Place](found)


def _in_store(url: Url) -> list[Place] | None:
    """The parts that a pattern or a folder (it ends with a slash) stands for; None for a single file."""
    raw = os.fspath(url)
    fs, name = connect(url)
    fs.invalidate_cache()  # of listings: another process may have written
    if not url.has_pattern and not raw.endswith("/"):
        return None
    with store_errors(url, "listed"):
        names = fs.glob(name) if url.has_pattern else fs.ls(name, detail=False)
        urls = sorted(str(fs.unstrip_protocol(each)) for each in names)
    return [Url(each) for each in urls if Url(each).suffix.lower() == _ENDING]


class ShardedReader(Reader):
    """Many files as one ``Reader``: ``path`` is what was opened, ``parts`` the files.

    Blocks and exemplars are numbered through all parts; at most ``OPEN`` files are open at once.
    """

    def __init__(self, parts: Sequence[Place], path: Place) -> None:
        self._prepare(path)
        self._open: Cache[_OpenPart] = Cache(OPEN)
        found, disjoint = by_key([read_part(part) for part in parts])
        self.parts: tuple[Place, ...] = tuple(part.place for part in found)
        self._where: list[tuple[int, int]] = []  # by block: its part, and its number in there
        for number, part in enumerate(found):
            self._where += ((number, block) for block in range(len(part.index.offsets)))
            _extend(self._index, part.index)
        self._found = tuple((part.size, part.fingerprint) for part in found)
        self._version = max(part.version for part in found)
        heads = zip(*((part.head.source, part.head.writer, part.head.background) for part in found), strict=True)
        head = FileHead(*(texts[0] if len(set(texts)) == 1 else "" for texts in heads))
        self.recipes: tuple[Recipe, ...] = tuple(dict.fromkeys(recipe for part in found for recipe in part.recipes))
        self.state: FileState = FileState(head, list(self.recipes), self._index, self.size)
        if not disjoint:
            self._check_keys()

    def _check_keys(self) -> None:
        """Raises UsageError if two parts have an exemplar of the same name."""
        seen: dict[int, int] = {}
        for (part, _), rows in zip(self._where, self.tables(), strict=True):
            for key, name in zip(rows.all_keys(), rows.names, strict=True) if rows.named else ():
                if name and seen.setdefault(hash(key), part) != part:
                    both = f"{self.parts[seen[hash(key)]]} and {self.parts[part]}"
                    raise UsageError(f"{self.path}: {key} is in {both}: leave one of them out")

    def _part(self, number: int) -> Reader:
        """The reader of a part, opened if needed; it closes when nothing refers to it any more."""
        if (held := self._cached(self._open, number)) is not None:
            return held.reader
        size, fingerprint = self._found[number]
        reader = Reader(self.parts[number], size=size)
        if reader.file.fingerprint() != fingerprint:
            raise EscortError(f"{reader.path}: was replaced by another file since it was opened")
        reader._keep_little(max(BLOCK, CACHE_BYTES // min(OPEN, len(self.parts))))
        self._keep(self._open, number, _OpenPart(reader))
        return reader

    @property
    def version(self) -> str:
        """The highest version of the format that a part has."""
        return self._version

    @property
    def size(self) -> int:
        """The bytes of all parts."""
        return sum(size for size, _ in self._found)

    def block(self, number: int) -> Block:
        """Block ``number`` of all parts' blocks, checked as in its own file."""
        if (block := self._cached(self._blocks, number)) is not None:
            return block
        part, own = self._where[number]
        block = self._part(part).block(own)
        self._keep(self._blocks, number, block)
        return block

    def table(self, number: int) -> Rows:
        """The table of block ``number``."""
        if (rows := self._cached(self._tables, number)) is not None:
            return rows
        part, own = self._where[number]
        rows = self._part(part).table(own)
        self._keep(self._tables, number, rows)
        return rows

    def front(self, number: int) -> tuple[bytes, ChunkHead]:
        """See ``Reader.front``; the head's offset is the one in the part."""
        part, own = self._where[number]
        return self._part(part).front(own)

    def close(self) -> None:
        """Closes the parts."""
        with self._guard():
            self._open.clear()
            self._blocks.clear()
            self._tables.clear()

    def __reduce__(self) -> tuple[Any, ...]:
        parts = [os.fspath(part.absolute() if isinstance(part, Path) else part) for part in self.parts]
        return _reopen, (parts, os.fspath(self.path), self._found)

    def __repr__(self) -> str:
        labels = counted(len(self._index.labels), "class")
        return f"<Reader of {str(self.path)!r}: {len(self)} exemplars in {labels}, {len(self.parts)} files>"


@dataclass(frozen=True, slots=True)
class _OpenPart:
    reader: Reader
    memory: int = 1


@dataclass(frozen=True, slots=True)
class FilePart:
    """What is known of a file without its blocks. ``keys`` is its smallest and largest key, "" if it is empty."""

    place: Place
    index: Index
    head: FileHead
    recipes: tuple[Recipe, ...]
    version: str
    size: int
    fingerprint: int

    @property
    def keys(self) -> tuple[str, str]:
        """The smallest and the largest key."""
        return min(self.index.low, default=""), max(self.index.high, default="")


def read_part(place: Path | Url) -> FilePart:
    """Opens a file and closes it again. Raises what ``Reader`` raises."""
    with Reader(place) as reader:
        state, fingerprint = reader.state, reader.file.fingerprint()
        return FilePart(place, state.index, state.head, reader.recipes, reader.version, reader.size, fingerprint)


def by_key(parts: Sequence[FilePart]) -> tuple[list[FilePart], bool]:
    """The parts sorted by key if their key ranges are disjoint, empty ones first, else as given; and whether they
    are."""
    ordered = sorted(parts, key=lambda part: part.keys)
    disjoint = all(one.keys[1] < other.keys[0] for one, other in pairwise(part for part in ordered if part.keys[0]))
    return (ordered if disjoint else list(parts)), disjoint


def _extend(index: Index, part: Index) -> None:
    """Adds the blocks of ``part`` to ``index``; the offsets stay those of the part's file."""
    numbers = [index.labels.setdefault(label, len(index.labels)) for label in part.labels]
    index.offsets += part.offsets
    index.lengths += part.lengths
    index.tables += part.tables
    index.hints += part.hints
    index.counts += part.counts
    index.low += part.low
    index.high += part.high
    index.seeds |= part.seeds
    start = index.starts[-1]
    index.starts += (start + more for more in part.starts[1:])
    for members in part.members:
        index.members.append(array("I", [numbers[v] if i % 2 == 0 else v for i, v in enumerate(members)]))


def _reopen(parts: list[str], path: str, found: tuple[tuple[int, int], ...]) -> ShardedReader:
    reader = ShardedReader([place(part) for part in parts], place(path))
    if reader._found != found:
        raise EscortError(f"{reader.path}: a part was replaced by another file since the reader was pickled")
    return reader
