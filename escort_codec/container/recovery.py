"""Saving what is whole of a damaged or unfinished file (``escort recover``)."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from escort_codec.container.reader import Reader
from escort_codec.container.sink import find_target, partial_path, sync_folder
from escort_codec.container.writer import Writer
from escort_codec.errors import FormatError, LimitError, OutputError, UsageError


@dataclass(slots=True)
class Recovery:
    """What was saved, and what was not: a line for each loss."""

    saved: int = 0
    lost: list[str] = field(default_factory=list)


def recover(bad: str | PathLike[str], good: str | PathLike[str], *, overwrite: bool = False) -> Recovery:
    """Writes every exemplar of every whole block of ``bad`` into the new file ``good``; ``bad`` is only read.

    A file with nothing wrong is copied, block by block. Raises UsageError where both are one file, FormatError where
    ``bad`` has not even an .escx file's first 12 bytes or nothing whole is left, OutputError for ``good``.
    """
    bad, good = Path(bad), Path(good)
    with Reader(bad, recover=True) as reader:
        target, there = find_target(good)
        if there and target.samefile(bad):
            raise UsageError(f"{good}: the saved file must be another one than the damaged one")
        if there and not overwrite:
            raise OutputError(f"{good} exists already: choose another name, or overwrite it (--force)")
        result = Recovery(lost=[str(loss) for loss in reader.losses])
        if not len(reader):
            raise FormatError(f"{bad}: no whole block is left")
        # What a killed writer left as GOOD.partial is often what is to be saved: then GOOD cannot be written there.
        aside = partial_path(target)
        clash = aside.exists() and aside.samefile(bad)
        place = _free_name(target) if clash else target
        with Writer(place, source=reader.source, overwrite=overwrite) as writer:
            for exemplar in reader:
                try:
                    writer.add(exemplar)
                except LimitError as exc:  # a name that is there twice: the first one stays
                    result.lost.append(str(exc))
            result.saved = len(writer)
        if clash:
            try:
                place.replace(target)
            except OSError as exc:
                raise OutputError(f"{place} holds what was saved; it cannot become {target}: {exc.strerror}") from exc
            sync_folder(target.parent)
    return result


def _free_name(target: Path) -> Path:
    """A name beside ``target`` under which nothing stands yet: what others keep there is not ours to replace."""
    names = (target.with_name(f"{target.name}.recovered{number or ''}") for number in itertools.count())
    return next(name for name in names if not os.path.lexists(name))
