"""The output of commands: progress and log lines on stderr; tables, lines and JSON on stdout.

Everything that a command prints goes through here, and every text is ``escaped``: it may come from an untrusted file.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from escort_codec.progress import Progress
from escort_codec.words import escaped, to_json

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

INTERVAL: Final = 5.0
"""Seconds between two lines of progress."""

PACKAGES: Final = ("escort_codec", "escort_cil")
"""The packages whose log records are shown."""


@contextmanager
def terminal(*, quiet: bool = False, plain: bool = False, silent: bool = False) -> Iterator[Screen]:
    """Shows progress and the packages' log records on stderr while it is open.

    On a terminal progress is a bar; elsewhere, or if ``plain``, it is a line every five seconds and one at the end.
    ``quiet`` shows warnings only, ``silent`` nothing at all (for all processes but the first).
    """
    screen: Screen
    if quiet or silent:
        screen = Screen()
    elif not plain and _is_terminal():
        screen = _BarScreen()
    else:
        screen = _PlainScreen()
    level = logging.CRITICAL + 1 if silent else logging.WARNING if quiet else logging.INFO
    with _logging(screen, level):
        try:
            yield screen
        finally:
            screen.end()


class Screen(Progress):
    """Prints lines and no progress."""

    def print(self, line: str) -> None:
        """Prints one line on stderr, above the bar if there is one."""
        print(escaped(line), file=sys.stderr, flush=True)


class _PlainScreen(Screen):
    """Progress as lines."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._what = ""
        self._total: int | None = None

    def begin(self, what: str, total: int | None = None, *, unit: str = "images") -> None:
        self.end()
        self._what, self._total, self._unit = what, total, unit
        self._done, self._note = 0, ""
        self._start = self._printed = monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        with self._lock:
            self._done += count
            self._note = note or self._note
            now = monotonic()
            if now - self._printed < INTERVAL or self._done == self._total:
                return
            self._printed = now
            seconds = now - self._start
            left = ""
            if self._total is not None and self._done:
                left = f", {format_time((self._total - self._done) * seconds / max(1, self._done))} left"
            self.print(self._state(seconds) + left)

    def end(self) -> None:
        if self._what and self._total != 0:
            self.print(self._state(monotonic() - self._start))
        self._what = ""

    def _state(self, seconds: float) -> str:
        of = "" if self._total is None else f"/{self._total}"
        rate = _rate(self._done, seconds, self._unit)
        facts = [f"{self._what}: {self._done}{of} {self._unit}", rate, self._note]
        return ", ".join(fact for fact in facts if fact)


class _BarScreen(Screen):
    """Progress as a bar of rich."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bar: Bar | None = None

    def begin(self, what: str, total: int | None = None, *, unit: str = "images") -> None:
        self.end()
        self._unit, self._start, self._done, self._note = unit, monotonic(), 0, ""
        self._bar = _make_bar()
        self._task = self._bar.add_task(escaped(what), total=total, rate="", note="")
        self._bar.start()

    def advance(self, count: int = 1, note: str = "") -> None:
        bar = self._bar
        if bar is None:
            return
        with self._lock:
            self._done += count
            self._note = note or self._note
            rate = _rate(self._done, monotonic() - self._start, self._unit)
        bar.update(self._task, advance=count, rate=rate, note=escaped(self._note))

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = None

    def print(self, line: str) -> None:
        if self._bar is None:
            super().print(line)
        else:
            self._bar.console.print(escaped(line), markup=False, highlight=False, soft_wrap=True)


def _is_terminal() -> bool:
    """False for a pipe or a file, and where rich would draw no bar either (TERM=dumb)."""
    if not sys.stderr.isatty():
        return False
    from rich.console import Console

    console = Console(file=sys.stderr)
    return console.is_terminal and not console.is_dumb_terminal


def _make_bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[note]}", markup=False),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        refresh_per_second=5,
        redirect_stdout=False,  # stdout is for results, such as JSON
    )


class _LogHandler(logging.Handler):
    """Prints log records on a screen."""

    def __init__(self, screen: Screen, level: int) -> None:
        super().__init__(level)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.print(record.getMessage())


@contextmanager
def _logging(screen: Screen, level: int) -> Iterator[None]:
    handler = _LogHandler(screen, level)
    loggers = [logging.getLogger(name) for name in PACKAGES]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.propagate = False  # else a handler of the root logger would print each line again
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, (old_level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(old_level)
            logger.propagate = propagate


def print_line(line: str = "", *, error: bool = False) -> None:
    """Prints one line on stdout, or on stderr if it is an ``error``."""
    print(escaped(line), file=sys.stderr if error else sys.stdout, flush=True)


def ask(question: str) -> bool | None:
    """Asks on stderr and reads ``y`` or ``n``; None if nobody can answer, as in a script."""
    from escort_codec.processes import launched_alone

    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty() and launched_alone()):
        return None
    print(f"{escaped(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def print_json(value: Any) -> None:
    """Prints ``value`` as JSON on stdout."""
    print(to_json(value, indent=2))


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Prints labels and values on stdout, a line each however long it is."""
    width = max(len(label) for label, _ in facts)
    for label, value in facts:
        print_line(f"{label:{width}}  {value}")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table on stdout: the first column to the left, the others to the right.

    On a narrow terminal the first column, which has the long names, is wrapped. Nothing is cut off.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(escaped(title), style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.show_header = any(columns)
    for number, column in enumerate(columns):
        table.add_column(
            Text(escaped(column)),
            justify="left" if number == 0 else "right",
            no_wrap=number > 0,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(escaped(cell)) for cell in row))
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = 160  # a file or a pipe has no width of its own
    console.print(table)


def format_bytes(count: float) -> str:
    """``1,234,567 B``."""
    return f"{count:,.0f} B"


def format_ratio(part: float, whole: float) -> str:
    """``1 in 41.3``: how many times ``part`` goes into ``whole``."""
    return f"1 in {whole / part:,.1f}" if part and whole else "-"


def format_share(part: float, whole: float) -> str:
    """``12.3 %``."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def format_percent(value: float | None) -> str:
    """``61.23``, or ``-`` for None."""
    return "-" if value is None else f"{value:.2f}"


def format_time(seconds: float) -> str:
    """``1:02:03`` or ``2:03``: hours only if there are any."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _rate(done: int, seconds: float, unit: str) -> str:
    if not done or seconds <= 0:
        return ""
    rate = done / seconds
    return f"{rate:.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s"
