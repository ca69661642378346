"""``escort recover``: what is whole of a damaged or unfinished file, into a new one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def recover(
    bad: Annotated[Path, typer.Argument(metavar="BAD.escx", help="The damaged file; it is only read.")],
    good: Annotated[Path, typer.Argument(metavar="GOOD.escx", help="The new file.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an existing GOOD.")] = False,
) -> None:
    """Save all whole blocks of a damaged or unfinished file, and say what was lost."""
    from escort_codec.container.parts import recover as save

    recovery = save(bad, good, overwrite=force)
    for line in recovery.lost:
        print(f"lost: {line}")
    print(f"{good}: {recovery.saved:,} exemplars saved" + ("" if recovery.lost else "; nothing was lost"))
