"""``escort sweep``: a table of settings, a run for each row, one report for all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from escort_codec.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from escort_cil.trainer import RunResult


def sweep(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="TOML or JSON: settings of all runs, of each run, and a grid.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the runs; runs/<FILE's name> if left out.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="PAGE", help="The page to write; DIR/report.html if left out.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all runs, list them and stop.")] = False,
) -> None:
    """Train a table of settings, and report all runs on one page.

    All rows are checked before the first is trained. After an interruption the same command continues: it keeps
    finished runs and resumes the stopped one. Runs that differ only in what they remember share their first phase.
    """
    from escort_cil.report import check_report, write_report
    from escort_cil.sweep import plan_sweep, train_several
    from escort_cli.terminal import print_line, terminal
    from escort_codec.processes import is_first

    folder = out or Path("runs") / file.stem
    page = report or folder / "report.html"
    check_report(page)
    with terminal(silent=not is_first()) as progress:
        runs = plan_sweep(file, folder)
        if dry_run:
            for run in runs:
                print_line(f"{run.out}: {run.config.method}, keep {run.config.kept}")
            return
        outcome = train_several(runs, progress=progress, resume=True, keep_going=True)
        if not is_first():
            return
        if outcome.results:
            write_report([folder], page)
    print_summary(outcome.results)
    if outcome.results:
        print_line(f"{page}: {counted(len(outcome.results), 'run')}")
    if outcome.failed:
        for path, why in outcome.failed.items():
            print_line(f"escort sweep: {path}: {why}", error=True)
        raise typer.Exit(1)


def print_summary(results: Sequence[RunResult]) -> None:
    """One row for each run: its figures after the last phase."""
    from escort_cli.terminal import format_percent, print_table

    keys = ("top1", "average_incremental_accuracy", "nme_average_incremental_accuracy", "forgetting")
    rows = [
        [
            str(result.folder),
            *(format_percent(result.records[-1][key]) for key in keys),
            f"{result.records[-1]['memory_bytes']:,}",
            f"{result.records[-1]['model_bytes']:,}",
        ]
        for result in results
    ]
    if rows:
        columns = ["run", "top-1", "average", "nearest mean", "forgetting", "memory bytes", "model bytes"]
        print_table("after the last phase, accuracy in %", columns, rows)
