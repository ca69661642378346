"""What every result says of itself: the command, the day, the versions, the machine."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

LIBRARIES = ("numpy", "numba", "opencv-python-headless", "pillow", "torch")
PLACES = ("--work", "--out")


def about(**more: Any) -> dict[str, Any]:
    """The facts of this run; ``more`` is added."""
    versions = {name: importlib.metadata.version(name) for name in ("escort", *LIBRARIES)}
    return {
        "command": command(sys.argv),
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), **versions},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load at the start": round(os.getloadavg()[0], 1),
        **more,
    }


def command(words: list[str]) -> str:
    """The command as others would type it: data folders are DATA, other paths are their names, results are left out."""
    script, *options = words
    shown = ["python", f"benchmarks/{Path(script).name}"]
    i = 0
    while i < len(options):
        if options[i] in PLACES:
            i += 2
            continue
        path = Path(options[i])
        shown.append("DATA" if path.is_dir() else path.name if path.is_absolute() else options[i])
        i += 1
    return shlex.join(shown)
