"""Reading chunks at offsets: positioned reads, so that threads and forked processes can share one open file."""

from __future__ import annotations

import os
import stat
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from escort_codec.container.layout import (
    FRAME,
    PREAMBLE,
    TAIL_SIZE,
    WRONG_SUM,
    ChunkHead,
    check_chunk,
    check_preamble,
    read_chunk_head,
)
from escort_codec.errors import DamagedError, EscortError, FormatError, IncompleteError, NotEscxError

# A FIFO must not hold us up before we know that it is one.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)

_WINDOW = 1 << 20


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the file's path before the message of a FormatError that has none yet."""
    try:
        yield
    except FormatError as exc:
        exc.path = exc.path or str(path)
        raise


class ChunkFile:
    """A file of chunks, open for reading. Offsets and sizes are bytes.

    Reads are clamped to the file's size before memory is taken: the size when it was opened, or the smaller ``size``
    that is given, so that what others append is not seen. Raises EscortError where the system refuses, NotEscxError
    for what is no file, and what ``check_preamble`` raises.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        self.path = path
        try:
            self._fd = os.open(path, _FLAGS)
        except (OSError, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else exc
            raise EscortError(f"{path}: cannot be opened: {why}") from exc
        self._lock = threading.Lock()
        try:
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode):
                raise NotEscxError("a folder or a device, not an .escx file")
            self.size = status.st_size
            if size is not None:
                if size > self.size:
                    raise EscortError(f"{path}: has {self.size} bytes, but had {size}: it was replaced or cut off")
                self.size = size
            self.minor = check_preamble(self.read(0, len(PREAMBLE)))
        except BaseException:
            self.close()
            raise

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``: fewer only at the end of the file."""
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
        if hasattr(os, "pread"):
            return os.pread(self._fd, length, offset)
        with self._lock:
            os.lseek(self._fd, offset, os.SEEK_SET)
            return os.read(self._fd, length)

    def head(self, offset: int) -> ChunkHead:
        """The head of the chunk at ``offset``; raises FormatError where none can be, or it ends beyond the file."""
        head = read_chunk_head(self.read(offset, 8), offset)
        if head.end > self.size:
            raise IncompleteError("the file ends inside the chunk", chunk=head.name, offset=offset)
        return head

    def payload(self, head: ChunkHead) -> bytes:
        """The chunk's payload, its checksum verified; raises DamagedError or IncompleteError."""
        return check_chunk(head, self.read(head.offset, head.length + FRAME))

    def check(self, head: ChunkHead) -> None:
        """Verifies the checksum of a chunk whose payload is not wanted; takes little memory, however long it is."""
        crc, at, end = 0, head.offset, head.end - 4
        while at < end:
            data = self.read(at, min(_WINDOW, end - at))
            if not data:
                raise IncompleteError("the file ends inside the chunk", chunk=head.name, offset=head.offset)
            crc, at = zlib.crc32(data, crc), at + len(data)
        if self.read(end, 4) != crc.to_bytes(4, "little"):
            raise DamagedError(WRONG_SUM, chunk=head.name, offset=head.offset)

    def chunk(self, offset: int, length: int) -> tuple[ChunkHead, bytes]:
        """(head, payload) of the chunk at ``offset``, in one read; raises DamagedError where it has not ``length``."""
        data = self.read(offset, length + FRAME)
        head = read_chunk_head(data[:8], offset)
        if head.length != length:
            raise DamagedError(
                f"has {head.length} bytes, not {length} as the index says", chunk=head.name, offset=offset
            )
        return head, check_chunk(head, data)

    def fingerprint(self) -> int:
        """A number that another file of this size hardly has: of the index's checksum and the trailer."""
        return zlib.crc32(self.read(self.size - TAIL_SIZE - 4, TAIL_SIZE + 4))

    def close(self) -> None:
        """Closes the file; more than once does no harm."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
