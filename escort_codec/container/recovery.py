"""Saving what is whole of a damaged or unfinished file (``escort recover``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from escort_codec.container.file import ChunkFile
from escort_codec.container.index import Index
from escort_codec.container.layout import FRAME
from escort_codec.container.reader import Reader
from escort_codec.container.state import Loss, read_state
from escort_codec.container.writer import Writer
from escort_codec.errors import FormatError, LimitError, UsageError


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
    if good.exists() and good.samefile(bad):
        raise UsageError(f"{good}: the saved file must be another one than the damaged one")
    result = Recovery()
    with Reader(bad, recover=True) as reader:
        damaged = _damaged_blocks(reader)
        index = _index_of(bad)
        result.lost = [_describe(loss, index) for loss in (*reader.losses, *damaged)]
        if not len(reader):
            raise FormatError(f"{bad}: no whole block is left")
        lost = {loss.start for loss in damaged}
        with Writer(good, source=reader.source, overwrite=overwrite) as writer:
            for number, offset in enumerate(reader.state.index.offsets):
                if offset in lost:
                    continue
                block = reader.block(number)
                for row in range(len(block)):
                    try:
                        writer.add(block[row])
                    except LimitError as exc:  # a name that is there twice: the first one stays
                        result.lost.append(f"{block.key(row)}: {exc}")
            result.saved = len(writer)
            if not result.saved:
                raise FormatError(f"{bad}: no whole block is left")
    return result


def _damaged_blocks(reader: Reader) -> list[Loss]:
    """The blocks that the index names but that are damaged."""
    losses = []
    for number, offset in enumerate(reader.state.index.offsets):
        try:
            reader.block(number)
        except FormatError as exc:
            end = offset + reader.state.index.lengths[number] + FRAME
            losses.append(Loss(offset, end, str(exc), "BLCK"))
    return losses


def _describe(loss: Loss, index: Index | None) -> str:
    """A loss in words; where the index is whole, with the exemplars that stood there."""
    what = f"bytes {loss.start} to {loss.end}: {loss.reason}"
    if index is None:
        return what
    hit = [n for n, offset in enumerate(index.offsets) if loss.start <= offset < loss.end]
    if not hit:
        return f"{what}; no exemplar was in it"
    count = sum(index.counts[n] for n in hit)
    low, high = min(index.low[n] for n in hit), max(index.high[n] for n in hit)
    return f"{what}; {count} exemplars lost, between {low} and {high}"


def _index_of(path: Path) -> Index | None:
    """The index where trailer and index are whole, though a chunk before them is not."""
    file = ChunkFile(path)
    try:
        return read_state(file).index
    except FormatError:
        return None
    finally:
        file.close()
