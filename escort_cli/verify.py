"""``escort verify``: whether every byte of an ``.escx`` file is right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .escx file.")],
) -> None:
    """Check every byte: checksums, places, lengths, names, edge maps and hints. Exit code 1 names the first fault."""
    from escort_codec.container.verify import verify as check

    verdict = check(file)
    if verdict.fault:
        error = verdict.kind(verdict.fault)
        error.path = str(file)
        raise error
    print(f"{file}: {verdict.exemplars:,} exemplars in {verdict.blocks:,} blocks, {verdict.size:,} bytes, all right")
