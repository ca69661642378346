"""``escort report``: run folders into one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from escort_codec.regenerate import DEFAULT
from escort_codec.words import counted


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders of escort train, or folders with some in them.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page to write.")] = Path("report.html"),
    pictures: Annotated[
        int, typer.Option("--pictures", metavar="N", help="Exemplars shown of each configuration's memory; 0: none.")
    ] = 6,
    regenerator: Annotated[
        str, typer.Option("--regenerator", metavar="NAME", help="Makes the images of the prompts that are shown.")
    ] = DEFAULT,
) -> None:
    """Write one page about runs.

    Curves, confusions, memory and configuration; the page needs no other file and no network.

    Runs that differ in their seeds alone become mean and deviation; the others are named by what differs.
    """
    from escort_cil.report import write_report
    from escort_cli.terminal import print_line, terminal

    with terminal():
        groups = write_report(runs, out, pictures=pictures, regenerator=regenerator)
    count = sum(len(group.runs) for group in groups)
    print_line(
        f"{out}: {counted(count, 'run')} of {counted(len(groups), 'configuration')}, {out.stat().st_size:,} bytes"
    )
