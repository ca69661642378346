"""Files of the output tree: written whole or not at all, and never through a symbolic link."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from escort_codec.errors import OutputError

PARTIAL: Final = re.compile(r"\.escort-(\d+)-\d+\.partial")
STALE: Final = 60.0
"""Seconds after which a file that is being written has been left behind: writing one takes far less."""

_numbers = itertools.count()


def write_beside(path: Path, data: bytes, before_rename: Callable[[], None] | None = None) -> None:
    """Writes a file under another name, flushes it to the disk and renames it; raises OSError.

    ``before_rename`` is called when the bytes are safe. Whatever fails, nothing is left and an older file stays.
    """
    partial = path.with_name(f".escort-{os.getpid()}-{next(_numbers)}.partial")
    try:
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if before_rename:
            before_rename()
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def make_folder(out: Path, folder: str) -> Path:
    """``out/folder``, made where it is missing; raises OutputError where a part of it is a link or a file."""
    path = out
    for part in folder.split("/"):
        path = path / part
        refuse_link(path)
        try:
            path.mkdir(exist_ok=True)
        except FileExistsError as exc:
            raise OutputError(f"{path} is a file where a folder belongs: remove it or choose another folder") from exc
    return path


def refuse_link(path: Path) -> None:
    """Raises OutputError where ``path`` is a symbolic link: what is written must stay inside the folder."""
    if path.is_symlink():
        raise OutputError(f"{path} is a symbolic link: remove it or choose another folder")


def sweep(out: Path) -> None:
    """Removes what killed processes left half-written in ``out`` and the folders in it."""
    for folder, _, names in os.walk(out):
        for name in names:
            match = PARTIAL.fullmatch(name)
            if match:
                path = Path(folder) / name
                with contextlib.suppress(OSError):
                    if not _runs(int(match[1])) or time.time() - path.lstat().st_mtime > STALE:
                        path.unlink()


def _runs(process: int) -> bool:
    """Whether a process of that number runs on this machine; True where that cannot be known."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
