"""The index: where each block is and what it holds (spec section "Index").

INDX payload: zstd(msgpack array), its values in the order of ``Index.pack``.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from escort_codec.container.block import FRONT
from escort_codec.container.layout import BLOCK, FRAME, PREAMBLE, ChunkHead
from escort_codec.container.rows import Rows
from escort_codec.container.table import (
    TABLE_ERRORS,
    TableReader,
    check_runs,
    decompress,
    pack_runs,
    pack_table,
    unpack_runs,
)
from escort_codec.errors import DamagedError
from escort_codec.limits import (
    MAX_BLOCK_EXEMPLARS,
    MAX_CHUNK,
    MAX_EXEMPLARS,
    MAX_INDEX,
    MAX_INDEX_SEEDS,
    MAX_LABEL,
    MAX_LABELS,
    MAX_NAME,
    MAX_RECIPE,
    MAX_RECIPE_BYTES,
    MAX_RECIPES,
    MAX_SEED,
    label_fault,
)

COLUMNS: Final = 12
_MOST_COLUMNS: Final = 1 << 10  # later minor versions may add columns, up to here


@dataclass(slots=True)
class Index:
    """Offsets are bytes from the start of the file, lengths those of payloads; the lists have one entry per block.

    ``tables`` and ``hints`` are the lengths of a block's table and hints, so that a remote reader asks for just these.
    ``members[b]`` is [label number, its count in block b, ...]. ``low[b]`` and ``high[b]`` are the smallest and largest
    key (``label/name``, by code point) in block b, so that a name is found without a list of all names.
    """

    recipes: list[int] = field(default_factory=list)
    recipe_lengths: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    tables: list[int] = field(default_factory=list)
    hints: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    members: list[array[int]] = field(default_factory=list)
    low: list[str] = field(default_factory=list)
    high: list[str] = field(default_factory=list)
    seeds: set[int] = field(default_factory=set)
    _runs: tuple[int, ...] | None = field(default=None, compare=False)
    starts: list[int] = field(default_factory=lambda: [0])

    def __len__(self) -> int:
        """Exemplars in the file."""
        return self.starts[-1]

    def add_block(self, rows: Rows, offset: int, length: int) -> None:
        """Adds the block with this table, whose chunk begins at ``offset`` and has a payload of ``length`` bytes.

        Raises DamagedError, and adds nothing, if the seeds of all blocks are above their cap.
        """
        seeds = self.seeds.union(*map(unpack_runs, rows.seedsets()))
        if len(seeds) > MAX_INDEX_SEEDS:
            raise DamagedError(f"more than {MAX_INDEX_SEEDS} different seeds", chunk=BLOCK.decode(), offset=offset)
        self.seeds, self._runs = seeds, None
        self.offsets.append(offset)
        self.lengths.append(length)
        self.tables.append(rows.table_bytes)
        self.hints.append(rows.hint_bytes)
        self.counts.append(len(rows))
        numbers = [self.labels.setdefault(label, len(self.labels)) for label in rows.labels]
        self.members.append(_flat(zip(numbers, rows.class_counts(), strict=True)))
        low, high = rows.key_range()
        self.low.append(low)
        self.high.append(high)
        self.starts.append(self.starts[-1] + len(rows))

    def find(self, number: int) -> tuple[int, int]:
        """(block, row) of exemplar ``number`` (0..len-1)."""
        block = bisect.bisect_right(self.starts, number) - 1
        return block, number - self.starts[block]

    def label_counts(self) -> dict[str, int]:
        """Exemplars of each label, in the order of first appearance."""
        counts = [0] * len(self.labels)
        for members in self.members:
            for i in range(0, len(members), 2):
                counts[members[i]] += members[i + 1]
        return dict(zip(self.labels, counts, strict=True))

    def blocks_of(self, label: str) -> list[int]:
        """The numbers of the blocks that hold the label."""
        label_number = self.labels.get(label, -1)
        return [number for number, members in enumerate(self.members) if label_number in members[::2]]

    def pack(self) -> bytes:
        """The payload of the INDX chunk. Raises LimitError above the cap."""
        return pack_table(
            [
                len(self),
                self.recipes,
                self.recipe_lengths,
                self.offsets,
                self.lengths,
                self.tables,
                self.hints,
                self.counts,
                list(self.labels),
                [members.tolist() for members in self.members],
                [self.low, self.high],
                pack_runs(sorted(self.seeds)),
            ],
            MAX_INDEX,
        )

    @classmethod
    def unpack(cls, payload: bytes, head: ChunkHead) -> Index:
        """Reads and checks the payload of the INDX chunk at ``head``. Raises DamagedError."""
        raw = decompress(payload, MAX_INDEX, head)
        try:
            return cls._read(TableReader(raw, text_cap=MAX_LABEL + 1 + MAX_NAME), head)
        except TABLE_ERRORS as exc:
            raise DamagedError(f"the index is wrong: {exc}", chunk=head.name, offset=head.offset) from exc

    @classmethod
    def _read(cls, table: TableReader, head: ChunkHead) -> Index:
        columns = table.array("columns", _MOST_COLUMNS, COLUMNS)
        total = table.number("exemplars", MAX_EXEMPLARS)
        most = head.offset // FRAME  # no more chunks have room before the index
        recipes = table.numbers("recipes", min(most, MAX_RECIPES), head.offset)
        recipe_lengths = table.numbers("recipes' lengths", len(recipes), MAX_RECIPE, len(recipes))
        offsets = table.numbers("blocks", most, head.offset)
        n = len(offsets)
        lengths, tables, hints = (table.numbers("lengths", n, MAX_CHUNK, n) for _ in range(3))
        counts = table.numbers("counts", n, MAX_BLOCK_EXEMPLARS, n)
        if sum(recipe_lengths) > MAX_RECIPE_BYTES:
            raise ValueError(f"the recipes are above the cap of {MAX_RECIPE_BYTES} bytes")
        _check_places(
            list(zip(recipes, recipe_lengths, strict=True)), list(zip(offsets, lengths, strict=True)), head.offset
        )
        if any(FRONT + table + hint + 4 > length for length, table, hint in zip(lengths, tables, hints, strict=True)):
            raise ValueError("a table and its hints are longer than their block")
        if 0 in counts or sum(counts) != total:
            raise ValueError("its counts do not add up")
        labels = table.texts("class names", min(total, MAX_LABELS))
        index = cls(
            recipes, recipe_lengths, offsets, lengths, tables, hints, counts, {v: i for i, v in enumerate(labels)}
        )
        if len(index.labels) != len(labels) or any(label_fault(v) for v in labels):
            raise ValueError("its class names are wrong or repeat")
        table.array("classes", n, n)
        used = 0
        for count in counts:
            members = _members(table, count, len(labels))
            for number in members[::2]:
                if number > used:
                    raise ValueError("its class names are not in the order of their first use")
                used += number == used
            index.members.append(members)
            index.starts.append(index.starts[-1] + count)
        if used != len(labels):
            raise ValueError("it names a class that no block holds")
        table.array("keys", 2, 2)
        index.low, index.high = (table.texts("keys", n, n) for _ in range(2))
        if any(a > b for a, b in zip(index.low, index.high, strict=True)):
            raise ValueError("its first and last keys are wrong")
        runs = check_runs(table.numbers("seeds", 2 * MAX_INDEX_SEEDS, MAX_SEED), MAX_INDEX_SEEDS)
        index.seeds.update(unpack_runs(runs))
        index._runs = runs
        table.end(columns - COLUMNS)
        return index

    def check_block(self, number: int, rows: Rows, head: ChunkHead) -> None:
        """Raises DamagedError if block ``number`` is not what the index says."""
        unknown = len(self.labels)
        numbers = [self.labels.get(label, unknown) for label in rows.labels]
        recipe = self.recipes[most] if (most := rows.last_recipe) < len(self.recipes) else head.offset
        if (
            len(rows) != self.counts[number]
            or (rows.table_bytes, rows.hint_bytes) != (self.tables[number], self.hints[number])
            or _flat(zip(numbers, rows.class_counts(), strict=True)) != self.members[number]
            or rows.key_range() != (self.low[number], self.high[number])
            or not all(self._has(runs) for runs in rows.seedsets())
        ):
            raise DamagedError("the block is not what the index says", chunk=head.name, offset=head.offset)
        if recipe >= head.offset:
            raise DamagedError("a block's recipe comes after it", chunk=head.name, offset=head.offset)

    def _has(self, runs: Sequence[int]) -> bool:
        """Whether all these runs of seeds lie inside those of the index."""
        if self._runs is None:
            self._runs = tuple(pack_runs(sorted(self.seeds)))
        for i in range(0, len(runs), 2):
            at = bisect.bisect_left(self._runs, runs[i]) | 1  # the end of the run that holds the seed, if one does
            if at >= len(self._runs) or self._runs[at - 1] > runs[i] or self._runs[at] < runs[i + 1]:
                return False
        return True


def _flat(pairs: Iterable[tuple[int, int]]) -> array[int]:
    return array("I", [v for pair in pairs for v in pair])


def _check_places(recipes: list[tuple[int, int]], blocks: list[tuple[int, int]], end: int) -> None:
    """Raises ValueError for chunks (offset, length) out of order, that overlap, or lie outside bytes 12..``end``."""
    if recipes != sorted(recipes) or blocks != sorted(blocks):
        raise ValueError("its chunks are not in the file's order")
    at = len(PREAMBLE)
    for offset, length in sorted(recipes + blocks):
        if offset < at:
            raise ValueError(f"the chunk at byte {offset} overlaps another")
        at = offset + length + FRAME
    if at > end:
        raise ValueError("a chunk lies beyond the index")


def _members(table: TableReader, count: int, labels: int) -> array[int]:
    """A block's classes, each once, with counts that add up to ``count``. Raises ValueError."""
    flat = table.numbers("classes", 2 * min(count, labels), max(count, labels), 2)
    pairs = dict(zip(flat[::2], flat[1::2], strict=False))
    if 2 * len(pairs) != len(flat) or sum(pairs.values()) != count or 0 in pairs.values() or max(pairs) >= labels:
        raise ValueError("a block's classes do not add up")
    return array("I", flat)
