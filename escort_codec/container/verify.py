"""Whether every byte of a file is right (``escort verify``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from escort_codec.container.block import Block
from escort_codec.container.layout import BLOCK, HEAD, INDEX, PREAMBLE, RECIPE, TAIL, ChunkHead, read_tail
from escort_codec.container.reader import Reader
from escort_codec.container.state import Loss, walk
from escort_codec.errors import DamagedError, EscortError, FormatError
from escort_codec.hint import decode_hint


@dataclass(slots=True)
class Verdict:
    """What was checked, and the first fault (None: every byte is right)."""

    exemplars: int = 0
    blocks: int = 0
    size: int = 0
    fault: str | None = None
    codings: set[str] = field(default_factory=set)


def verify(path: str | PathLike[str]) -> Verdict:
    """Checks the whole file: every chunk's checksum and place, the index against the blocks, names against each
    other, every edge map and every hint by decoding it.

    Only errors of the system are raised (as EscortError); what is wrong with the file is ``Verdict.fault``.
    """
    verdict = Verdict()
    try:
        with Reader(path) as reader:
            verdict.size = reader.size
            _check_chunks(reader)
            _check_exemplars(reader, verdict)
    except FormatError as exc:
        verdict.fault = str(exc)
    verdict.size = verdict.size or Path(path).stat().st_size
    return verdict


def _check_chunks(reader: Reader) -> None:
    """Walks the chunks: no holes by construction; the order of the spec's section "Order"."""
    blocks: list[int] = []
    recipes: list[int] = []
    before: ChunkHead | None = None
    for item in walk(reader.file, resync=False):
        if isinstance(item, Loss):
            raise DamagedError(item.reason)
        head, payload = item
        if (head.type == HEAD) != (head.offset == len(PREAMBLE)):
            raise DamagedError("the head is not the first chunk, or not the only one", chunk="HEAD", offset=head.offset)
        if (head.type == TAIL) != (before is not None and before.type == INDEX):
            raise DamagedError("an index and a trailer do not stand together", chunk=head.name, offset=head.offset)
        if head.type == TAIL and before is not None:
            chunk = reader.file.read(head.offset, head.end - head.offset)
            if read_tail(chunk, head.offset) != (before.offset, head.end):
                raise DamagedError("a trailer does not name its index", chunk="TAIL", offset=head.offset)
        if head.type == BLOCK:
            blocks.append(head.offset)
            if int(Block(payload, head, None).recipe.max()) >= len(recipes):
                raise DamagedError("a block's recipe comes after it", chunk="BLCK", offset=head.offset)
        if head.type == RECIPE:
            recipes.append(head.offset)
        before = head
    if blocks != reader.state.index.offsets or recipes != reader.state.index.recipes:
        raise DamagedError("the index does not name the chunks that are there", chunk="INDX", offset=-1)


def _check_exemplars(reader: Reader, verdict: Verdict) -> None:
    keys: set[str] = set()
    for number, block in enumerate(reader.blocks()):
        verdict.blocks += 1
        for row in range(len(block)):
            exemplar = block[row]
            verdict.exemplars += 1
            offset = reader.state.index.offsets[number]
            if exemplar.name and exemplar.key in keys:
                raise DamagedError(f"{exemplar.key} is there twice", chunk="BLCK", offset=offset)
            keys.add(exemplar.key)
            if exemplar.kind == "real":
                continue
            verdict.codings.add(exemplar.coding)
            try:
                _ = exemplar.edges
                if exemplar.hint is not None:
                    decode_hint(exemplar.hint)
            except EscortError as exc:
                raise DamagedError(f"{exemplar.key}: {exc}", chunk="BLCK", offset=offset) from exc
