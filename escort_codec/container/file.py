"""Reading chunks at offsets: positioned reads, so that threads and forked processes can share one open file."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from escort_codec.container.layout import FRAME, PREAMBLE, ChunkHead, check_chunk, check_preamble, read_chunk_head
from escort_codec.errors import EscortError, IncompleteError, NotEscxError


class ChunkFile:
    """A file of chunks, open for reading. Offsets and sizes are bytes.

    Reads are clamped to the file's size before memory is taken. Raises EscortError where the system refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        except OSError as exc:
            raise EscortError(f"{path}: cannot be opened: {exc.strerror}") from exc
        self._lock = threading.Lock()
        try:
            self.size = os.lseek(self._fd, 0, os.SEEK_END)
            if os.path.isdir(path):  # noqa: PTH112 - some systems open folders
                raise NotEscxError("a folder, not an .escx file")
            check_preamble(self.read(0, len(PREAMBLE)))
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
            raise EscortError(f"{self.path}: cannot be read: {exc.strerror}") from exc
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

    def close(self) -> None:
        """Closes the file; more than once does no harm."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
