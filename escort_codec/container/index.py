"""The index: where each block stands and what is in it (spec section "Index").

INDX payload: zstd(msgpack array) of ten values, in the order of ``Index.pack``'s list.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import Any

from escort_codec.container.block import Block, check_runs, pack_runs, unpack_runs
from escort_codec.container.checks import label_fault
from escort_codec.container.layout import FRAME, PREAMBLE, ChunkHead, pack_table, unpack_table
from escort_codec.errors import DamagedError
from escort_codec.exemplar import Exemplar
from escort_codec.limits import MAX_BLOCK_EXEMPLARS, MAX_CHUNK, MAX_EXEMPLARS, MAX_INDEX, MAX_INDEX_SEEDS, MAX_RECIPES

COLUMNS = 9


@dataclass(slots=True)
class Index:
    """Offsets are bytes from the file's start, lengths those of payloads; lists run parallel over the blocks.

    ``members[b]`` maps a label's number to its count in block b; ``low[b]`` and ``high[b]`` are the smallest and
    largest key (``label/name``, by code point) in block b, so that a name is found without a list of all names.
    """

    recipes: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    members: list[dict[int, int]] = field(default_factory=list)
    low: list[str] = field(default_factory=list)
    high: list[str] = field(default_factory=list)
    seeds: set[int] = field(default_factory=set)
    starts: list[int] = field(default_factory=lambda: [0])

    def __len__(self) -> int:
        """Exemplars in the file."""
        return self.starts[-1]

    def add(self, offset: int, length: int, rows: list[tuple[str, str, tuple[int, ...]]]) -> None:
        """Notes a block at ``offset`` of (label, key, seeds) rows."""
        self.offsets.append(offset)
        self.lengths.append(length)
        self.counts.append(len(rows))
        members: dict[int, int] = {}
        for label, _, seeds in rows:
            number = self.labels.setdefault(label, len(self.labels))
            members[number] = members.get(number, 0) + 1
            self.seeds.update(seeds)
        self.members.append(members)
        self.low.append(min(key for _, key, _ in rows))
        self.high.append(max(key for _, key, _ in rows))
        self.starts.append(self.starts[-1] + len(rows))

    def find(self, number: int) -> tuple[int, int]:
        """(block, row) of exemplar ``number``, which is within 0..len-1."""
        block = bisect.bisect_right(self.starts, number) - 1
        return block, number - self.starts[block]

    def label_counts(self) -> dict[str, int]:
        """Exemplars of each label, in the order of first appearance."""
        counts = [0] * len(self.labels)
        for members in self.members:
            for number, count in members.items():
                counts[number] += count
        return dict(zip(self.labels, counts, strict=True))

    def pack(self) -> bytes:
        """The payload of the INDX chunk."""
        return pack_table(
            [
                len(self),
                self.recipes,
                self.offsets,
                self.lengths,
                self.counts,
                list(self.labels),
                [[v for pair in members.items() for v in pair] for members in self.members],
                [self.low, self.high],
                pack_runs(sorted(self.seeds)),
            ],
            MAX_INDEX,
        )

    @classmethod
    def unpack(cls, payload: bytes, head: ChunkHead) -> Index:
        """Reads and checks the payload of the INDX chunk at ``head``; raises DamagedError."""
        table = unpack_table(payload, MAX_INDEX, head)
        try:
            return cls._read(table, head)
        except (ValueError, TypeError) as exc:
            raise DamagedError(f"the index is wrong: {exc}", chunk=head.name, offset=head.offset) from exc

    @classmethod
    def _read(cls, table: Any, head: ChunkHead) -> Index:
        if not isinstance(table, list) or len(table) < COLUMNS:
            raise ValueError(f"it has not {COLUMNS} columns")
        total, recipes, offsets, lengths, counts, labels, members, (low, high), seeds = table[:COLUMNS]
        for what, values in (("recipe", recipes), ("offset", offsets), ("length", lengths), ("count", counts)):
            if not isinstance(values, list) or not all(type(v) is int and v >= 0 for v in values):
                raise ValueError(f"the list of each {what} is not a list of numbers")
        blocks = len(offsets)
        if any(not isinstance(v, list) or len(v) != blocks for v in (lengths, counts, members, low, high)):
            raise ValueError("its columns differ in length")
        if not all(isinstance(v, str) for v in (*low, *high)) or any(a > b for a, b in zip(low, high, strict=True)):
            raise ValueError("its first and last keys are wrong")
        chunks = sorted([(o, 1) for o in recipes] + list(zip(offsets, lengths, strict=True)))
        if recipes != sorted(recipes) or offsets != sorted(offsets) or len(recipes) > MAX_RECIPES:
            raise ValueError("its chunks are not in the file's order")
        at = len(PREAMBLE)
        for offset, length in chunks:
            if offset < at or length > MAX_CHUNK:
                raise ValueError(f"the chunk at byte {offset} overlaps another")
            at = offset + length + FRAME
        if at > head.offset:
            raise ValueError("a chunk lies beyond the index")
        if any(not 1 <= c <= MAX_BLOCK_EXEMPLARS for c in counts) or sum(counts) != total or total > MAX_EXEMPLARS:
            raise ValueError("its counts do not add up")
        if not isinstance(labels, list) or not all(isinstance(v, str) for v in labels):
            raise ValueError("its class names are no texts")
        if len(set(labels)) != len(labels) or any(label_fault(v) for v in labels):
            raise ValueError("its class names are wrong or repeat")
        index = cls(recipes, offsets, lengths, counts, {v: i for i, v in enumerate(labels)}, [], low, high)
        for flat, count in zip(members, counts, strict=True):
            if not isinstance(flat, list) or len(flat) % 2 or not all(type(v) is int and v >= 0 for v in flat):
                raise ValueError("a block's classes are no pairs")
            pairs = dict(zip(flat[::2], flat[1::2], strict=True))
            if 2 * len(pairs) != len(flat) or sum(pairs.values()) != count or 0 in pairs.values():
                raise ValueError("a block's classes do not add up")
            if max(pairs) >= len(labels):
                raise ValueError("a block has a class that the index does not name")
            index.members.append(pairs)
            index.starts.append(index.starts[-1] + count)
        if any(c == 0 for c in index.label_counts().values()):
            raise ValueError("it names a class that no block has")
        index.seeds.update(unpack_runs(check_runs(seeds, MAX_INDEX_SEEDS)))
        return index

    def check_block(self, number: int, block: Block, head: ChunkHead) -> None:
        """Raises DamagedError where block ``number`` is not what the index says of it."""
        keys = [block.key(row) for row in range(len(block))]
        counts: dict[int, int] = {}
        for row in block.label.tolist():
            label = self.labels.get(block.labels[row], -1)
            counts[label] = counts.get(label, 0) + 1
        if (
            len(block) != self.counts[number]
            or counts != self.members[number]
            or min(keys) != self.low[number]
            or max(keys) != self.high[number]
        ):
            raise DamagedError("the block is not what the index says of it", chunk=head.name, offset=head.offset)


def rows_of(exemplars: list[Exemplar]) -> list[tuple[str, str, tuple[int, ...]]]:
    """What ``Index.add`` notes of a block's exemplars."""
    return [(e.label, e.key, e.seeds) for e in exemplars]
