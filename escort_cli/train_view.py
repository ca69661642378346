"""What ``escort train`` shows: progress while it runs, tables at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from escort_cli.progress import INTERVAL, format_time

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from escort_cil.events import Event
    from escort_cil.trainer import RunResult


class View:
    """Plain lines on stderr: each event, epochs at most every five seconds."""

    def __init__(self) -> None:
        self._said = 0.0

    def say(self, text: str) -> None:
        """One line."""
        print(text, file=sys.stderr, flush=True)

    def report(self, event: Event) -> None:
        """Shows an event."""
        from escort_cil.events import CopiesMade, EpochEnded

        if isinstance(event, EpochEnded | CopiesMade):
            now = monotonic()
            if now - self._said < INTERVAL:
                return
            self._said = now
            left = f", {format_time(event.seconds_left)} left" if isinstance(event, EpochEnded) else ""
            self.say(f"{event}{left}")
        else:
            self.say(str(event))


class _Silent(View):
    """Nothing: of several processes the first speaks for all."""

    def say(self, text: str) -> None:
        """Nothing."""


class _Shown(View):
    """On a terminal: rich's bar."""

    def __init__(self, bar: Bar) -> None:
        super().__init__()
        self._bar = bar
        self._task = bar.add_task("", total=None, facts="", visible=False)

    def say(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def report(self, event: Event) -> None:
        from escort_cil.events import CopiesMade, EpochEnded, PhaseBegan, PhaseEnded

        if isinstance(event, CopiesMade):
            whole = event.done == event.total
            self._bar.update(
                self._task, description="copies", total=event.total, completed=event.done, facts="", visible=not whole
            )
            return
        if isinstance(event, EpochEnded):
            facts = (
                f"epochs  loss {event.loss:.3f}  accuracy {event.accuracy:.1f} %  "
                f"{event.images_per_second:.0f} images/s  {format_time(event.seconds_left)} left"
            )
            self._bar.update(self._task, completed=event.epoch + 1, facts=facts)
            return
        if isinstance(event, PhaseBegan):
            self._bar.reset(
                self._task,
                total=event.epochs,
                description=f"phase {event.phase + 1}/{event.phases}",
                facts="",
                visible=True,
            )
        elif isinstance(event, PhaseEnded):
            self._bar.update(self._task, visible=False)
        self.say(str(event))


def _is_first() -> bool:
    """Whether this is the only process, or the first of those that torchrun or accelerate started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def shown() -> Iterator[View]:
    """A view on stderr: a bar with phase, epoch, loss, accuracy, images/s and time left where it is a terminal."""
    from rich.console import Console

    if not _is_first():
        yield _Silent()
        return
    console = Console(file=sys.stderr)
    if not sys.stderr.isatty() or not console.is_terminal or console.is_dumb_terminal:
        yield View()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
    )
    with Bar(*columns, console=console, refresh_per_second=5, redirect_stdout=False) as bar:
        yield _Shown(bar)


def print_results(results: Sequence[RunResult]) -> None:
    """Two tables a run, accuracies and memory, and mean and deviation where there are several runs."""
    from escort_cli.tables import print_table

    if not _is_first():
        return
    for result in results:
        print_table(f"{result.config.method}, {result.folder}: accuracy in %", *accuracy_table(result.records))
        if result.records[-1]["memory_bytes"]:
            print_table("memory", *memory_table(result.records))
    if len(results) > 1:
        _print_means(results)


def accuracy_table(records: Sequence[Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows, a row a phase and view."""
    keys = ("top1", "top5", "nme_top1", "old", "new", "average_incremental_accuracy", "forgetting")
    several = len(records[-1]["views"]) > 1
    columns = ["phase", "classes", *(["view"] if several else [])]
    columns += ["top-1", "top-5", "nearest mean", "old", "new", "average", "forgetting"]
    rows = [
        [
            str(record["phase"] + 1),
            str(record["classes"]),
            *([view] if several else []),
            *(_percent(figures[key]) for key in keys),
        ]
        for record in records
        for view, figures in record["views"].items()
    ]
    return columns, rows


def memory_table(records: Sequence[Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows, a row a phase."""
    rows = [
        [
            str(record["phase"] + 1),
            f"{record['memory_bytes']:,}",
            str(record["memory_real"]),
            str(record["memory_prompt"]),
            f"{record['memory_units']:.1f}",
        ]
        for record in records
    ]
    return ["phase", "bytes", "real", "prompts", "units"], rows


def _print_means(results: Sequence[RunResult]) -> None:
    from escort_cil.metrics import mean_and_deviation
    from escort_cli.tables import print_table

    rows = []
    for key, name in (
        ("top1", "top-1 after the last phase"),
        ("average_incremental_accuracy", "average incremental accuracy"),
        ("nme_average_incremental_accuracy", "the same, nearest mean"),
        ("forgetting", "forgetting"),
    ):
        values = [result.records[-1][key] for result in results]
        if all(value is not None for value in values):
            mean, deviation = mean_and_deviation(values)
            rows.append([name, f"{mean:.2f}", f"{deviation:.2f}"])
    print_table(f"{len(results)} class orders", ("", "mean, %", "deviation"), rows)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
