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
"""Seconds of compiling that are worth a line."""

_ONE_AT_A_TIME: Final = threading.RLock()


@contextmanager
def compiling(what: str) -> Iterator[None]:
    """Prints one line on stderr where ``what`` has to be compiled in the body, once that takes over ``PATIENCE``.

    Prints nothing where all kernels come from the cache, however slow the machine is. One thread at a time: the others
    wait, and find the work done.
    """
    done = threading.Event()
    with _ONE_AT_A_TIME:
        from numba.core import event  # under the lock: two threads that import numba at once find half a module

        with event.install_recorder("numba:compile") as compiled:

            def watch() -> None:
                while not done.wait(PATIENCE):
                    if compiled.buffer:
                        print(f"compiling {what}: the first use on this machine takes some seconds", file=sys.stderr)
                        return

            watcher = threading.Thread(target=watch, name="escort-compiling", daemon=True)
            watcher.start()
            try:
                yield
            finally:
                done.set()
                watcher.join()


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
