"""What ``escort decode`` does once its options are read: plan, make, summarise; in one process or in several."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from escort_cli.progress import Progress, progress
from escort_codec.errors import EscortError
from escort_codec.regenerate.output import Outcome, Saving, Watch, prepare_tree, write_tree
from escort_codec.regenerate.plan import Choice, Plan, make_plan
from escort_codec.regenerate.processes import Processes, launched
from escort_codec.workers import EXIT_CODE, ended_by_signals

if TYPE_CHECKING:
    from escort_codec.container import Reader
    from escort_codec.regenerate import Regenerator

SHOWN: Final = 20  # failures that are printed one by one
ECHO: Final = 10.0  # seconds within which a launcher repeats a signal to its processes
STAND_IN: Final = {"harmonic": ", a stand-in that needs no weights (--regenerator controlnet is the paper's)"}


@dataclass(slots=True)
class Done:
    """What became of a plan, or of one process's share of it."""

    outcome: Outcome = field(default_factory=Outcome)
    asked: bool = False  # a signal asked for the end
    seconds: dict[str, float] = field(default_factory=dict)  # see Regenerator.seconds


def run(
    reader: Reader,
    target: Path,
    choice: Choice,
    regenerator: Regenerator,
    saving: Saving,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Writes what is missing and prints the summary; raises typer.Exit for an exit code other than 0.

    Under ``torchrun`` or ``accelerate launch`` the first process plans, every one makes its share, and the first
    waits for all of them and prints one summary.
    """
    with launched() as processes:
        try:
            plan = processes.from_first(lambda: _plan(reader, target, choice, regenerator))
        except EscortError as exc:
            if processes.first:
                raise
            raise typer.Exit(exc.exit_code) from None
        done = _make(reader, target, plan, regenerator, saving, processes, quiet=quiet)
    if not processes.first:
        return
    _print(target, plan, done, regenerator.name, as_json=as_json, quiet=quiet)
    if done.asked:
        raise typer.Exit(EXIT_CODE)
    if done.outcome.failed or plan.failures:
        raise typer.Exit(1)


def _plan(reader: Reader, target: Path, choice: Choice, regenerator: Regenerator) -> Plan:
    plan = make_plan(reader, target, choice, regenerator if choice.images else None)
    if plan.tasks:
        prepare_tree(target)
    return plan


def _make(
    reader: Reader,
    target: Path,
    plan: Plan,
    regenerator: Regenerator,
    saving: Saving,
    processes: Processes,
    *,
    quiet: bool,
) -> Done:
    """Makes this process's share; in the first process, what became of all shares."""
    tasks = plan.share(processes.rank, processes.world)
    what = f"decode {processes.rank + 1}/{processes.world}" if processes.several else "decode"
    with progress(what, len(tasks), quiet=quiet or not plan.tasks, plain=processes.several) as shown:
        if processes.first:
            for line in [*([] if quiet else plan.notes), *plan.failures]:
                shown.say(line)
        if not plan.tasks:
            return Done()
        wants_images = any(task.kind == "image" for task in tasks)
        if wants_images and processes.first and not quiet:
            shown.say(f"regenerator: {regenerator.name}{STAND_IN.get(regenerator.name, '')}")
        stop = threading.Event()

        def end() -> None:
            stop.set()
            regenerator.stop()
            shown.say(f"{what}: ending after the images in flight; once more ends at once")

        watch = Watch(shown.advance, _Failures(shown), stop)
        with ended_by_signals(end, grace=ECHO if processes.several else 0.0) as signals, _Told(shown, what, quiet):
            part = str(processes.rank) if processes.several else ""
            maker = regenerator if wants_images else None
            outcome = write_tree(reader, target, tasks, maker, saving, watch=watch, part=part)
            shares = processes.gather(Done(outcome, signals.asked, regenerator.seconds))
        if processes.several and processes.first:
            prepare_tree(target)  # takes in the manifest's parts
        return _sum(shares)


def _sum(shares: list[Done]) -> Done:
    total = Done()
    for share in shares:
        total.asked = total.asked or share.asked
        for kind in fields(Outcome):
            setattr(total.outcome, kind.name, getattr(total.outcome, kind.name) + getattr(share.outcome, kind.name))
        for name, seconds in share.seconds.items():  # they run side by side
            total.seconds[name] = max(total.seconds.get(name, 0.0), seconds)
    return total


class _Told(logging.Handler):
    """While it is entered, shows what the regenerator logs: a model that was loaded, a batch that was halved."""

    def __init__(self, shown: Progress, what: str, quiet: bool) -> None:
        super().__init__(logging.WARNING if quiet else logging.INFO)
        self._shown, self._what = shown, what
        self._log = logging.getLogger("escort_codec.regenerate")

    def emit(self, record: logging.LogRecord) -> None:
        """One line above the bar."""
        self._shown.say(f"{self._what}: {record.getMessage()}")

    def __enter__(self) -> None:
        self._before = (self._log.level, self._log.propagate)
        self._log.setLevel(self.level)
        self._log.propagate = False
        self._log.addHandler(self)

    def __exit__(self, *exc: object) -> None:
        self._log.removeHandler(self)
        self._log.level, self._log.propagate = self._before


class _Failures:
    """Prints the first failures, and says once that there are more."""

    def __init__(self, shown: Progress) -> None:
        self._shown, self._count = shown, 0

    def __call__(self, line: str) -> None:
        self._count += 1
        if self._count <= SHOWN:
            self._shown.say(line)
        elif self._count == SHOWN + 1:
            self._shown.say("more fail; the summary has their number")


def _print(target: Path, plan: Plan, done: Done, regenerator: str, *, as_json: bool, quiet: bool) -> None:
    outcome = done.outcome
    failed = outcome.failed + len(plan.failures)
    if as_json:
        values = {
            "out": str(target),
            "exemplars": plan.exemplars,
            "regenerator": regenerator,
            "images": outcome.images,
            "edge_maps": outcome.edges,
            "real": outcome.real,
            "skipped": plan.skipped,
            "failed": failed,
            "ended_early": done.asked,
        }
        values |= {f"{name}_s": round(seconds, 3) for name, seconds in done.seconds.items()}
        print(json.dumps(values, indent=2))
    elif not quiet:
        made = [f"{outcome.images:,} images made"]
        made += [f"{outcome.edges:,} edge maps"] if outcome.edges else []
        made += [f"{outcome.real:,} real images copied"] if outcome.real else []
        made += [f"{plan.skipped:,} files were there"] if plan.skipped else []
        made += [f"{failed:,} failed"] if failed else []
        apart = [f"{name.replace('_', '-')} {seconds:.1f} s" for name, seconds in done.seconds.items() if seconds]
        made += [f"apart from that {', '.join(apart)}"] if apart else []
        print(f"{target}: {', '.join(made)}" + ("; ended early: the same command goes on" if done.asked else ""))
