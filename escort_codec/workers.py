"""Work in threads with ordered results and bounded memory; compiled kernels; signals as requests to stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import islice
from types import FrameType
from typing import Any, Final, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

log: Final = logging.getLogger(__name__)

PATIENCE: Final = 1.0
"""Seconds of compiling before a line is logged."""

_ONE_AT_A_TIME: Final = threading.RLock()


@contextmanager
def compiling(what: str) -> Iterator[None]:
    """Logs a line if compiling ``what`` in the body takes longer than ``PATIENCE``; none if it comes from the cache.

    One thread compiles at a time; the others wait.
    """
    done = threading.Event()
    with _ONE_AT_A_TIME:
        from numba.core import event  # under the lock: numba cannot be imported in two threads at once

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

    Without signatures it is compiled into the kernels that call it (``inline``: before LLVM) and not cached. numba
    caches beside the module, or in the user's cache folder if that is read-only. If neither is writable, or a file of
    the cache is damaged, every process compiles anew and logs a warning.
    """
    import numba

    options: dict[str, Any] = {"nogil": True, "inline": "always" if inline else "never"}

    def decorate(function: Function) -> Function:
        if not signatures:
            return numba.njit(**options)(function)  # type: ignore[no-any-return]
        place = ""
        try:
            cached = numba.njit(cache=True, **options)(function)
            place = cached.stats.cache_path
            for signature in signatures:
                cached.compile(signature)
            cached.disable_compile()
        except Exception as exc:  # a damaged pickle may raise anything; an error of the kernel is raised again below
            compiled = numba.njit(list(signatures), **options)(function)
            _warn_uncached(place, exc)
            return compiled  # type: ignore[no-any-return]
        return cached  # type: ignore[no-any-return]

    return decorate


@cache
def _warn_once(line: str) -> None:
    log.warning("%s", line)


def _warn_uncached(place: str, exc: Exception) -> None:
    """Warns, once per folder, that kernels are compiled without numba's cache."""
    if not place:
        _warn_once("numba's cache folder cannot be written: kernels are compiled anew in each process (some seconds)")
    elif isinstance(exc, OSError):
        _warn_once(f"{place}: numba's cache cannot be used ({exc.strerror or exc}): kernels are compiled without it")
    else:
        _warn_once(
            f"{place}: numba's cache is damaged: kernels are compiled without it; delete its *.nbi and *.nbc files"
        )


Item = TypeVar("Item")
Made = TypeVar("Made")

_AHEAD: Final = 2  # items per worker in progress or waiting: evens out slow items and bounds the memory


def usable_cores() -> int:
    """The number of cores that this process may use, which taskset or a batch job can limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_groups(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of ``size``; the last may be shorter."""
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group


def in_order(items: Iterable[Item], work: Callable[[Item], Made], workers: int | None) -> Iterator[tuple[Item, Made]]:
    """Each item with the result of ``work``, in order; ``workers`` threads (None: one per core) are a few items ahead.

    One worker needs no thread. An exception in ``work`` is raised at its item.
    """
    workers = workers or usable_cores()
    if workers == 1:
        for item in items:
            yield item, work(item)
        return
    waiting: deque[tuple[Item, Future[Made]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="work")
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= _AHEAD * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class ByteGate:
    """Limits the bytes that threads hold together to ``most``; a larger request waits until no other thread holds any.

    A limit on the number of images would not do: one may have a thousand times the pixels of another.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._held = 0
        self._change = threading.Condition()

    def take(self, count: int) -> None:
        """Waits until there is room for ``count`` bytes and holds them."""
        with self._change:
            self._change.wait_for(lambda: not self._held or self._held + count <= self.most)
            self._held += count

    def give(self, count: int) -> None:
        """Frees ``count`` bytes that were taken."""
        with self._change:
            self._held -= count
            self._change.notify_all()

    @contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """A block that gets a function to reserve bytes until the block ends; the last call counts."""
        held = 0

        def ask(count: int) -> None:
            nonlocal held
            self.give(held)
            held = 0  # ``take`` may be interrupted
            self.take(count)
            held = count

        try:
            yield ask
        finally:
            self.give(held)


DECODED: Final = ByteGate(1 << 30)
"""Bounds the bytes of decoded image files in this process: a few large images, or many small ones."""


@contextmanager
def single_threaded_opencv() -> Iterator[None]:
    """Keeps OpenCV's own threads from competing with the workers."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


EXIT_CODE: Final = 130
"""The exit code of a command that a signal stopped."""


class Interruption:
    """``asked`` is True after a signal."""

    asked = False


@contextmanager
def ended_by_signals(stop: Callable[[], None], *, grace: float = 0.0) -> Iterator[Interruption]:
    """Calls ``stop`` at the first SIGINT or SIGTERM; the second one ends the process as usual.

    Signals within ``grace`` seconds of the first are ignored: a launcher of several processes repeats a Ctrl-C that
    the terminal already sent to them. ``stop`` runs in the main thread and must not wait. Outside the main thread,
    where Python allows no handlers, this does nothing.
    """
    seen = Interruption()
    before: dict[int, Any] = {}
    first: list[float] = []

    def restore() -> None:
        while before:
            number, handler = before.popitem()
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not first:
            first.append(now)
            seen.asked = True
            if not grace:
                restore()
            stop()
        elif now - first[0] > grace:
            restore()
            signal.raise_signal(number)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handle)
    try:
        yield seen
    finally:
        restore()
