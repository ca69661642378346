"""``escort merge``: several ``.escx`` files into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def merge(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The files to put together.")],
    out: Annotated[Path, typer.Option("--out", metavar="OUT.escx", help="The file to write.")],
    keep_recipes: Annotated[
        bool, typer.Option("--keep-recipes", help="Take files of different presets or recipes, each with its own.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing OUT.")] = False,
) -> None:
    """Put files together without decoding them; the shards of one encoding give what a single run gives."""
    from escort_codec.container.parts import merge as merge_files

    count = merge_files(files, out, keep_recipes=keep_recipes, overwrite=force)
    print(f"{out}: {count:,} exemplars of {len(files)} files, {out.stat().st_size:,} bytes")
