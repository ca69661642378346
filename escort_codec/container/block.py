"""Blocks: up to a few hundred exemplars, columnar (spec section "Blocks").

    .- BLCK payload -----------------------------------------------------------.
    |  table length, u32  |  table: zstd(msgpack array)  |  payloads, one after  |
    |                     |                              |  another: row 0's     |
    |                     |                              |  bits, its hint, ...  |
    '---------------------------------------------------------------------------'

The table is an array of 17 values in the order of ``_pack``'s list. A **column** of numbers is one integer where all
rows agree, else n, 2n or 4n bytes: all low bytes, then all second bytes, ... A **dictionary** is the list of the
distinct values in the order of their first use; its column numbers them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from escort_codec.coding import codings
from escort_codec.container.checks import label_fault, name_fault, size_fault, text_fault
from escort_codec.container.layout import ChunkHead, pack_table, unpack_table
from escort_codec.errors import DamagedError
from escort_codec.exemplar import EdgeSettings, Exemplar, Recipe
from escort_codec.limits import (
    MAX_BLOCK_EXEMPLARS,
    MAX_HINT,
    MAX_PAYLOAD,
    MAX_PROMPT,
    MAX_RECIPES,
    MAX_SEED,
    MAX_SEEDS,
    MAX_TABLE,
)

COLUMNS = 17
PROMPT, REAL = 0, 1
T = TypeVar("T")


def pack_runs(seeds: Sequence[int]) -> list[int]:
    """Rising numbers as [first, last, first, last, ...] of their runs."""
    runs: list[int] = []
    for seed in seeds:
        if runs and runs[-1] == seed - 1:
            runs[-1] = seed
        else:
            runs += [seed, seed]
    return runs


def check_runs(runs: Any, cap: int) -> list[int]:
    """``runs`` where they are what ``pack_runs`` writes of at most ``cap`` seeds; raises ValueError.

    Nothing is unpacked, so a few bytes cannot ask for much memory.
    """
    if not isinstance(runs, list) or len(runs) % 2 or not all(type(v) is int for v in runs):
        raise ValueError("seeds are not runs of numbers")
    pairs = list(zip(runs[::2], runs[1::2], strict=True))
    if any(not 0 <= a <= b <= MAX_SEED for a, b in pairs) or any(
        pairs[i][1] + 1 >= pairs[i + 1][0] for i in range(len(pairs) - 1)
    ):
        raise ValueError("seeds do not rise")
    if sum(b - a + 1 for a, b in pairs) > cap:
        raise ValueError(f"more seeds than the cap of {cap}")
    return runs


def unpack_runs(runs: Sequence[int]) -> tuple[int, ...]:
    """The inverse of ``pack_runs``, for runs that were checked."""
    return tuple(seed for a, b in zip(runs[::2], runs[1::2], strict=True) for seed in range(a, b + 1))


def _pack_column(values: Sequence[int]) -> int | bytes:
    if all(v == values[0] for v in values):
        return int(values[0])
    array = np.asarray(values, "<u4")
    width = 1 if array.max() < 1 << 8 else 2 if array.max() < 1 << 16 else 4
    return array.view(np.uint8).reshape(-1, 4)[:, :width].T.tobytes()


def _unpack_column(what: str, value: Any, rows: int, top: int) -> NDArray[np.int64]:
    """The column as int64 (rows,), every value in 0..top; raises ValueError."""
    if type(value) is int:
        if not 0 <= value <= top:
            raise ValueError(f"{what} {value} is outside 0 to {top}")
        return np.full(rows, value, np.int64)
    if not isinstance(value, bytes) or len(value) not in (rows, 2 * rows, 4 * rows):
        raise ValueError(f"the column of {what} is not of {rows} rows")
    width = len(value) // rows
    planes = np.zeros((rows, 4), np.uint8)
    planes[:, :width] = np.frombuffer(value, np.uint8).reshape(width, rows).T
    column = planes.view("<u4").reshape(rows).astype(np.int64)
    if int(column.max()) > top:
        raise ValueError(f"{what} {int(column.max())} is outside 0 to {top}")
    if bool((column == column[0]).all()) or (width > 1 and int(column.max()) < 1 << (4 * width)):
        raise ValueError(f"the column of {what} is wider than it needs to be")
    return column


def _numbered(values: Iterable[T | None]) -> tuple[list[T], list[int]]:
    """(distinct values in order of first use, each row's number from 1 on; None is 0)."""
    numbers: dict[T, int] = {}
    rows = [0 if v is None else numbers.setdefault(v, len(numbers) + 1) for v in values]
    return list(numbers), rows


def encode_block(exemplars: Sequence[Exemplar], recipes: Sequence[int]) -> bytes:
    """The payload of a BLCK chunk; ``recipes`` are the rows' recipe numbers. The exemplars have been checked."""
    labels, label = _numbered(e.label for e in exemplars)
    texts, text = _numbered(None if e.prompt == e.label else e.prompt for e in exemplars)
    seedsets, seeds = _numbered(e.seeds for e in exemplars)
    makings, made = _numbered(
        None if e.made is None else (e.made.low, e.made.high, round(e.made.blur * 100), e.made.min_contour)
        for e in exemplars
    )
    same = [e.kind == "real" or e.map_shape == e.size for e in exemplars]
    names = [e.name for e in exemplars]
    table: list[Any] = [
        len(exemplars),
        labels,
        _pack_column([v - 1 for v in label]),
        names if any(names) else [],
        _pack_column([REAL if e.kind == "real" else PROMPT for e in exemplars]),
        texts,
        _pack_column(text),
        _pack_column([e.size[0] for e in exemplars]),
        _pack_column([e.size[1] for e in exemplars]),
        _pack_column([0 if s else e.map_shape[0] for s, e in zip(same, exemplars, strict=True)]),
        _pack_column([0 if s else e.map_shape[1] for s, e in zip(same, exemplars, strict=True)]),
        _pack_column([codings.get(e.coding).number if e.coding else 0 for e in exemplars]),
        _pack_column([len(e.payload) for e in exemplars]),
        _pack_column([len(e.hint or b"") for e in exemplars]),
        [[pack_runs(s) for s in seedsets], _pack_column([v - 1 for v in seeds])],
        [[list(m) for m in makings], _pack_column(made)],
        _pack_column(recipes),
    ]
    packed = pack_table(table, MAX_TABLE)
    payloads = (part for e in exemplars for part in (e.payload, e.hint or b""))
    return b"".join((struct.pack("<I", len(packed)), packed, *payloads))


class Block:
    """A block that was read: its columns checked, its payloads not yet decoded. Row i is ``block[i]``."""

    def __init__(self, payload: bytes, head: ChunkHead, recipes: Sequence[Recipe] | None) -> None:
        """``recipes``: the file's recipes by number, or None where they are not known yet (see ``recipes``).

        Raises DamagedError, naming chunk and offset.
        """
        if len(payload) < 4:
            raise DamagedError("a block has no table", chunk=head.name, offset=head.offset)
        (length,) = struct.unpack("<I", payload[:4])
        if 4 + length > len(payload):
            raise DamagedError("a block's table is longer than the block", chunk=head.name, offset=head.offset)
        table = unpack_table(payload[4 : 4 + length], MAX_TABLE, head)
        self.payload = payload
        self._table = table
        self.table_bytes = length
        self.recipes = recipes or ()
        top = MAX_RECIPES - 1 if recipes is None else len(recipes) - 1
        try:
            self._read(table, len(payload) - 4 - length, top)
        except (ValueError, TypeError, IndexError, OverflowError) as exc:
            raise DamagedError(f"a block's table is wrong: {exc}", chunk=head.name, offset=head.offset) from exc

    def _read(self, table: Any, payload_bytes: int, top_recipe: int) -> None:
        if not isinstance(table, list) or len(table) < COLUMNS:  # later minor versions may add columns
            raise ValueError(f"it has not {COLUMNS} columns")
        n = table[0]
        if type(n) is not int or not 1 <= n <= MAX_BLOCK_EXEMPLARS:
            raise ValueError(f"a block has 1 to {MAX_BLOCK_EXEMPLARS} exemplars, not {n!r}")
        self.rows: int = n
        self.labels = _texts("class name", table[1], n)
        self.names = _texts("name", table[3], n) or [""] * n
        self._texts = _texts("prompt", table[5], n)
        faults = [label_fault(v) for v in self.labels] + [name_fault(v) for v in self.names]
        faults += [text_fault("prompt", v, MAX_PROMPT) for v in self._texts]
        fault = next((f for f in faults if f), None)
        if fault or len(self.names) != n or len(set(self.labels)) != len(self.labels):
            raise ValueError(fault or "names or class names do not fit the rows")
        self.label = _unpack_column("class", table[2], n, len(self.labels) - 1)
        self.kind = _unpack_column("kind", table[4], n, REAL)
        self.text = _unpack_column("prompt", table[6], n, len(self._texts))
        self.size = np.stack([_unpack_column("side", table[i], n, 0xFFFF) for i in (7, 8)], 1)
        shape = np.stack([_unpack_column("map side", table[i], n, 0xFFFF) for i in (9, 10)], 1)
        self.map_shape = np.where((shape == 0).all(1, keepdims=True), self.size, shape)
        for what, sizes in (("an image", self.size), ("an edge map", self.map_shape)):
            for height, width in sizes.tolist():
                if fault := size_fault(what, height, width):
                    raise ValueError(fault)
        own = (shape != 0).any(1)
        if (own & ((shape == 0).any(1) | (shape == self.size).all(1))).any():
            raise ValueError("a map's size is half given, or repeats its image's")
        self.coding = _unpack_column("coding", table[11], n, 0xFFFF)
        self.bits = _unpack_column("payload length", table[12], n, MAX_PAYLOAD)
        self.hint = _unpack_column("hint length", table[13], n, MAX_HINT)
        (sets, seeds), (makings, made) = table[14], table[15]
        if not isinstance(sets, list) or not isinstance(makings, list) or max(len(sets), len(makings)) > n:
            raise ValueError("seeds or settings are no dictionaries")
        self._seedsets = [check_runs(runs, MAX_SEEDS) for runs in sets]
        self.seeds = _unpack_column("seeds", seeds, n, len(sets) - 1)
        self.settings = [_making(m) for m in makings]
        self.made = _unpack_column("settings", made, n, len(makings))
        self.recipe = _unpack_column("recipe", table[16], n, top_recipe)
        real = self.kind == REAL
        if (real & ((self.hint > 0) | (self.coding > 0) | (self.made > 0) | (shape > 0).any(1))).any():
            raise ValueError("a real exemplar has an edge map's fields")
        if (real & (self.bits == 0)).any() or (~real & (self.made == 0)).any():
            raise ValueError("a real exemplar is empty, or a prompt does not say how it was made")
        numbers = {c.number: c.name for c in codings}
        if unknown := set(self.coding[~real].tolist()) - set(numbers):
            raise ValueError(f"coding {min(unknown)} needs a newer escort")
        self._codings = [numbers.get(c, "") if k == PROMPT else "" for c, k in zip(self.coding, self.kind, strict=True)]
        ends = np.cumsum(self.bits + self.hint)
        if int(ends[-1]) != payload_bytes:
            raise ValueError(f"its payloads are {int(ends[-1])} bytes, but {payload_bytes} are there")
        self._starts = np.concatenate(([0], ends[:-1])) + 4 + self.table_bytes

    def __len__(self) -> int:
        return self.rows

    def key(self, row: int) -> str:
        """``label/name`` of a row."""
        return f"{self.labels[self.label[row]]}/{self.names[row]}"

    def table_without_texts(self) -> list[Any]:
        """The table with its classes, names and prompts left out: to measure what they cost."""
        return [[] if i in (1, 3, 5) else column for i, column in enumerate(self._table)]

    def row_seeds(self, row: int) -> tuple[int, ...]:
        """The seeds recorded for a row."""
        return unpack_runs(self._seedsets[self.seeds[row]])

    def __getitem__(self, row: int) -> Exemplar:
        """Row 0 <= row < len(self)."""
        start = int(self._starts[row])
        middle = start + int(self.bits[row])
        end = middle + int(self.hint[row])
        label = self.labels[self.label[row]]
        text = int(self.text[row])
        made = int(self.made[row])
        prompt = self.kind[row] == PROMPT
        return Exemplar(
            kind="prompt" if prompt else "real",
            label=label,
            name=self.names[row],
            size=(int(self.size[row, 0]), int(self.size[row, 1])),
            prompt=self._texts[text - 1] if text else label,
            seeds=self.row_seeds(row),
            payload=self.payload[start:middle],
            coding=self._codings[row],
            map_shape=(int(self.map_shape[row, 0]), int(self.map_shape[row, 1])) if prompt else (0, 0),
            hint=self.payload[middle:end] if end > middle else None,
            made=self.settings[made - 1] if made else None,
            recipe=self.recipes[self.recipe[row]],
        )


def _texts(what: str, values: Any, cap: int) -> list[str]:
    """A list of at most ``cap`` texts; raises ValueError."""
    if not isinstance(values, list) or len(values) > cap or not all(isinstance(v, str) for v in values):
        raise ValueError(f"the list of each {what} is not a list of at most {cap} texts")
    return values


def _making(values: Any) -> EdgeSettings:
    if not isinstance(values, list) or len(values) != 4 or not all(type(v) is int and 0 <= v <= 0xFFFF for v in values):
        raise ValueError("settings of an edge map are not four numbers")
    low, high, blur, contour = values
    return EdgeSettings(low=low, high=high, blur=blur / 100, min_contour=contour)
