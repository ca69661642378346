"""How far a command has come: a bar on a terminal, plain lines every few seconds elsewhere. Both on stderr."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

INTERVAL: Final = 5.0
"""Seconds between two plain lines."""


class Progress:
    """What ``progress`` hands out; safe to share between threads."""

    def begin(self, total: int) -> None:
        """Sets the number of items, where it was not known before."""

    def advance(self, n: int = 1) -> None:
        """Counts ``n`` more items as done."""

    def say(self, line: str) -> None:
        """Prints one line on stderr, above the bar where there is one."""
        print(line, file=sys.stderr, flush=True)


@contextmanager
def progress(
    what: str, total: int | None = None, *, unit: str = "images", quiet: bool = False, plain: bool = False
) -> Iterator[Progress]:
    """Shows ``what`` coming on from 0 to ``total`` items, with the rate and the time left.

    ``with progress("decode", 800) as p: p.advance()``; a ``total`` of None is set later, by ``begin``. ``quiet``
    shows nothing, but ``say`` still speaks. A plain line is written every five seconds, and one at the end.
    ``plain`` draws no bar even on a terminal, where several processes share it.
    """
    if quiet:
        yield Progress()
    elif not plain and _is_terminal(sys.stderr):
        with _bar() as bar:
            yield _Shown(bar, what, total, unit)
    else:
        lines = _Plain(what, total, unit)
        try:
            yield lines
        finally:
            lines.finish()


def _is_terminal(stream: TextIO) -> bool:
    """False for a pipe or a file, and where rich would draw no bar either (TERM=dumb)."""
    if not stream.isatty():
        return False
    from rich.console import Console

    console = Console(file=stream)
    return console.is_terminal and not console.is_dumb_terminal


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        refresh_per_second=5,
        redirect_stdout=False,  # stdout is for results, such as JSON
    )


class _Shown(Progress):
    """On a terminal: rich's bar."""

    def __init__(self, bar: Bar, what: str, total: int | None, unit: str) -> None:
        self._bar, self._unit, self._start, self._done = bar, unit, monotonic(), 0
        self._lock = threading.Lock()
        self._task = bar.add_task(what, total=total, rate="")

    def begin(self, total: int) -> None:
        self._bar.update(self._task, total=total)

    def advance(self, n: int = 1) -> None:
        with self._lock:
            self._done += n
            rate = _rate(self._done, monotonic() - self._start, self._unit)
        self._bar.update(self._task, advance=n, rate=rate)

    def say(self, line: str) -> None:
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Plain(Progress):
    """Elsewhere: lines."""

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self._what, self._total, self._unit = what, total or 0, unit
        self._lock = threading.Lock()
        self._start = self._said = monotonic()
        self._done = 0

    def begin(self, total: int) -> None:
        self._total = total

    def advance(self, n: int = 1) -> None:
        with self._lock:
            self._done += n
            now = monotonic()
            if now - self._said < INTERVAL or self._done >= self._total:
                return
            self._said = now
            seconds = now - self._start
            left = (self._total - self._done) * seconds / max(1, self._done)
            self.say(f"{self._state(seconds)}, {format_time(left)} left")

    def finish(self) -> None:
        """The last line; none where nothing was begun."""
        if self._total:
            self.say(self._state(monotonic() - self._start))

    def _state(self, seconds: float) -> str:
        rate = _rate(self._done, seconds, self._unit)
        return f"{self._what}: {self._done}/{self._total} {self._unit}" + (f", {rate}" if rate else "")


def _rate(done: int, seconds: float, unit: str) -> str:
    if not done or seconds <= 0:
        return ""
    rate = done / seconds
    return f"{rate:.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s"


def format_time(seconds: float) -> str:
    """``1:02:03`` or ``2:03``: hours only where there are some."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
