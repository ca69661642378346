"""Checks every byte of a file (``escort verify``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike

from escort_codec.container.block import Block
from escort_codec.container.index import Index
from escort_codec.container.layout import BLOCK, HEAD, INDEX, MAJOR, MINOR, PREAMBLE, RECIPE, TAIL, ChunkHead, read_tail
from escort_codec.container.reader import Reader
from escort_codec.container.salvage import Loss, walk
from escort_codec.container.shards import open_memory, parts_of
from escort_codec.errors import DamagedError, EscortError, FormatError
from escort_codec.exemplar import Exemplar
from escort_codec.store.urls import Place, size_of


@dataclass(slots=True)
class Verdict:
    """The result: what was checked, and the first fault with its kind of error (``fault`` None: every byte is right).

    ``path`` is the file with the fault. ``note`` names what was not checked: additions of a later minor version. It
    holds no exception, whose traceback would keep alive what a hostile file made the reader load.
    """

    exemplars: int = 0
    blocks: int = 0
    size: int = 0
    fault: str | None = None
    kind: type[FormatError] = FormatError
    codings: set[str] = field(default_factory=set)
    note: str = ""
    path: str = ""


def verify(path: str | PathLike[str]) -> Verdict:
    """Checks the whole file: checksums, places of chunks, the index against the blocks, names against each other.

    Of a sharded memory it checks one file after the other, until one has a fault. Decodes every edge map and every
    hint, but no image file of a real exemplar. Faults go into the Verdict. Raises EscortError if the system refuses.
    """
    verdict = Verdict()
    parts = parts_of(path)
    for part in parts:
        _verify_file(part, verdict)
        if verdict.fault is not None:
            return verdict
    if len(parts) > 1:
        open_memory(path).close()  # no exemplar is in two of them
    return verdict


def _verify_file(path: Place, verdict: Verdict) -> None:
    """Checks one file and adds what it holds to ``verdict``."""
    size = 0
    try:
        with Reader(path) as reader:
            size = reader.size
            if (minor := reader.file.minor) > MINOR:
                verdict.note = f"version {MAJOR}.{minor} is newer than {MAJOR}.{MINOR}: what it adds was not checked"
            _Check(reader, verdict).run()
    except FormatError as exc:
        verdict.fault, verdict.kind, verdict.path = exc.fault, type(exc), str(path)
        size = size or size_of(path)
    verdict.size += size


class _Check:
    """One walk over all chunks, which leaves no holes. Checks their order (spec section "Order")."""

    def __init__(self, reader: Reader, verdict: Verdict) -> None:
        self._reader = reader
        self._verdict = verdict
        self._index = Index()
        self._keys: set[str] = set()

    def run(self) -> None:
        before: ChunkHead | None = None
        for item in walk(self._reader.file, resync=False):
            if isinstance(item, Loss):
                raise DamagedError(item.reason)
            self._check_chunk(*item, before)
            before = item[0]
        if self._index != self._reader.state.index:
            at = self._reader.state.index_offset
            raise DamagedError("the index does not say what the chunks hold", chunk="INDX", offset=at)

    def _check_chunk(self, head: ChunkHead, payload: bytes, before: ChunkHead | None) -> None:
        def refuse(fault: str) -> DamagedError:
            return DamagedError(fault, chunk=head.name, offset=head.offset)

        if (head.type == HEAD) != (head.offset == len(PREAMBLE)):
            raise refuse("a head is missing, or not the first chunk")
        if (head.type == TAIL) != (before is not None and before.type == INDEX):
            raise refuse("an index and a trailer do not follow each other")
        if head.type == TAIL and before is not None:
            chunk = self._reader.file.read(head.offset, head.end - head.offset)
            if read_tail(chunk, head.offset) != (before.offset, head.end):
                raise refuse("the trailer does not name its index")
        if head.type == RECIPE:
            self._index.recipes.append(head.offset)
            self._index.recipe_lengths.append(head.length)
        if head.type == BLOCK:
            block = Block(payload, head, self._reader.recipes)
            if block.rows.last_recipe >= len(self._index.recipes):
                raise refuse("a block's recipe comes after it")
            self._check_exemplars(block, head)
            self._index.add_block(block.rows, head.offset, head.length)
            self._verdict.blocks += 1

    def _check_exemplars(self, block: Block, head: ChunkHead) -> None:
        for exemplar in (block[row] for row in range(len(block))):
            key = exemplar.key
            if exemplar.name and key in self._keys:
                raise DamagedError(f"{key} occurs twice", chunk=head.name, offset=head.offset)
            self._keys.add(key)
            self._verdict.exemplars += 1
            if exemplar.kind != "real":
                self._decode(exemplar, head)

    def _decode(self, exemplar: Exemplar, head: ChunkHead) -> None:
        try:
            if exemplar.kind == "latent":
                _ = exemplar.latents
            else:
                _ = exemplar.edges, exemplar.hint_pixels
                self._verdict.codings.add(exemplar.coding)
        except EscortError as exc:
            # Not DamagedError: the checksum is right, so `escort recover` would keep it.
            raise FormatError(f"{exemplar.key}: {exc}", chunk=head.name, offset=head.offset) from exc
