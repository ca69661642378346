"""Puts exemplars into blocks and blocks into a file's bytes: what ``Writer`` and ``pack`` share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgpack

import escort_codec
from escort_codec.container.block import encode_block
from escort_codec.container.checks import exemplar_fault, text_fault
from escort_codec.container.index import Index
from escort_codec.container.layout import BLOCK, HEAD, INDEX, PREAMBLE, RECIPE, TAIL_SIZE, make_chunk, make_tail
from escort_codec.errors import LimitError
from escort_codec.exemplar import Exemplar
from escort_codec.limits import (
    MAX_EXEMPLARS,
    MAX_INDEX,
    MAX_INDEX_SEEDS,
    MAX_LABELS,
    MAX_RECIPE,
    MAX_RECIPE_BYTES,
    MAX_RECIPES,
    MAX_SOURCE,
)
from escort_codec.recipe import Recipe

BLOCK_EXEMPLARS = 256
BLOCK_BYTES = 1 << 20
_INDEX_RESERVE = 1 << 20  # bytes of the index that the exemplars waiting for a block may yet need


class Assembler:
    """Writes through ``sink`` in file order. A block is closed at 256 exemplars or at 1 MiB, so that the same
    exemplars give the same bytes however they arrive."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self._pending: list[tuple[Exemplar, int]] = []
        self._pending_bytes = 0
        self._index_bytes = 0
        self._keys: set[int] = set()
        self._seeds: set[int] = set()
        self._recipes: dict[Recipe, int] = {}
        self._recipe_bytes = 0
        self.index = Index()
        self.offset = 0

    def begin(self, source: str, writer: str | None = None) -> None:
        """The preamble and the head of a new file."""
        if fault := text_fault("source", source, MAX_SOURCE):
            raise LimitError(fault)
        self._write(PREAMBLE)
        head = {"source": source, "writer": writer or f"escort {escort_codec.__version__}"}
        self._write(make_chunk(HEAD, msgpack.packb(head)))

    def resume(self, index: Index, recipes: Iterable[Recipe], keys: Iterable[int], end: int) -> None:
        """Goes on behind byte ``end`` of a file that holds ``index``, ``recipes``, and names of the hashes ``keys``."""
        self.index = index
        self._recipes = {recipe: number for number, recipe in enumerate(recipes)}
        self._recipe_bytes = sum(len(pack_recipe(number, recipe)) for recipe, number in self._recipes.items())
        self._keys = set(keys)
        self._seeds = set(index.seeds)
        self._index_bytes = sum(map(_label_cost, index.labels)) + 9 * len(index.recipes) + 10 * len(self._seeds)
        self._index_bytes += sum(_block_cost(index, number) for number in range(len(index.offsets)))
        self.offset = end

    def __len__(self) -> int:
        return len(self.index) + len(self._pending)

    @property
    def waiting(self) -> bool:
        """Whether exemplars were taken that are in no block yet."""
        return bool(self._pending)

    def add(self, exemplar: Exemplar) -> None:
        """Takes an exemplar; raises LimitError, and takes nothing, for one beyond the caps or of a name twice."""
        if fault := exemplar_fault(exemplar):
            raise LimitError(fault)
        if len(self) >= MAX_EXEMPLARS or self._index_bytes > MAX_INDEX - _INDEX_RESERVE:
            raise LimitError(f"a file holds no more than these {len(self)} exemplars: begin another one")
        if len(self.index.labels) + len(self._pending) >= MAX_LABELS and exemplar.label not in self.index.labels:
            raise LimitError(f"{exemplar.key}: a file holds no more than {MAX_LABELS} classes: begin another one")
        key = hash(exemplar.key)  # 64 bits: of a million names, two share one by chance once in 30 million files
        if exemplar.name and key in self._keys:
            raise LimitError(f"{exemplar.key}: there is an exemplar of that name already")
        seeds = set(exemplar.seeds) - self._seeds
        if len(self._seeds) + len(seeds) > MAX_INDEX_SEEDS:
            raise LimitError(f"{exemplar.key}: a file holds no more than {MAX_INDEX_SEEDS} different seeds")
        number = self._recipe(exemplar)
        self._keys.add(key)
        self._seeds |= seeds
        self._index_bytes += 10 * len(seeds)
        self._pending.append((exemplar, number))
        self._pending_bytes += len(exemplar.payload) + len(exemplar.hint or b"")
        if len(self._pending) >= BLOCK_EXEMPLARS or self._pending_bytes >= BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes the exemplars that wait as a block."""
        if not self._pending:
            return
        exemplars = [e for e, _ in self._pending]
        payload = encode_block(exemplars, [n for _, n in self._pending])
        offset = self.offset
        self._write(make_chunk(BLOCK, payload))
        new = {e.label for e in exemplars} - self.index.labels.keys()
        self.index.add(offset, len(payload), [(e.label, e.key, e.seeds) for e in exemplars])
        self._index_bytes += sum(map(_label_cost, new)) + _block_cost(self.index, -1)
        self._pending, self._pending_bytes = [], 0

    def finish(self) -> None:
        """Writes what waits, the index and the trailer. More may be added afterwards, and finished again."""
        self.flush()
        offset = self.offset
        chunk = make_chunk(INDEX, self.index.pack())
        self._write(chunk + make_tail(offset, offset + len(chunk) + TAIL_SIZE))

    def _recipe(self, exemplar: Exemplar) -> int:
        recipe = exemplar.recipe
        if recipe in self._recipes:
            return self._recipes[recipe]
        number = len(self._recipes)
        body = pack_recipe(number, recipe)
        if len(body) > MAX_RECIPE:
            raise LimitError(f"{exemplar.key}: its recipe has {len(body)} bytes: the cap is {MAX_RECIPE}")
        if number >= MAX_RECIPES or self._recipe_bytes + len(body) > MAX_RECIPE_BYTES:
            raise LimitError(f"{exemplar.key}: a file holds no more recipes than these {number}: begin another one")
        self.flush()
        self.index.recipes.append(self.offset)
        self._recipes[recipe] = number
        self._recipe_bytes += len(body)
        self._index_bytes += 9
        self._write(make_chunk(RECIPE, body))
        return number

    def _write(self, data: bytes) -> None:
        self._sink(data)
        self.offset += len(data)


def pack_recipe(number: int, recipe: Recipe) -> bytes:
    """The payload of a RECP chunk; raises LimitError for a recipe that would not be read back as it is."""
    try:
        values = recipe.to_map()
        body: bytes = msgpack.packb([number, values])
        if Recipe.from_map(msgpack.unpackb(body)[1]) == recipe:
            return body
    except (LimitError, TypeError, ValueError, OverflowError) as exc:
        raise LimitError(f"a recipe cannot be stored: {exc}") from exc
    raise LimitError(f"a recipe cannot be stored: its fields {values} are not read back as they are")


def _label_cost(label: str) -> int:
    """Bytes that a class takes in the index, at most."""
    return len(label.encode()) + 5


def _block_cost(index: Index, number: int) -> int:
    """Bytes that a block takes in the index beside its classes' names, at most."""
    keys = len(index.low[number].encode()) + len(index.high[number].encode())
    return 40 + keys + 5 * len(index.members[number])


def pack(exemplars: Iterable[Exemplar], *, source: str = "") -> bytes:
    """A whole ``.escx`` file of these exemplars in memory; its length is the size that it has on disk.

    Raises LimitError as ``Writer.add`` does.
    """
    parts: list[bytes] = []
    assembler = Assembler(parts.append)
    assembler.begin(source)
    for exemplar in exemplars:
        assembler.add(exemplar)
    assembler.finish()
    return b"".join(parts)
