"""Work in threads: how many are worth starting, and results in order with bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Final, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

_AHEAD: Final = 2  # items in work or waiting, a worker: enough to hide an uneven one, and bounds the memory


def usable_cores() -> int:
    """The cores that this process may run on: fewer than the machine has, under taskset or in a job's share of it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_groups(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items, ``size`` at a time."""
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group


def in_order(items: Iterable[Item], work: Callable[[Item], Made], workers: int | None) -> Iterator[tuple[Item, Made]]:
    """Each item with what ``work`` makes of it, in their order; ``workers`` threads (None: one a core) are a few ahead.

    One worker needs no thread. What ``work`` raises is raised here, at its item.
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
