"""A file being written: locked against a second writer, written whole, synced, and put in place at the end."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from escort_codec.atomic import sync_folder
from escort_codec.errors import BusyError, OutputError

# Neither may a link that somebody planted lead the writing elsewhere, nor a FIFO hold it up.
_FLAGS = (
    os.O_RDWR
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
)


def partial_path(path: Path) -> Path:
    """Where a new file stands until it is whole: beside it, with ``.partial`` added."""
    return path.with_name(path.name + ".partial")


def find_target(path: str | os.PathLike[str]) -> tuple[Path, bool]:
    """(the file that writing to ``path`` ends in, whether it is there already).

    A symbolic link stands for the file that it names. Raises OutputError for what is no file, and where the folder
    is missing or the system refuses.
    """
    try:
        target = Path(path)
        if target.is_symlink():
            target = Path(os.path.realpath(target))
        if not target.name:
            raise OutputError(f"{path}: is not a file's name")
        if not target.absolute().parent.is_dir():
            raise OutputError(f"{target.absolute().parent}: there is no such folder")
        try:
            mode = target.stat().st_mode
        except FileNotFoundError:
            return target, False
        if not stat.S_ISREG(mode):
            raise OutputError(f"{target}: is a folder or a device: choose a file's name")
        return target, True
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else exc
        raise OutputError(f"{path}: cannot be written: {why}") from exc


class LockedFile:
    """One open file that only this process writes. Raises BusyError where another does, OutputError from the system.

    A forked child that inherits it can neither write nor unlock it.
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
            _lock(self._fd, path)
            # The other writer may have renamed or removed it between our opening and our lock.
            if not _is_at(status, path):
                raise BusyError(f"{path}: another process has just finished with it; try again")
        except BaseException:
            os.close(self._fd)
            raise

    def write(self, data: bytes) -> None:
        """Writes all of ``data`` where the last write ended; a short write goes on."""
        self._check_owner()
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
        self._check_owner()
        try:
            os.ftruncate(self._fd, length)
            os.lseek(self._fd, length, os.SEEK_SET)
        except OSError as exc:
            raise OutputError(f"{self.path}: cannot be written: {exc.strerror}") from exc

    def rename(self, target: Path) -> None:
        """Puts the file in the place of ``target`` in one step, and makes that durable."""
        self._check_owner()
        try:
            os.replace(self.path, target)  # noqa: PTH105 - says what it does
        except OSError as exc:
            raise OutputError(f"{target}: cannot be put in place: {exc.strerror}") from exc
        sync_folder(target.parent)

    def close(self, *, remove: bool = False) -> None:
        """Gives the lock back; with ``remove`` the file goes too. More than once does no harm."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if os.getpid() == self._owner:
            if remove:
                with contextlib.suppress(OSError):
                    self.path.unlink()
            _unlock(fd)  # not by closing alone: a forked child may hold the file open for long
        os.close(fd)

    @property
    def owned(self) -> bool:
        """Whether this process is the one that opened it."""
        return os.getpid() == self._owner

    def _check_owner(self) -> None:
        if not self.owned:
            raise OutputError(f"{self.path}: is written by the process that this one was forked from")


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file of ``data`` in the place of ``path``, where there may be one: it is the old one or the new one at
    any time, whatever happens. Raises OutputError, BusyError."""
    target, there = find_target(path)
    old = LockedFile(target, create=False) if there else None  # nobody may append to what will be replaced
    try:
        file = LockedFile(partial_path(target), create=True)
        try:
            file.truncate(0)
            file.write(data)
            file.sync()
            file.rename(target)
        except BaseException:
            file.close(remove=True)
            raise
        file.close()
    finally:
        if old is not None:
            old.close()


def _is_at(status: os.stat_result, path: Path) -> bool:
    try:
        return os.path.samestat(status, path.stat())
    except OSError:
        return False


def _lock(fd: int, path: Path) -> None:
    busy = BusyError(f"{path}: another process is writing it: wait for that, or choose another name")
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
        if exc.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise busy from exc
        raise OutputError(f"{path}: cannot be locked: {exc.strerror}") from exc


def _unlock(fd: int) -> None:
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_UN)
