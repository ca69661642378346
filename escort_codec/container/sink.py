"""A file being written: locked against a second writer, written whole, synced, and put in place at the end."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from escort_codec.errors import BusyError, OutputError

_FLAGS = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def partial_path(path: Path) -> Path:
    """Where a new file stands until it is whole: beside it, with ``.partial`` added."""
    return path.with_name(path.name + ".partial")


def sync_folder(folder: Path) -> None:
    """Makes a rename in ``folder`` durable, where the system can."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class LockedFile:
    """One open file that only this process writes. Raises BusyError where another does, OutputError from the system."""

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        try:
            self._fd = os.open(path, _FLAGS | (os.O_CREAT if create else 0), 0o666)
        except OSError as exc:
            raise OutputError(f"{path}: cannot be written: {exc.strerror}") from exc
        try:
            _lock(self._fd, path)
            # The other writer may have renamed or removed it between our opening and our lock.
            if not path.exists() or not os.path.samestat(os.fstat(self._fd), path.stat()):
                raise BusyError(f"{path}: another process has just finished with it; try again")
        except BaseException:
            os.close(self._fd)
            raise

    def write(self, data: bytes) -> None:
        """Writes all of ``data`` where the last write ended; a short write goes on."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as exc:
            raise OutputError(f"{self.path}: cannot be written: {exc.strerror}") from exc

    def sync(self) -> None:
        """Until this returns, a power cut may take what was written."""
        try:
            os.fsync(self._fd)
        except OSError as exc:
            raise OutputError(f"{self.path}: cannot be written: {exc.strerror}") from exc

    def truncate(self, length: int) -> None:
        """Cuts the file to ``length`` bytes and goes on there."""
        try:
            os.ftruncate(self._fd, length)
            os.lseek(self._fd, length, os.SEEK_SET)
        except OSError as exc:
            raise OutputError(f"{self.path}: cannot be written: {exc.strerror}") from exc

    def rename(self, target: Path) -> None:
        """Puts the file in the place of ``target`` in one step, and makes that durable."""
        try:
            os.replace(self.path, target)  # noqa: PTH105 - says what it does
        except OSError as exc:
            raise OutputError(f"{target}: cannot be put in place: {exc.strerror}") from exc
        sync_folder(target.parent)

    def close(self, *, remove: bool = False) -> None:
        """Gives the lock back; with ``remove`` the file goes too. More than once does no harm."""
        if self._fd < 0:
            return
        if remove:
            with contextlib.suppress(OSError):
                self.path.unlink()
        os.close(self._fd)
        self._fd = -1


def _lock(fd: int, path: Path) -> None:
    busy = BusyError(f"{path}: another process is writing it")
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            # A byte far beyond any data: Windows locks keep others from reading what they cover.
            os.lseek(fd, 1 << 62, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
            os.lseek(fd, 0, os.SEEK_SET)
        except OSError as exc:
            raise busy from exc
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        raise busy from exc
