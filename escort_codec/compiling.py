"""numba kernels: compiled once a machine, kept in numba's cache, and a wait that is said.

A module of kernels imports numba at its top and is itself imported only by the function that first needs it:

    def _kernels() -> ModuleType:
        with compiling("the run-length coder"):
            from escort_codec.coding import rle_kernels
        return rle_kernels

With explicit signatures the kernels are compiled, or loaded from the cache, while their module is imported; the import
lock lets one thread do it and the others wait.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

PATIENCE: Final = 1.0
"""Seconds that pass before a wait is worth a line. Loading from a warm cache takes a tenth of one."""


@contextmanager
def compiling(what: str) -> Iterator[None]:
    """Prints one line on stderr where the body takes longer than ``PATIENCE``: a first use that compiles ``what``.

    Imports numba before the clock starts, so that only compiling counts. Prints nothing where the cache is warm.
    """
    import numba  # noqa: F401  # loaded here, outside the time that is measured

    timer = threading.Timer(PATIENCE, _say, (what,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _say(what: str) -> None:
    print(f"compiling {what}: the first use on this machine takes some seconds", file=sys.stderr, flush=True)


def kernel(*signatures: Any, inline: bool = False) -> Callable[[Function], Function]:
    """Decorates a kernel: compiled for ``signatures`` at once, without the GIL, cached on disk.

    Without signatures the function is compiled into the kernels that call it (``inline``: before LLVM sees it), and
    has no cache of its own. numba caches beside the module or, where that folder is read-only, in the user's cache
    folder; where neither can be written, the kernel is compiled anew in every process.
    """
    import numba

    options: dict[str, Any] = {"nogil": True, "inline": "always" if inline else "never"}

    def decorate(function: Function) -> Function:
        if not signatures:
            return numba.njit(**options)(function)  # type: ignore[no-any-return]
        try:
            return numba.njit(list(signatures), cache=True, **options)(function)  # type: ignore[no-any-return]
        except RuntimeError as exc:
            if "no locator available" not in str(exc):
                raise
            return numba.njit(list(signatures), **options)(function)  # type: ignore[no-any-return]

    return decorate
