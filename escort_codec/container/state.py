"""What a reader or an appending writer must know of a file: by its trailer, or by walking its chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from escort_codec.container.block import Block
from escort_codec.container.checks import text_fault
from escort_codec.container.file import ChunkFile
from escort_codec.container.index import Index
from escort_codec.container.layout import (
    BLOCK,
    HEAD,
    INDEX,
    KNOWN,
    PREAMBLE,
    RECIPE,
    TAIL,
    TAIL_SIZE,
    ChunkHead,
    is_ancillary,
    read_tail,
    unpack_msgpack,
)
from escort_codec.errors import DamagedError, EscortError, FormatError, VersionError
from escort_codec.exemplar import Recipe
from escort_codec.limits import MAX_RECIPE, MAX_RECIPES, MAX_SOURCE

LOST_RECIPE: Final = Recipe(extra=(("recovered", "the recipe was lost"),))


@dataclass(slots=True)
class State:
    """A file's contents. ``end`` is the byte after the last whole chunk; a lost recipe is ``LOST_RECIPE``."""

    source: str = ""
    writer: str = ""
    recipes: list[Recipe] = field(default_factory=list)
    index: Index = field(default_factory=Index)
    end: int = len(PREAMBLE)
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Loss:
    """Bytes ``start`` to ``end`` (exclusive) that are no whole chunk, and why."""

    start: int
    end: int
    reason: str
    chunk: str = ""


def read_head(payload: bytes, head: ChunkHead) -> tuple[str, str]:
    """(source, writer) of the HEAD chunk; raises DamagedError."""
    values = unpack_msgpack(payload, head)
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise DamagedError("the head is not a map of texts", chunk=head.name, offset=head.offset)
    source, writer = values.get("source", ""), values.get("writer", "")
    if fault := text_fault("source", source, MAX_SOURCE) or text_fault("writer", writer, MAX_SOURCE):
        raise DamagedError(fault, chunk=head.name, offset=head.offset)
    return source, writer


def read_recipe(payload: bytes, head: ChunkHead) -> tuple[int, Recipe]:
    """(number, recipe) of a RECP chunk; raises DamagedError. Keys of later minor versions are passed over."""
    if len(payload) > MAX_RECIPE:
        raise DamagedError(f"a recipe is above the cap of {MAX_RECIPE} bytes", chunk=head.name, offset=head.offset)
    value: Any = unpack_msgpack(payload, head)
    if (
        not isinstance(value, list)
        or len(value) != 2
        or type(value[0]) is not int
        or not 0 <= value[0] < MAX_RECIPES
        or not isinstance(value[1], dict)
    ):
        raise DamagedError("a recipe is not a number and a map", chunk=head.name, offset=head.offset)
    try:
        known = {k: v for k, v in value[1].items() if k in Recipe.__dataclass_fields__}
        return value[0], Recipe.from_map(known)
    except EscortError as exc:
        raise DamagedError(f"a recipe is wrong: {exc}", chunk=head.name, offset=head.offset) from exc


def read_state(file: ChunkFile) -> State:
    """The state by the trailer and the index: three reads, whatever the file's size.

    Raises IncompleteError where the trailer is missing, DamagedError where anything disagrees.
    """
    at = file.size - TAIL_SIZE
    index_offset, length = read_tail(file.read(max(at, 0), TAIL_SIZE), at)
    if length != file.size:
        raise DamagedError(f"the file has {file.size} bytes, but was closed with {length}", chunk="TAIL", offset=at)
    if not len(PREAMBLE) <= index_offset < at:
        raise DamagedError(f"the index cannot begin at byte {index_offset}", chunk="TAIL", offset=at)
    head = file.head(index_offset)
    if head.type != INDEX or head.end != at:
        raise DamagedError("the trailer does not follow the index that it names", chunk="TAIL", offset=at)
    state = State(index=Index.unpack(file.payload(head), head), end=file.size)
    first = file.head(len(PREAMBLE))
    if first.type != HEAD:
        raise DamagedError("the first chunk is not the head", chunk=first.name, offset=first.offset)
    state.source, state.writer = read_head(file.payload(first), first)
    for number, offset in enumerate(state.index.recipes):
        chunk = file.head(offset)
        if chunk.type != RECIPE:
            raise DamagedError("the index names this chunk as a recipe", chunk=chunk.name, offset=offset)
        found, recipe = read_recipe(file.payload(chunk), chunk)
        if found != number:
            raise DamagedError(f"recipe {found} stands where {number} should", chunk=chunk.name, offset=offset)
        state.recipes.append(recipe)
    return state


def walk(file: ChunkFile, *, resync: bool) -> Iterator[tuple[ChunkHead, bytes] | Loss]:
    """Every whole chunk in the file's order. Where one is damaged: a Loss; then, with ``resync``, the next whole one.

    A damaged chunk whose length leads to another whole chunk is passed over by its length; else the bytes are
    searched for the next one. The search gives up after 16 times the file's size, so that no file can hold it up.
    """
    at, work = len(PREAMBLE), 16 * file.size + (1 << 20)
    while at < file.size:
        head: ChunkHead | None = None
        try:
            head = file.head(at)
            if head.type not in KNOWN and not is_ancillary(head.type):
                raise VersionError(f"a {head.name} chunk needs a newer escort", chunk=head.name, offset=at)
            payload = file.payload(head)
        except FormatError as exc:
            found = file.size
            if resync:
                found, work = _next_chunk(file, at, head, work)
            yield Loss(at, found, str(exc), exc.chunk)
            at = found
            continue
        yield head, payload
        at = head.end


def _is_chunk(file: ChunkFile, offset: int) -> int:
    """The end of the whole chunk at ``offset``, or -1."""
    try:
        head = file.head(offset)
        if head.type not in KNOWN:
            return -1
        file.payload(head)
    except FormatError:
        return -1
    return head.end


def _next_chunk(file: ChunkFile, at: int, head: ChunkHead | None, work: int) -> tuple[int, int]:
    """(offset of the next whole chunk or the file's end, work left in bytes) after the damage at ``at``."""
    if head is not None and head.end <= file.size and (head.end == file.size or _is_chunk(file, head.end) > 0):
        return head.end, work - (head.end - at)
    window, at = 1 << 20, at + 1
    while at < file.size and work > 0:
        data = file.read(at, window + 8)
        work -= len(data)
        places = sorted(at + m for t in KNOWN for m in _places(data, t))
        for place in places:
            try:
                work -= min(file.head(place).length, file.size)
            except FormatError:
                continue
            if _is_chunk(file, place) > 0:
                return place, work
            if work <= 0:
                break
        at += window
    return file.size, work


def _places(data: bytes, wanted: bytes) -> Iterator[int]:
    place = data.find(wanted)
    while place >= 0:
        yield place
        place = data.find(wanted, place + 1)


def walk_state(file: ChunkFile) -> tuple[State, list[Loss]]:
    """The state by walking the chunks, and what was lost. Every whole block is in the index.

    Blocks that a committed index names but that are damaged are in the losses; a block whose table is wrong counts
    as lost too, though its checksum is right.
    """
    state, losses = State(complete=False), []
    for item in walk(file, resync=True):
        if isinstance(item, Loss):
            losses.append(item)
            continue
        head, payload = item
        state.complete = False
        try:
            if head.type == HEAD:
                state.source, state.writer = read_head(payload, head)
            elif head.type == RECIPE:
                number, recipe = read_recipe(payload, head)
                _extend_recipes(state, number)
                state.recipes[number] = recipe
                state.index.recipes[number] = head.offset
            elif head.type == BLOCK:
                block = Block(payload, head, None)
                if losses:
                    _extend_recipes(state, int(block.recipe.max()))
                elif int(block.recipe.max()) >= len(state.recipes):
                    raise DamagedError("a block's recipe is not in the file", chunk=head.name, offset=head.offset)
                add_block(state.index, block, head)
            elif head.type == TAIL:
                state.complete = not losses and head.end == file.size
        except FormatError as exc:
            losses.append(Loss(head.offset, head.end, str(exc), head.name))
            continue
        state.end = head.end
    return state, losses


def _extend_recipes(state: State, number: int) -> None:
    missing = number + 1 - len(state.recipes)
    state.recipes += [LOST_RECIPE] * missing
    state.index.recipes += [-1] * missing


def add_block(index: Index, block: Block, head: ChunkHead) -> None:
    """Notes in ``index`` a block that was read from the chunk at ``head``."""
    rows = [(block.labels[block.label[i]], block.key(i), block.row_seeds(i)) for i in range(len(block))]
    index.add(head.offset, head.length, rows)


def state_of(path: Path, *, recover: bool) -> tuple[ChunkFile, State, list[Loss]]:
    """Opens ``path``: by the trailer, or with ``recover``, where that fails, by walking."""
    file = ChunkFile(path)
    try:
        try:
            return file, read_state(file), []
        except VersionError:
            raise
        except FormatError:
            if not recover:
                raise
            state, losses = walk_state(file)
            return file, state, losses
    except BaseException:
        file.close()
        raise
