"""``escort split``: one ``.escx`` file into several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def split(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .escx file.")],
    parts: Annotated[int | None, typer.Option(help="Into this many even runs.")] = None,
    by_class: Annotated[bool, typer.Option("--by-class", help="Into one file a class.")] = False,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the new files.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Split a file into even parts (merge puts them together again) or into one file a class."""
    from escort_codec.container.parts import split as split_file

    for path in split_file(file, out, parts=parts, by_class=by_class, overwrite=force):
        print(f"{path}: {path.stat().st_size:,} bytes")
