"""A file that one writer has locked: it can be written, synced, truncated and renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from escort_codec.atomic import sync_folder
from escort_codec.errors import BusyError, OutputError

# A planted link must not redirect the writing, and a FIFO must not block it.
_FLAGS = (
    os.O_RDWR
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
)


def partial_path(path: Path) -> Path:
    """Where a new file is written until it is whole: ``<name>.partial`` beside it."""
    return path.with_name(path.name + ".partial")


def find_target(path: str | os.PathLike[str]) -> tuple[Path, bool]:
    """(the file to write for ``path``, whether it exists): for a symbolic link, the file that it names.

    Raises OutputError if it is not a plain file, the folder is missing, or the system refuses.
    """
    try:
        target = Path(path)
        if target.is_symlink():
            target = Path(os.path.realpath(target))
        if not target.name:
            raise OutputError(f"{path}: is not a file name")
        if not target.absolute().parent.is_dir():
            raise OutputError(f"{target.absolute().parent}: there is no such folder")
        try:
            mode = target.stat().st_mode
        except FileNotFoundError:
            return target, False
        if not stat.S_ISREG(mode):
            raise OutputError(f"{target}: is a folder or a device: choose a file name")
        return target, True
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else exc
        raise OutputError(f"{path}: cannot be written: {why}") from exc


class LockedFile:
    """An open file that only this process may write. A forked child can neither write nor unlock it.

    Raises BusyError if another process has locked it, OutputError if the system refuses.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        self._owner = os.getpid()
        try:
            self._fd = os.open(path, _FLAGS | (os.O_CREAT if create else 0), 0o666)
        except OSError as exc:
            raise OutputError(f"{path}: cannot be written: {exc.strerror}") from exc
        try:
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode):
                raise OutputError(f"{path}: is a folder or a device: remove it, or choose another name")
            lock(self._fd, path)
            # Another writer may have renamed or removed it between opening and locking.
            if not _is_at(status, path):
                raise BusyError(f"{path}: another process has just finished writing it; try again")
        except BaseException:
            os.close(self._fd)
            raise

    def write(self, data: bytes) -> None:
        """Appends all of ``data`` to the last write; continues after a short write."""
        self._check_owner()
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as exc:
            raise OutputError(f"{self.path}: cannot be written: {exc.strerror}") from exc

    def sync(self) -> None:
        """Waits until everything written is on the disk."""
        try:
            os.fsync(self._fd)
        except OSError as exc:
            raise OutputError(f"{self.path}: cannot be written: {exc.strerror}") from exc

    def truncate(self, length: int) -> None:
        """Cuts the file to ``length`` bytes; the next write goes there."""
        self._check_owner()
        try:
            os.ftruncate(self._fd, length)
            os.lseek(self._fd, length, os.SEEK_SET)
        except OSError as exc:
            raise OutputError(f"{self.path}: cannot be written: {exc.strerror}") from exc

    def rename(self, target: Path) -> None:
        """Renames the file to ``target`` in one step, durably."""
        self._check_owner()
        try:
            os.replace(self.path, target)  # noqa: PTH105 - the clearer name
        except OSError as exc:
            raise OutputError(f"{target}: cannot be replaced: {exc.strerror}") from exc
        sync_folder(target.parent)

    def close(self, *, remove: bool = False) -> None:
        """Unlocks and closes the file; ``remove`` deletes it. Closing again is harmless."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if os.getpid() == self._owner:
            if remove:
                with contextlib.suppress(OSError):
                    self.path.unlink()
            _unlock(fd)  # closing is not enough: a forked child may hold the file open
        os.close(fd)

    @property
    def owned(self) -> bool:
        """Whether this process opened it."""
        return os.getpid() == self._owner

    def _check_owner(self) -> None:
        if not self.owned:
            raise OutputError(f"{self.path}: belongs to the parent of this process")


def _is_at(status: os.stat_result, path: Path) -> bool:
    try:
        return os.path.samestat(status, path.stat())
    except OSError:
        return False


def lock(fd: int, path: Path) -> None:
    """Locks an open file until it is closed. Raises BusyError if another process has, OutputError if that fails."""
    busy = BusyError(f"{path}: another process is writing it: wait, or choose another name")
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            # Windows locks also block reading, so lock a byte far beyond any data.
            os.lseek(fd, 1 << 62, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
            os.lseek(fd, 0, os.SEEK_SET)
        except OSError as exc:
            raise busy from exc
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise busy from exc
        raise OutputError(f"{path}: cannot be locked: {exc.strerror}") from exc


def _unlock(fd: int) -> None:
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_UN)
