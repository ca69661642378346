"""A failing disk for the tests: a process is killed inside a write, writes are short, the disk is full.

Use it in a forked child: the system calls stay patched.
"""

from __future__ import annotations

import errno
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_REAL = {name: getattr(os, name) for name in ("write", "fsync", "ftruncate", "replace")}


@dataclass
class Disk:
    """The system calls that change files, with a fault after ``points`` points.

    A write of n bytes has n points, one after each byte; every other call has two points, before and after it.
    """

    points: int = 1 << 60
    full: bool = False
    """After the last point comes ENOSPC instead of SIGKILL, for this and all later writes."""
    short: random.Random | None = None
    """Each write takes only a random part of the data."""
    spent: int = 0

    def install(self) -> None:
        """Patches this process's system calls."""
        os.write = self._write
        for name in ("fsync", "ftruncate", "replace"):
            setattr(os, name, self._call(name))

    def _end(self) -> None:
        if not self.full:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _write(self, fd: int, data: Any) -> int:
        data = memoryview(data)
        if self.short is not None:
            data = data[: self.short.randint(1, len(data))]
        left = self.points - self.spent
        if len(data) > left:
            done = _REAL["write"](fd, data[:left]) if left > 0 else 0
            self.spent = self.points
            if not self.full or not done:
                self._end()
            return int(done)
        self.spent += len(data)
        return int(_REAL["write"](fd, data))

    def _call(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self.full:  # a full disk still cuts, renames and syncs what is there
                return _REAL[name](*args, **options)
            for after in (False, True):
                if self.spent >= self.points:
                    self._end()
                self.spent += 1
                if not after:
                    result = _REAL[name](*args, **options)
            return result

        return call


def count_points(work: Callable[[], None], report: Path) -> None:
    """Runs ``work`` on a disk that does not fail and writes its number of points into ``report``."""
    disk = Disk()
    disk.install()
    work()
    spent = disk.spent
    report.write_text(str(spent))
