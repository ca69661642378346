"""Atomic writing: a file is written under a temporary name in the same folder, synced, and renamed.

The temporary name is ``.escort-<machine>-<process>-<random>.partial``. The random part separates threads, processes and
containers that share a folder. With machine and process ``remove_leftovers`` can tell a file that is being written from
one that a killed process left; for processes of other machines and containers it goes by the file's age.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final

from escort_codec.errors import OutputError

PARTIAL: Final = re.compile(r"\.escort-([0-9a-f]{8})-(\d+)-[0-9a-f]{16}\.partial")
STALE: Final = 60.0
"""Seconds without a change after which a partial file is abandoned."""

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@contextmanager
def replacing(path: Path, before_rename: Callable[[], None] | None = None) -> Iterator[BinaryIO]:
    """A binary file to write; when the block ends it replaces ``path``.

    At any time ``path`` is either the old or the new file, complete and on the disk. ``before_rename`` is called when
    the bytes are on the disk. If anything fails, the old file stays and the new one is removed. Raises OutputError if
    the system refuses; exceptions of the block and of ``before_rename`` pass through.
    """
    with _descriptor(path, before_rename) as descriptor, os.fdopen(descriptor, "wb", closefd=False) as file:
        yield file


def write_file(path: Path, data: bytes, before_rename: Callable[[], None] | None = None) -> None:
    """Writes ``data`` as the whole file ``path``, as ``replacing`` does. Raises OutputError."""
    with _descriptor(path, before_rename) as descriptor:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]


@contextmanager
def _descriptor(path: Path, before_rename: Callable[[], None] | None) -> Iterator[int]:
    """The descriptor of a new file that takes the place of ``path`` when the block ends."""
    partial = path.with_name(partial_name())
    try:
        descriptor = os.open(partial, _FLAGS, 0o666)
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written: {exc.strerror or exc}") from exc
    try:
        try:
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if before_rename is not None:
            before_rename()
        os.replace(partial, path)  # noqa: PTH105 - the clearer name
        sync_folder(path.parent)
    except BaseException as exc:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(exc, OSError):
            raise OutputError(f"{path}: cannot be written: {exc.strerror or exc}") from exc
        raise


def sync_folder(folder: Path) -> None:
    """Makes a rename in ``folder`` durable, if the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Removes the partial files that killed processes left in ``folder`` and the folders in it."""
    for parent, _, names in os.walk(folder):
        for name in names:
            match = PARTIAL.fullmatch(name)
            if match:
                path = Path(parent) / name
                with contextlib.suppress(OSError):
                    died = match[1] == _machine() and not _runs(int(match[2]))
                    if died or time.time() - path.lstat().st_mtime > STALE:
                        path.unlink()


def partial_name() -> str:
    """A new temporary name of this process."""
    return f".escort-{_machine()}-{os.getpid()}-{secrets.token_hex(8)}.partial"


@cache
def _machine() -> str:
    """Eight hexadecimal digits for this machine or container: the scope of process numbers."""
    space = ""
    with contextlib.suppress(OSError):  # Linux
        space = str(Path("/proc/self/ns/pid").readlink())
    return f"{zlib.crc32(f'{platform.node()} {space}'.encode()):08x}"


def _runs(process: int) -> bool:
    """Whether a process of that number runs on this machine; True if unknown."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
