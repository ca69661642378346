"""``escort extract``: some of a file's exemplars into a new file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def extract(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .escx file.")],
    out: Annotated[Path, typer.Option("--out", metavar="SUB.escx", help="The file to write.")],
    label: Annotated[list[str] | None, typer.Option("--class", metavar="X", help="A class; may be repeated.")] = None,
    name: Annotated[list[str] | None, typer.Option(metavar="CLASS/NAME", help="An exemplar; may be repeated.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing SUB.")] = False,
) -> None:
    """Copy the exemplars of some classes, or single ones, into a new file."""
    from escort_codec.container.parts import extract as extract_from

    count = extract_from(file, out, labels=label or (), names=name or (), overwrite=force)
    print(f"{out}: {count:,} exemplars, {out.stat().st_size:,} bytes")
