"""Blocks: up to a few hundred exemplars, columnar (spec section "Blocks").

    .- BLCK payload -----------------------------------------------------------.
    |  table length, u32  |  table: zstd(msgpack array)  |  payloads, one after  |
    |                     |                              |  another: row 0's     |
    |                     |                              |  payload, hint, ...   |
    '---------------------------------------------------------------------------'

The table is an array of 17 values in the order of ``encode_block``: columns and dictionaries (see ``table``).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import Any, Final

import msgpack
import numpy as np
from numpy.typing import NDArray

from escort_codec.coding import codings
from escort_codec.container.layout import ChunkHead
from escort_codec.container.table import (
    TABLE_ERRORS,
    TableReader,
    check_runs,
    decompress,
    number_values,
    pack_column,
    pack_runs,
    pack_table,
    unpack_column,
    unpack_runs,
)
from escort_codec.errors import DamagedError
from escort_codec.exemplar import Exemplar
from escort_codec.limits import (
    MAX_BLOCK_EXEMPLARS,
    MAX_HINT,
    MAX_PAYLOAD,
    MAX_PROMPT,
    MAX_RECIPES,
    MAX_SEED,
    MAX_SEEDS,
    MAX_TABLE,
    label_fault,
    name_fault,
    size_fault,
    text_fault,
)
from escort_codec.recipe import EdgeSettings, Recipe

COLUMNS: Final = 17
PROMPT: Final = 0
REAL: Final = 1
_TEXT_COLUMNS: Final = (1, 3, 5)
_MOST_COLUMNS: Final = 1 << 10  # later minor versions may add columns, up to here


def encode_block(exemplars: Sequence[Exemplar], recipes: Sequence[int]) -> bytes:
    """The payload of a BLCK chunk: checked exemplars and their recipe numbers."""
    labels, label = number_values(e.label for e in exemplars)
    texts, text = number_values(None if e.prompt == e.label else e.prompt for e in exemplars)
    seedsets, seeds = number_values(e.seeds for e in exemplars)
    settings, setting = number_values(_pack_settings(e.edge_settings) for e in exemplars)
    same = [e.kind == "real" or e.map_shape == e.size for e in exemplars]
    names = [e.name for e in exemplars]
    table: list[Any] = [
        len(exemplars),
        labels,
        pack_column([v - 1 for v in label]),
        names if any(names) else [],
        pack_column([REAL if e.kind == "real" else PROMPT for e in exemplars]),
        texts,
        pack_column(text),
        pack_column([e.size[0] for e in exemplars]),
        pack_column([e.size[1] for e in exemplars]),
        pack_column([0 if s else e.map_shape[0] for s, e in zip(same, exemplars, strict=True)]),
        pack_column([0 if s else e.map_shape[1] for s, e in zip(same, exemplars, strict=True)]),
        pack_column([codings.get(e.coding).number if e.coding else 0 for e in exemplars]),
        pack_column([len(e.payload) for e in exemplars]),
        pack_column([len(e.hint or b"") for e in exemplars]),
        [[pack_runs(s) for s in seedsets], pack_column([v - 1 for v in seeds])],
        [[list(s) for s in settings], pack_column(setting)],
        pack_column(recipes),
    ]
    packed = pack_table(table, MAX_TABLE)
    payloads = (part for e in exemplars for part in (e.payload, e.hint or b""))
    return b"".join((struct.pack("<I", len(packed)), packed, *payloads))


class Block:
    """A block read from a file: its columns checked, its payloads not yet decoded. Row i is ``block[i]``.

    ``memory`` is roughly the number of bytes that it takes.
    """

    def __init__(self, payload: bytes, head: ChunkHead, recipes: Sequence[Recipe] | None) -> None:
        """``recipes``: the file's recipes by number, or None if they are not known yet. Raises DamagedError."""
        if len(payload) < 4:
            raise DamagedError("a block has no table", chunk=head.name, offset=head.offset)
        (length,) = struct.unpack("<I", payload[:4])
        if 4 + length > len(payload):
            raise DamagedError("a block's table is longer than the block", chunk=head.name, offset=head.offset)
        raw = decompress(payload[4 : 4 + length], MAX_TABLE, head)
        self.payload = payload
        self.table_bytes = length
        self.recipes = recipes or ()
        self._head = head
        top = MAX_RECIPES - 1 if recipes is None else len(recipes) - 1
        try:
            self._read(TableReader(raw, text_cap=MAX_PROMPT, bytes_cap=4 * MAX_BLOCK_EXEMPLARS), top)
            self._check_rows(len(payload) - 4 - length)
        except TABLE_ERRORS as exc:
            raise DamagedError(f"a block's table is wrong: {exc}", chunk=head.name, offset=head.offset) from exc
        self.memory = len(payload) + 3 * len(raw) + 256 * self.rows

    def _read(self, table: TableReader, top_recipe: int) -> None:
        columns = table.array("columns", _MOST_COLUMNS, COLUMNS)
        n = self.rows = table.number("rows", MAX_BLOCK_EXEMPLARS)
        if not n:
            raise ValueError("it has no rows")

        def column(what: str, top: int) -> NDArray[np.int64]:
            return unpack_column(what, table.value(), n, top)

        self.labels = table.texts("class names", n, 1)
        self.label = column("class", len(self.labels) - 1)
        self.names = table.texts("names", n) or [""] * n
        self.kind = column("kind", REAL)
        self._texts = table.texts("prompts", n)
        self.text = column("prompt", len(self._texts))
        self.size = np.stack([column("side", 0xFFFF) for _ in range(2)], 1)
        self._own_shape = np.stack([column("map side", 0xFFFF) for _ in range(2)], 1)
        self.map_shape = np.where((self._own_shape == 0).all(1, keepdims=True), self.size, self._own_shape)
        self.coding = column("coding", 0xFFFF)
        self.payload_lengths = column("payload length", MAX_PAYLOAD)
        self.hint_lengths = column("hint length", MAX_HINT)
        table.array("seeds", 2, 2)
        self._seedsets: list[array[int]] = [
            check_runs(table.numbers("seeds", 2 * MAX_SEEDS, MAX_SEED), MAX_SEEDS)
            for _ in range(table.array("seeds", n, 1))
        ]
        self.seeds = column("seeds", len(self._seedsets) - 1)
        table.array("settings", 2, 2)
        rows = [table.numbers("settings", 4, 0xFFFF, 4) for _ in range(table.array("settings", n))]
        self.settings = [EdgeSettings(low=a, high=b, blur=c / 100, min_contour=d) for a, b, c, d in rows]
        self.setting = column("settings", len(rows))
        self.recipe = column("recipe", top_recipe)
        table.end(columns - COLUMNS)

    def _check_rows(self, payload_bytes: int) -> None:
        """Checks the columns against each other. Raises ValueError."""
        faults = [label_fault(v) for v in self.labels] + [name_fault(v) for v in self.names]
        faults += [text_fault("prompt", v, MAX_PROMPT) for v in self._texts]
        for what, sizes in (("an image", self.size), ("an edge map", self.map_shape)):
            faults += [size_fault(what, height, width) for height, width in sizes.tolist()]
        if fault := next((f for f in faults if f), None):
            raise ValueError(fault)
        if len(self.names) != self.rows or len(set(self.labels)) != len(self.labels):
            raise ValueError("names do not fit the rows, or a class is named twice")
        shape = self._own_shape
        if ((shape != 0).any(1) & ((shape == 0).any(1) | (shape == self.size).all(1))).any():
            raise ValueError("a map's size is incomplete, or repeats its image's")
        real = self.kind == REAL
        if (real & ((self.hint_lengths > 0) | (self.coding > 0) | (self.setting > 0) | (shape > 0).any(1))).any():
            raise ValueError("a real exemplar has an edge map's fields")
        if (real & (self.payload_lengths == 0)).any() or (~real & (self.setting == 0)).any():
            raise ValueError("a real exemplar is empty, or a prompt has no edge settings")
        numbers = {c.number: c.name for c in codings}
        if unknown := set(self.coding[~real].tolist()) - set(numbers):
            raise ValueError(f"coding {min(unknown)} needs a newer escort")
        self._codings = [
            numbers.get(c, "") if k == PROMPT else ""
            for c, k in zip(self.coding.tolist(), self.kind.tolist(), strict=True)
        ]
        lengths = self.payload_lengths + self.hint_lengths
        if int(lengths.max()) > MAX_PAYLOAD:
            raise ValueError(f"an exemplar of {int(lengths.max())} bytes is above the cap of {MAX_PAYLOAD}")
        ends = np.cumsum(lengths)
        if int(ends[-1]) != payload_bytes:
            raise ValueError(f"its payloads should have {int(ends[-1])} bytes, but have {payload_bytes}")
        self._starts = np.concatenate(([0], ends[:-1])) + 4 + self.table_bytes

    def __len__(self) -> int:
        return self.rows

    def key(self, row: int) -> str:
        """``label/name`` of a row."""
        return f"{self.labels[self.label[row]]}/{self.names[row]}"

    def table_without_texts(self) -> list[Any]:
        """The table without classes, names and prompts, to measure what they cost."""
        raw = decompress(self.payload[4 : 4 + self.table_bytes], MAX_TABLE, self._head)
        unpacker = msgpack.Unpacker(None, raw=False, max_buffer_size=len(raw))
        unpacker.feed(raw)
        unpacker.read_array_header()
        return [unpacker.skip() or [] if i in _TEXT_COLUMNS else unpacker.unpack() for i in range(COLUMNS)]

    def row_seeds(self, row: int) -> tuple[int, ...]:
        """The seeds recorded for a row."""
        return unpack_runs(self._seedsets[self.seeds[row]])

    def __getitem__(self, row: int) -> Exemplar:
        """Row 0 <= row < len(self)."""
        start = int(self._starts[row])
        middle = start + int(self.payload_lengths[row])
        end = middle + int(self.hint_lengths[row])
        label = self.labels[self.label[row]]
        text = int(self.text[row])
        setting = int(self.setting[row])
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
            edge_settings=self.settings[setting - 1] if setting else None,
            recipe=self.recipes[self.recipe[row]],
        )


def _pack_settings(made: EdgeSettings | None) -> tuple[int, int, int, int] | None:
    return None if made is None else (made.low, made.high, round(made.blur * 100), made.min_contour)
