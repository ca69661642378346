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
from escort_codec.exemplar import Exemplar, Recipe
from escort_codec.limits import MAX_EXEMPLARS, MAX_INDEX, MAX_INDEX_SEEDS, MAX_RECIPE, MAX_RECIPES, MAX_SOURCE

BLOCK_EXEMPLARS = 256
BLOCK_BYTES = 1 << 20
_INDEX_RESERVE = 64  # bytes of the index for a block, beside its keys and classes, rounded up


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
        self.index = Index()
        self.offset = 0

    def begin(self, source: str, writer: str | None = None) -> None:
        """The preamble and the head of a new file."""
        if fault := text_fault("source", source, MAX_SOURCE):
            raise LimitError(fault)
        self._write(PREAMBLE)
        head = {"source": source, "writer": writer or f"escort {escort_codec.__version__}"}
        self._write(make_chunk(HEAD, msgpack.packb(head)))

    def resume(self, index: Index, recipes: Iterable[Recipe], keys: Iterable[str], end: int) -> None:
        """Goes on behind byte ``end`` of a file that holds what ``index``, ``recipes`` and ``keys`` say."""
        self.index = index
        self._recipes = {recipe: number for number, recipe in enumerate(recipes)}
        self._keys = {hash(key) for key in keys}
        self._seeds = set(index.seeds)
        self._index_bytes = sum(
            self._index_cost(low, high, len(members))
            for low, high, members in zip(index.low, index.high, index.members, strict=True)
        )
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
        if len(self) >= MAX_EXEMPLARS or self._index_bytes > MAX_INDEX - (1 << 20):
            raise LimitError(f"a file holds no more than these {len(self)} exemplars: begin another one")
        key = hash(exemplar.key)  # 64 bits: of a million names, two share one by chance once in 30 million files
        if exemplar.name and key in self._keys:
            raise LimitError(f"{exemplar.key}: there is an exemplar of that name already")
        if not self._seeds.issuperset(exemplar.seeds):
            self._seeds.update(exemplar.seeds)
            if len(self._seeds) > MAX_INDEX_SEEDS:
                raise LimitError(f"{exemplar.key}: a file holds no more than {MAX_INDEX_SEEDS} different seeds")
        number = self._recipe(exemplar.recipe)
        self._keys.add(key)
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
        self.index.add(offset, len(payload), [(e.label, e.key, e.seeds) for e in exemplars])
        self._index_bytes += self._index_cost(self.index.low[-1], self.index.high[-1], len(self.index.members[-1]))
        self._pending, self._pending_bytes = [], 0

    def finish(self) -> None:
        """Writes what waits, the index and the trailer. More may be added afterwards, and finished again."""
        self.flush()
        offset = self.offset
        chunk = make_chunk(INDEX, self.index.pack())
        self._write(chunk + make_tail(offset, offset + len(chunk) + TAIL_SIZE))

    def _recipe(self, recipe: Recipe) -> int:
        if recipe in self._recipes:
            return self._recipes[recipe]
        number = len(self._recipes)
        body = msgpack.packb([number, recipe.to_map()])
        if len(body) > MAX_RECIPE or number >= MAX_RECIPES:
            raise LimitError(f"a recipe has {len(body)} bytes: the cap is {MAX_RECIPE}, and {MAX_RECIPES} a file")
        self.flush()
        self.index.recipes.append(self.offset)
        self._recipes[recipe] = number
        self._write(make_chunk(RECIPE, body))
        return number

    def _write(self, data: bytes) -> None:
        self._sink(data)
        self.offset += len(data)

    @staticmethod
    def _index_cost(low: str, high: str, labels: int) -> int:
        return _INDEX_RESERVE + 4 * len(low) + 4 * len(high) + 14 * labels


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
