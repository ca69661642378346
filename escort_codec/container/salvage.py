"""Reads the intact parts of a damaged, unfinished or growing file: by its index, else chunk by chunk."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from escort_codec.container.block import Block
from escort_codec.container.file import (
    LOST_RECIPE,
    ChunkFile,
    FileState,
    read_first,
    read_head,
    read_index,
    read_numbered_recipe,
    read_recipe,
)
from escort_codec.container.index import Index
from escort_codec.container.layout import (
    BLOCK,
    FRAME,
    HEAD,
    INDEX,
    KNOWN,
    PREAMBLE,
    RECIPE,
    TAIL,
    ChunkHead,
    is_ancillary,
    read_tail,
)
from escort_codec.errors import DamagedError, FormatError, VersionError
from escort_codec.limits import MAX_RECIPE_BYTES

_TYPES: Final = re.compile(b"|".join(sorted(KNOWN)))
_WINDOW: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Loss:
    """Bytes ``start`` to ``end`` (exclusive) that are unusable: the reason, and what they held if known."""

    start: int
    end: int
    reason: str
    chunk: str = ""
    held: str = ""

    def __str__(self) -> str:
        return f"bytes {self.start} to {self.end}: {self.reason}{f'; lost: {self.held}' if self.held else ''}"


@dataclass(slots=True)
class ChunkWalk:
    """The result of walking the chunks.

    ``content`` is the byte after the last head, recipe or block. ``commits`` counts the whole pairs of index and
    trailer. ``closed``: the last pair ends the file.
    """

    state: FileState
    losses: list[Loss]
    content: int = len(PREAMBLE)
    commits: int = 0
    closed: bool = False
    recipe_bytes: int = 0


def salvage(file: ChunkFile) -> tuple[FileState, list[Loss]]:
    """The content of all whole blocks, and the losses. Reads the whole file.

    If trailer and index are whole, it reads the blocks that the index names; else it walks the chunks.
    """
    try:
        index, index_offset = read_index(file)
    except FormatError:
        walked = walk_state(file)
        if not walked.closed:
            missing = "the end of the file is missing, with anything that it held"
            walked.losses.append(Loss(file.size, file.size, missing))
        return walked.state, walked.losses
    state, losses = _by_index(file, index)
    state.index_offset = index_offset
    return state, losses


def _by_index(file: ChunkFile, index: Index) -> tuple[FileState, list[Loss]]:
    state, losses = FileState(end=file.size), []
    places = sorted((*index.recipes, *index.offsets, file.size))
    ends = dict(itertools.pairwise(places))
    try:
        state.head = read_first(file)
    except FormatError as exc:
        losses.append(Loss(len(PREAMBLE), places[0], exc.fault, "HEAD", "the data folder's name"))
    for number, offset in enumerate(index.recipes):
        try:
            recipe = read_numbered_recipe(file, index, number)
        except FormatError as exc:
            losses.append(Loss(offset, ends[offset], exc.fault, "RECP", f"recipe {number}"))
            recipe, offset = LOST_RECIPE, -1
        state.recipes.append(recipe)
        state.index.recipes.append(offset)
        state.index.recipe_lengths.append(index.recipe_lengths[number])
    for number, offset in enumerate(index.offsets):
        length = index.lengths[number]
        try:
            head, payload = file.chunk(offset, length)
            block = Block(payload, head, state.recipes)
            index.check_block(number, block.rows, head)
            state.index.add_block(block.rows, offset, length)
        except FormatError as exc:
            held = f"{index.counts[number]} exemplars, {index.low[number]} to {index.high[number]}"
            losses.append(Loss(offset, offset + length + FRAME, exc.fault, "BLCK", held))
    return state, losses


def walk(file: ChunkFile, *, resync: bool) -> Iterator[tuple[ChunkHead, bytes] | Loss]:
    """Every whole chunk in file order. For a damaged one a Loss, and with ``resync`` then the next whole chunk.

    A chunk of an unknown ancillary type comes without its payload. A damaged chunk is skipped by its length if another
    whole chunk follows there; else the bytes are searched for the next one. The search reads at most 16 times the
    size of the file, so that no file can stall it.
    """
    search = _Search(file)
    at = len(PREAMBLE)
    while at < file.size:
        head: ChunkHead | None = None
        try:
            head = file.head(at)
            if head.type not in KNOWN and not is_ancillary(head.type):
                raise VersionError(f"a {head.name} chunk needs a newer escort", chunk=head.name, offset=at)
            if head.type in KNOWN:
                payload = file.payload(head)
            else:
                file.check(head)
                payload = b""
        except FormatError as exc:
            found = search.next_chunk(at, head) if resync else file.size
            yield Loss(at, found, exc.fault, exc.chunk)
            at = found
            continue
        yield head, payload
        at = head.end


class _Search:
    """Looks for the next whole chunk and limits the bytes that it reads."""

    def __init__(self, file: ChunkFile) -> None:
        self._file = file
        self._left = 16 * file.size + _WINDOW

    def next_chunk(self, at: int, head: ChunkHead | None) -> int:
        """The offset of the next whole chunk, or the file's end, after the damage at ``at``."""
        size = self._file.size
        if head is not None and (head.end == size or (head.end < size and self._is_chunk(head.end))):
            return head.end
        at += 1
        while at < size and self._left > 0:
            data = self._file.read(at, _WINDOW + 3)
            self._left -= len(data)
            for match in _TYPES.finditer(data):
                if self._is_chunk(at + match.start()):
                    return at + match.start()
            at += _WINDOW
        return size

    def _is_chunk(self, offset: int) -> bool:
        try:
            head = self._file.head(offset)
            self._left -= head.length + FRAME
            if head.type not in KNOWN or self._left < 0:
                return False
            self._file.check(head)
        except FormatError:
            return False
        return True


def walk_state(file: ChunkFile, visit: Callable[[Block], None] = lambda block: None) -> ChunkWalk:
    """The state according to the chunks. Calls ``visit`` for every whole block.

    A block with a wrong table is lost too, even if its checksum is right. ``state.end`` is the byte after the last
    whole chunk, not counting an index without its trailer.
    """
    walked = ChunkWalk(FileState(), [])
    state, losses = walked.state, walked.losses
    index_at = -1
    for item in walk(file, resync=True):
        if isinstance(item, Loss):
            losses.append(item)
            index_at = -1
            continue
        head, payload = item
        try:
            if head.type == HEAD and head.offset != len(PREAMBLE):
                raise DamagedError("another file begins here: cut it off and recover it separately", offset=head.offset)
            if head.type == TAIL:
                chunk = file.read(head.offset, head.end - head.offset)
                if index_at < 0 or read_tail(chunk, head.offset) != (index_at, head.end):
                    raise DamagedError("the trailer does not name its index", chunk="TAIL", offset=head.offset)
                walked.commits += 1
                walked.closed = head.end == file.size
            else:
                _take(head, payload, walked, visit)
        except FormatError as exc:
            end = file.size if head.type == HEAD and head.offset != len(PREAMBLE) else head.end
            losses.append(Loss(head.offset, end, exc.fault, head.name))
            if end > head.end:
                break
            continue
        index_at = head.offset if head.type == INDEX else -1
        if head.type != INDEX:
            state.end = head.end
    return walked


def _take(head: ChunkHead, payload: bytes, walked: ChunkWalk, visit: Callable[[Block], None]) -> None:
    """Adds a head, recipe or block to the state. Raises DamagedError."""
    state = walked.state
    if head.type == HEAD:
        state.head = read_head(payload, head)
    elif head.type == RECIPE:
        number, recipe = read_recipe(payload, head)
        if number < len(state.recipes) and state.index.recipes[number] >= 0:
            raise DamagedError(f"recipe {number} occurs twice", chunk=head.name, offset=head.offset)
        walked.recipe_bytes += head.length
        if walked.recipe_bytes > MAX_RECIPE_BYTES:
            raise DamagedError("the recipes are above their cap", chunk=head.name, offset=head.offset)
        _extend_recipes(state, number)
        state.recipes[number] = recipe
        state.index.recipes[number] = head.offset
        state.index.recipe_lengths[number] = head.length
    elif head.type == BLOCK:
        block = Block(payload, head, None)
        most = block.rows.last_recipe
        if not walked.losses and most >= len(state.recipes):
            raise DamagedError("a block's recipe is not in the file", chunk=head.name, offset=head.offset)
        _extend_recipes(state, most)
        state.index.add_block(block.rows, head.offset, head.length)
        visit(block)
    else:
        return
    walked.content = head.end


def _extend_recipes(state: FileState, number: int) -> None:
    missing = number + 1 - len(state.recipes)
    state.recipes += [LOST_RECIPE] * missing
    state.index.recipes += [-1] * missing
    state.index.recipe_lengths += [0] * missing
