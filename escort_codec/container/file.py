"""An open file of chunks; reads its trailer, index, head and recipes.

All reads are positioned, so threads and forked processes can share one open file.
"""

from __future__ import annotations

import os
import stat
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, Final

from escort_codec.container.block import FRONT
from escort_codec.container.index import Index
from escort_codec.container.layout import (
    FRAME,
    HEAD,
    INDEX,
    PREAMBLE,
    RECIPE,
    TAIL_SIZE,
    WRONG_SUM,
    ChunkHead,
    check_chunk,
    check_preamble,
    read_chunk_head,
    read_tail,
    unpack_msgpack,
)
from escort_codec.errors import DamagedError, EscortError, FormatError, IncompleteError, LimitError, NotEscxError
from escort_codec.limits import MAX_HEAD, MAX_RECIPE, MAX_RECIPES, MAX_SOURCE, recipe_fault, text_fault
from escort_codec.recipe import Recipe
from escort_codec.store.ranges import RangeFile
from escort_codec.store.urls import Place, Url

# Opening a FIFO must not block.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)

_WINDOW = 1 << 20


@contextmanager
def naming(path: Place) -> Iterator[None]:
    """Adds the path of the file to a FormatError that has none yet."""
    try:
        yield
    except FormatError as exc:
        exc.path = exc.path or str(path)
        raise


class ChunkFile:
    """A file of chunks, open for reading: a path, or a URL that is read by ranges. Offsets and sizes are bytes.

    Reads end at the size that the file had when it was opened, or at the smaller ``size``: later appends stay
    invisible. Raises EscortError if the system or the store refuses, NotEscxError for a folder or a device, and the
    errors of ``check_preamble``.
    """

    def __init__(self, path: Place, size: int | None = None) -> None:
        self.path = path
        self._fd = -1
        self._lock = threading.Lock()
        self._ranges = RangeFile(path) if isinstance(path, Url) else None
        try:
            self.size: int = self._open() if self._ranges is None else self._ranges.size
            if size is not None:
                if size > self.size:
                    raise EscortError(f"{path}: has {self.size} bytes, but had {size}: it was replaced or cut off")
                self.size = size
            self.minor: int = check_preamble(self.read(0, len(PREAMBLE)))
        except BaseException:
            self.close()
            raise

    def _open(self) -> int:
        """Opens the path; the size of the file."""
        try:
            self._fd = os.open(self.path, _FLAGS)
        except (OSError, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else exc
            raise EscortError(f"{self.path}: cannot be opened: {why}") from exc
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            raise NotEscxError("a folder or a device, not an .escx file")
        return status.st_size

    def keep_less(self, size: int) -> None:
        """Limits the cache of a file in a store to ``size`` bytes, for one of many open files."""
        if self._ranges is not None:
            self._ranges.limit = size

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``, fewer only at the end of the file."""
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        try:
            data = self._read_once(offset, length)
            while data and len(data) < length:  # a read may be short
                more = self._read_once(offset + len(data), length - len(data))
                if not more:
                    break
                data += more
        except OSError as exc:
            why = exc.strerror if self._fd >= 0 else "the reader was closed"
            raise EscortError(f"{self.path}: cannot be read: {why}") from exc
        return data

    def _read_once(self, offset: int, length: int) -> bytes:
        if self._ranges is not None:
            return self._ranges.read(offset, length)
        if hasattr(os, "pread"):
            return os.pread(self._fd, length, offset)
        with self._lock:
            os.lseek(self._fd, offset, os.SEEK_SET)
            return os.read(self._fd, length)

    def head(self, offset: int) -> ChunkHead:
        """The head of the chunk at ``offset``. Raises FormatError if there is none, or it ends beyond the file."""
        head = read_chunk_head(self.read(offset, 8), offset)
        if head.end > self.size:
            raise IncompleteError("the file ends inside the chunk", chunk=head.name, offset=offset)
        return head

    def payload(self, head: ChunkHead) -> bytes:
        """The payload of the chunk, its checksum verified. Raises DamagedError, IncompleteError."""
        return check_chunk(head, self.read(head.offset, head.length + FRAME))

    def check(self, head: ChunkHead) -> None:
        """Verifies the checksum of a chunk in little memory, however long the chunk is."""
        crc, at, end = 0, head.offset, head.end - 4
        while at < end:
            data = self.read(at, min(_WINDOW, end - at))
            if not data:
                raise IncompleteError("the file ends inside the chunk", chunk=head.name, offset=head.offset)
            crc, at = zlib.crc32(data, crc), at + len(data)
        if self.read(end, 4) != crc.to_bytes(4, "little"):
            raise DamagedError(WRONG_SUM, chunk=head.name, offset=head.offset)

    def chunk(self, offset: int, length: int) -> tuple[ChunkHead, bytes]:
        """(head, payload) of the chunk at ``offset``, in one read. Raises DamagedError for another ``length``."""
        data = self.read(offset, length + FRAME)
        head = _indexed_head(data, offset, length)
        return head, check_chunk(head, data)

    def front(self, offset: int, length: int, table: int) -> tuple[ChunkHead, bytes]:
        """(head, first bytes of the payload with the table) of the block at ``offset``, without the chunk's checksum.

        Raises DamagedError for another ``length`` of the payload; the table has a checksum of its own.
        """
        data = self.read(offset, 8 + FRONT + table)
        return _indexed_head(data, offset, length), data[8:]

    def fingerprint(self) -> int:
        """A number that distinguishes files of the same size: the CRC of the index's checksum and the trailer."""
        return zlib.crc32(self.read(self.size - TAIL_SIZE - 4, TAIL_SIZE + 4))

    def close(self) -> None:
        """Closes the file. Closing again is harmless."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        if self._ranges is not None:
            self._ranges.close()


def _indexed_head(data: bytes, offset: int, length: int) -> ChunkHead:
    """The head at the beginning of a chunk. Raises DamagedError unless its length is that of the index."""
    head = read_chunk_head(data[:8], offset)
    if head.length != length:
        raise DamagedError(f"has {head.length} bytes, not {length} as the index says", chunk=head.name, offset=offset)
    return head


LOST_RECIPE: Final = Recipe(extra=(("recovered", "the recipe was lost"),))


@dataclass(frozen=True, slots=True)
class FileHead:
    """The contents of the head (spec section "Head"); "" for what it does not have."""

    source: str = ""
    writer: str = ""
    background: str = ""


@dataclass(slots=True)
class FileState:
    """What a reader or an appending writer knows of a file.

    ``end`` is the byte after the last chunk that an append keeps. ``index_offset`` is where the index begins, or -1.
    A lost recipe is ``LOST_RECIPE``.
    """

    head: FileHead = field(default_factory=FileHead)
    recipes: list[Recipe] = field(default_factory=list)
    index: Index = field(default_factory=Index)
    end: int = len(PREAMBLE)
    index_offset: int = -1


def read_head(payload: bytes, head: ChunkHead) -> FileHead:
    """The HEAD chunk. Skips keys of later minor versions. Raises DamagedError."""
    if len(payload) > MAX_HEAD:
        raise DamagedError(f"the head is above the cap of {MAX_HEAD} bytes", chunk=head.name, offset=head.offset)
    values = unpack_msgpack(payload, head)
    if not isinstance(values, dict):
        raise DamagedError("the head is not a map", chunk=head.name, offset=head.offset)
    texts = {each.name: values.get(each.name, "") for each in fields(FileHead)}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise DamagedError(f"the {name} in the head is not a text", chunk=head.name, offset=head.offset)
        if fault := text_fault(name, text, MAX_SOURCE):
            raise DamagedError(fault, chunk=head.name, offset=head.offset)
    return FileHead(**texts)


def read_recipe(payload: bytes, head: ChunkHead) -> tuple[int, Recipe]:
    """(number, recipe) of a RECP chunk. Skips keys of later minor versions. Raises DamagedError."""
    if len(payload) > MAX_RECIPE:
        raise DamagedError(f"a recipe is above the cap of {MAX_RECIPE} bytes", chunk=head.name, offset=head.offset)
    value: Any = unpack_msgpack(payload, head)
    if (
        not isinstance(value, list)
        or len(value) != 2
        or type(value[0]) is not int
        or not 0 <= value[0] < MAX_RECIPES
        or not isinstance(value[1], dict)
    ):
        raise DamagedError("a recipe is not a number and a map", chunk=head.name, offset=head.offset)
    try:
        known = {k: v for k, v in value[1].items() if k in Recipe.__dataclass_fields__}
        if fault := recipe_fault(known):
            raise LimitError(fault)
        return value[0], Recipe.from_map(known)
    except EscortError as exc:
        raise DamagedError(f"a recipe is wrong: {exc}", chunk=head.name, offset=head.offset) from exc


def read_index(file: ChunkFile) -> tuple[Index, int]:
    """The index that the trailer names, and its offset.

    Raises IncompleteError if the trailer is missing, DamagedError for any contradiction.
    """
    at = file.size - TAIL_SIZE
    index_offset, length = read_tail(file.read(max(at, 0), TAIL_SIZE), at)
    if length != file.size:
        raise DamagedError(f"the file has {file.size} bytes, but was closed with {length}", chunk="TAIL", offset=at)
    if not len(PREAMBLE) <= index_offset < at:
        raise DamagedError(f"the index cannot begin at byte {index_offset}", chunk="TAIL", offset=at)
    head = file.head(index_offset)
    if head.type != INDEX or head.end != at:
        raise DamagedError("the trailer does not follow the index that it names", chunk="TAIL", offset=at)
    return Index.unpack(file.payload(head), head), index_offset


def read_first(file: ChunkFile) -> FileHead:
    """The head from the first chunk of the file. Raises FormatError if it is not a head."""
    head = file.head(len(PREAMBLE))
    if head.type != HEAD:
        raise DamagedError("the first chunk is not the head", chunk=head.name, offset=head.offset)
    if head.length > MAX_HEAD:
        raise DamagedError(f"the head is above the cap of {MAX_HEAD} bytes", chunk=head.name, offset=head.offset)
    return read_head(file.payload(head), head)


def read_numbered_recipe(file: ChunkFile, index: Index, number: int) -> Recipe:
    """The recipe that the index calls ``number``. Raises FormatError."""
    offset = index.recipes[number]
    head, payload = file.chunk(offset, index.recipe_lengths[number])
    if head.type != RECIPE:
        raise DamagedError("the index names this chunk as a recipe", chunk=head.name, offset=offset)
    found, recipe = read_recipe(payload, head)
    if found != number:
        raise DamagedError(f"recipe {found} stands where {number} should", chunk=head.name, offset=offset)
    return recipe


def read_state(file: ChunkFile) -> FileState:
    """The state according to trailer and index: a few reads for a file of any size. Raises FormatError."""
    index, index_offset = read_index(file)
    state = FileState(index=index, end=file.size, index_offset=index_offset)
    state.head = read_first(file)
    state.recipes = [read_numbered_recipe(file, index, number) for number in range(len(index.recipes))]
    return state
