"""The index: where each block is and what it holds (spec section "Index").

INDX payload: zstd(msgpack array), its values in the order of ``Index.pack``.
"""

from __future__ import annotations

import bisect
from array import array
from dataclasses import dataclass, field
from typing import Final

from escort_codec.container.block import Block
from escort_codec.container.layout import FRAME, PREAMBLE, ChunkHead
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
    MAX_RECIPES,
    MAX_SEED,
    label_fault,
)

COLUMNS: Final = 9
_MOST_COLUMNS: Final = 1 << 10  # later minor versions may add columns, up to here


@dataclass(slots=True)
class Index:
    """Offsets are bytes from the start of the file, lengths those of payloads; the lists have one entry per block.

    ``members[b]`` is [label number, its count in block b, ...]. ``low[b]`` and ``high[b]`` are the smallest and largest
    key (``label/name``, by code point) in block b, so that a name is found without a list of all names.
    """

    recipes: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    members: list[array[int]] = field(default_factory=list)
    low: list[str] = field(default_factory=list)
    high: list[str] = field(default_factory=list)
    seeds: set[int] = field(default_factory=set)
    starts: list[int] = field(default_factory=lambda: [0])

    def __len__(self) -> int:
        """Exemplars in the file."""
        return self.starts[-1]

    def add(self, offset: int, length: int, rows: list[tuple[str, str, tuple[int, ...]]]) -> None:
        """Adds a block at ``offset`` whose rows are (label, key, seeds)."""
        self.offsets.append(offset)
        self.lengths.append(length)
        self.counts.append(len(rows))
        members: dict[int, int] = {}
        for label, _, seeds in rows:
            number = self.labels.setdefault(label, len(self.labels))
            members[number] = members.get(number, 0) + 1
            self.seeds.update(seeds)
        self.members.append(_flat(members))
        self.low.append(min(key for _, key, _ in rows))
        self.high.append(max(key for _, key, _ in rows))
        self.starts.append(self.starts[-1] + len(rows))

    def add_block(self, block: Block, head: ChunkHead) -> None:
        """Adds a block that was read from the chunk at ``head``."""
        rows = [(block.labels[label], block.key(i), block.row_seeds(i)) for i, label in enumerate(block.label.tolist())]
        self.add(head.offset, head.length, rows)

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
                self.offsets,
                self.lengths,
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
        offsets = table.numbers("blocks", most, head.offset)
        n = len(offsets)
        lengths = table.numbers("lengths", n, MAX_CHUNK, n)
        counts = table.numbers("counts", n, MAX_BLOCK_EXEMPLARS, n)
        _check_places(recipes, offsets, lengths, head.offset)
        if 0 in counts or sum(counts) != total:
            raise ValueError("its counts do not add up")
        labels = table.texts("class names", min(total, MAX_LABELS))
        index = cls(recipes, offsets, lengths, counts, {v: i for i, v in enumerate(labels)})
        if len(index.labels) != len(labels) or any(label_fault(v) for v in labels):
            raise ValueError("its class names are wrong or repeat")
        table.array("classes", n, n)
        for count in counts:
            index.members.append(_members(table, count, len(labels)))
            index.starts.append(index.starts[-1] + count)
        if 0 in index.label_counts().values():
            raise ValueError("it names a class that no block holds")
        table.array("keys", 2, 2)
        index.low, index.high = (table.texts("keys", n, n) for _ in range(2))
        if any(a > b for a, b in zip(index.low, index.high, strict=True)):
            raise ValueError("its first and last keys are wrong")
        seeds = table.numbers("seeds", 2 * MAX_INDEX_SEEDS, MAX_SEED)
        index.seeds.update(unpack_runs(check_runs(seeds, MAX_INDEX_SEEDS)))
        table.end(columns - COLUMNS)
        return index

    def check_block(self, number: int, block: Block, head: ChunkHead) -> None:
        """Raises DamagedError if block ``number`` is not what the index says."""
        keys = [block.key(row) for row in range(len(block))]
        counts: dict[int, int] = {}
        for row in block.label.tolist():
            label = self.labels.get(block.labels[row], -1)
            counts[label] = counts.get(label, 0) + 1
        members = self.members[number]
        if (
            len(block) != self.counts[number]
            or counts != dict(zip(members[::2], members[1::2], strict=True))
            or min(keys) != self.low[number]
            or max(keys) != self.high[number]
        ):
            raise DamagedError("the block is not what the index says", chunk=head.name, offset=head.offset)


def _flat(pairs: dict[int, int]) -> array[int]:
    return array("I", [v for pair in pairs.items() for v in pair])


def _check_places(recipes: list[int], offsets: list[int], lengths: list[int], end: int) -> None:
    """Raises ValueError for chunks that are out of order, overlap, or lie outside bytes 12..``end``."""
    if recipes != sorted(recipes) or offsets != sorted(offsets):
        raise ValueError("its chunks are not in the file's order")
    at = len(PREAMBLE)
    for offset, length in sorted([(o, 1) for o in recipes] + list(zip(offsets, lengths, strict=True))):
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
