"""How many threads are worth starting."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """The cores that this process may run on: fewer than the machine has, under taskset or in a job's share of it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
