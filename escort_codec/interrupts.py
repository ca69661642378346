"""Ctrl-C and SIGTERM as a request to end, not as an exception out of nowhere."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

EXIT_CODE: Final = 130
"""What a command exits with that was asked to end."""


class Interruption:
    """``asked`` is True once a signal came."""

    asked = False


@contextmanager
def ended_by_signals(stop: Callable[[], None], *, grace: float = 0.0) -> Iterator[Interruption]:
    """Calls ``stop`` at the first SIGINT or SIGTERM; the second does what it did before (it ends the process).

    What comes within ``grace`` seconds of the first is its echo and passes: a launcher of several processes hands a
    Ctrl-C on that they had from the terminal already.
    ``stop`` runs in the main thread between two of its steps and must not wait. Elsewhere than in the main thread,
    where Python allows no handlers, nothing is changed.
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
