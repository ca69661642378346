"""What a reader or an appending writer must know of a file, by its trailer and its index."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from escort_codec.container.block import Block
from escort_codec.container.checks import text_fault
from escort_codec.container.file import ChunkFile
from escort_codec.container.index import Index
from escort_codec.container.layout import (
    HEAD,
    INDEX,
    PREAMBLE,
    RECIPE,
    TAIL_SIZE,
    ChunkHead,
    read_tail,
    unpack_msgpack,
)
from escort_codec.errors import DamagedError, EscortError
from escort_codec.limits import MAX_HEAD, MAX_RECIPE, MAX_RECIPE_BYTES, MAX_RECIPES, MAX_SOURCE
from escort_codec.recipe import Recipe

LOST_RECIPE: Final = Recipe(extra=(("recovered", "the recipe was lost"),))


@dataclass(slots=True)
class State:
    """A file's contents. ``end`` is where an append goes on: the byte after the last chunk that stays;
    ``index_offset`` where the index begins, or -1. A recipe that was lost is ``LOST_RECIPE``."""

    source: str = ""
    writer: str = ""
    recipes: list[Recipe] = field(default_factory=list)
    index: Index = field(default_factory=Index)
    end: int = len(PREAMBLE)
    index_offset: int = -1


def read_head(payload: bytes, head: ChunkHead) -> tuple[str, str]:
    """(source, writer) of the HEAD chunk; raises DamagedError. Keys of later minor versions are passed over."""
    if len(payload) > MAX_HEAD:
        raise DamagedError(f"the head is above the cap of {MAX_HEAD} bytes", chunk=head.name, offset=head.offset)
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


def read_index(file: ChunkFile) -> tuple[Index, int]:
    """The index that the trailer names, whatever stands before it, and its offset.

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
    return Index.unpack(file.payload(head), head), index_offset


def read_first(file: ChunkFile) -> tuple[str, str]:
    """(source, writer) of the file's first chunk; raises FormatError where that is not a head."""
    head = file.head(len(PREAMBLE))
    if head.type != HEAD:
        raise DamagedError("the first chunk is not the head", chunk=head.name, offset=head.offset)
    if head.length > MAX_HEAD:
        raise DamagedError(f"the head is above the cap of {MAX_HEAD} bytes", chunk=head.name, offset=head.offset)
    return read_head(file.payload(head), head)


def read_numbered_recipe(file: ChunkFile, number: int, offset: int) -> tuple[Recipe, int]:
    """(recipe, bytes of its payload) of the chunk that the index names as recipe ``number``; raises FormatError."""
    head = file.head(offset)
    if head.type != RECIPE or head.length > MAX_RECIPE:
        raise DamagedError("the index names this chunk as a recipe", chunk=head.name, offset=offset)
    found, recipe = read_recipe(file.payload(head), head)
    if found != number:
        raise DamagedError(f"recipe {found} stands where {number} should", chunk=head.name, offset=offset)
    return recipe, head.length


def read_state(file: ChunkFile) -> State:
    """The state by the trailer and the index: a few reads, whatever the file's size. Raises FormatError."""
    index, index_offset = read_index(file)
    state = State(index=index, end=file.size, index_offset=index_offset)
    state.source, state.writer = read_first(file)
    left = MAX_RECIPE_BYTES
    for number, offset in enumerate(state.index.recipes):
        recipe, length = read_numbered_recipe(file, number, offset)
        left -= length
        if left < 0:
            raise DamagedError(
                f"the recipes are above the cap of {MAX_RECIPE_BYTES} bytes", chunk="RECP", offset=offset
            )
        state.recipes.append(recipe)
    return state


def add_block(index: Index, block: Block, head: ChunkHead) -> None:
    """Notes in ``index`` a block that was read from the chunk at ``head``."""
    rows = [(block.labels[label], block.key(i), block.row_seeds(i)) for i, label in enumerate(block.label.tolist())]
    index.add(head.offset, head.length, rows)
