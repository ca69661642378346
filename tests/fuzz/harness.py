"""What the fuzz harnesses share: limits of the process, and the way into atheris."""

from __future__ import annotations

import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

HEADROOM = 512 << 20
"""Additional bytes of address space for an input: several times what the caps allow."""
TIMEOUT = "-timeout=20"  # seconds for one input; a machine under load included


def limited(test: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """``test`` with a limit: more memory than the caps allow is a MemoryError, which counts as a crash.

    The limit holds for the test alone: what the fuzzer itself keeps grows without end.
    """
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]

    def run(data: bytes) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + HEADROOM, hard))
        try:
            test(data)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))

    return run


def fuzz(test: Callable[[bytes], None], mutate: Callable[[bytes, int, int], bytes] | None = None) -> None:
    """Hands the command line and ``test`` to atheris (libFuzzer); does not return."""
    warnings.simplefilter("error")
    arguments = list(sys.argv)
    if not any(a.startswith("-timeout=") for a in arguments):
        arguments.insert(1, TIMEOUT)
    if mutate is None:
        atheris.Setup(arguments, limited(test))
    else:
        atheris.Setup(arguments, limited(test), custom_mutator=mutate)
    atheris.Fuzz()
