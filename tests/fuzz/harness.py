"""What the fuzz harnesses share: limits of the process, and the way into atheris."""

from __future__ import annotations

import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

HEADROOM = 512 << 20
"""Bytes of address space beyond what the process has after its imports: several times what the caps allow."""
TIMEOUT = "-timeout=20"  # seconds for one input; a machine under load included


def limit_memory() -> None:
    """From now on more memory than the caps allow is a MemoryError, which is a crash."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    top = pages * resource.getpagesize() + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (top, top))


def fuzz(test: Callable[[bytes], None], mutate: Callable[[bytes, int, int], bytes] | None = None) -> None:
    """Hands the command line and ``test`` to atheris (libFuzzer); does not return."""
    warnings.simplefilter("error")
    arguments = list(sys.argv)
    if not any(a.startswith("-timeout=") for a in arguments):
        arguments.insert(1, TIMEOUT)
    if mutate is None:
        atheris.Setup(arguments, test)
    else:
        atheris.Setup(arguments, test, custom_mutator=mutate)
    limit_memory()
    atheris.Fuzz()
