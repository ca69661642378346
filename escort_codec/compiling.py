"""numba kernels: compiled once per machine and cached; a long wait is logged.

A module of kernels imports numba at its top and is itself imported only by the function that first needs it:

    def _kernels() -> ModuleType:
        with compiling("the run-length coder"):
            from escort_codec.coding import rle_kernels
        return rle_kernels

With explicit signatures the kernels are compiled, or loaded from the cache, while their module is imported. The import
lock lets one thread do that while the others wait.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

log = logging.getLogger(__name__)

PATIENCE: Final = 1.0
"""Seconds of compiling after which a line is logged."""

_ONE_AT_A_TIME: Final = threading.RLock()


@contextmanager
def compiling(what: str) -> Iterator[None]:
    """Logs a line if compiling ``what`` in the body takes longer than ``PATIENCE``; none if it comes from the cache.

    One thread at a time; the others wait and find the work done.
    """
    done = threading.Event()
    with _ONE_AT_A_TIME:
        from numba.core import event  # under the lock: two threads that import numba at once see half a module

        with event.install_recorder("numba:compile") as compiled:

            def watch() -> None:
                while not done.wait(PATIENCE):
                    if compiled.buffer:
                        log.info("compiling %s: the first use on this machine takes a few seconds", what)
                        return

            watcher = threading.Thread(target=watch, name="escort-compiling", daemon=True)
            watcher.start()
            try:
                yield
            finally:
                done.set()
                watcher.join()


def kernel(*signatures: Any, inline: bool = False) -> Callable[[Function], Function]:
    """Decorates a kernel: compiled at once for ``signatures``, releases the GIL, cached on disk.

    Without signatures it is compiled into the kernels that call it (``inline``: before LLVM sees it) and not cached.
    numba caches beside the module, or in the user's cache folder if that is read-only; if neither is writable, every
    process compiles anew.
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
