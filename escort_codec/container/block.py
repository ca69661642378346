"""Blocks: up to a few hundred exemplars, columnar (spec section "Blocks").

    .- BLCK payload ------------------------------------------------------------------------------------.
    |  table length, u32  |  hints length, u32  |  table: zstd(msgpack array)  |  CRC-32 of all before   |
    |  hint 0, hint 1, ...  |  CRC-32 of the hints  |  payload 0, payload 1, ...                         |
    '---------------------------------------------------------------------------------------------------'

The table is an array of 18 values in the order of ``encode_block``: columns and dictionaries (see ``table``). A remote
reader gets table and hints without the payloads.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final

from escort_codec.coding import codings
from escort_codec.container.layout import WRONG_SUM, ChunkHead
from escort_codec.container.rows import PROMPT, Rows
from escort_codec.container.table import (
    TABLE_ERRORS,
    cell,
    decompress,
    number_values,
    pack_column,
    pack_runs,
    pack_table,
)
from escort_codec.errors import DamagedError
from escort_codec.exemplar import KINDS, Exemplar
from escort_codec.limits import MAX_RECIPES, MAX_TABLE
from escort_codec.recipe import HINT_CODECS, EdgeSettings, Recipe

_LENGTHS: Final = struct.Struct("<II")  # of the table and of the hints
FRONT: Final = _LENGTHS.size + 4  # bytes of a block besides table, hints and payloads, without the CRC of the hints


def encode_block(exemplars: Sequence[Exemplar], recipes: Sequence[int]) -> bytes:
    """The payload of a BLCK chunk: checked exemplars and their recipe numbers."""
    labels, label = number_values(e.label for e in exemplars)
    texts, text = number_values(None if e.prompt == e.label else e.prompt for e in exemplars)
    seedsets, seeds = number_values(e.seeds for e in exemplars)
    settings, setting = number_values(_pack_settings(e.edge_settings) for e in exemplars)
    same = [e.kind != "prompt" or e.map_shape == e.size for e in exemplars]
    names = [e.name for e in exemplars]
    hints = b"".join(e.hint or b"" for e in exemplars)
    table: list[Any] = [
        len(exemplars),
        labels,
        pack_column([v - 1 for v in label]),
        names if any(names) else [],
        pack_column([KINDS.index(e.kind) for e in exemplars]),
        texts,
        pack_column(text),
        pack_column([e.size[0] for e in exemplars]),
        pack_column([e.size[1] for e in exemplars]),
        pack_column([0 if s else e.map_shape[0] for s, e in zip(same, exemplars, strict=True)]),
        pack_column([0 if s else e.map_shape[1] for s, e in zip(same, exemplars, strict=True)]),
        pack_column([number_of_coding(e.coding) if e.coding else 0 for e in exemplars]),
        pack_column([len(e.payload) for e in exemplars]),
        pack_column([len(e.hint or b"") for e in exemplars]),
        pack_column([number_of_hint_codec(e.hint_codec) if e.hint else 0 for e in exemplars]),
        [[pack_runs(s) for s in seedsets], pack_column([v - 1 for v in seeds])],
        [[list(s) for s in settings], pack_column(setting)],
        pack_column(recipes),
    ]
    packed = pack_table(table, MAX_TABLE)
    front = _LENGTHS.pack(len(packed), len(hints)) + packed
    sums = (zlib.crc32(front).to_bytes(4, "little"), zlib.crc32(hints).to_bytes(4, "little"))
    return b"".join((front, sums[0], hints, sums[1], *(e.payload for e in exemplars)))


def read_front(data: bytes, head: ChunkHead) -> tuple[bytes, int, int]:
    """(table, its length in the file, length of the hints) from the beginning of a block's payload.

    ``data`` reaches to the CRC of the table at least. The table is decompressed. Raises DamagedError.
    """
    if len(data) < FRONT or head.length < FRONT + 4:
        raise DamagedError("a block has no table", chunk=head.name, offset=head.offset)
    table, hints = _LENGTHS.unpack_from(data)
    if FRONT + table + hints + 4 > head.length or FRONT + table > len(data):
        raise DamagedError("a block's table and hints are longer than the block", chunk=head.name, offset=head.offset)
    end = _LENGTHS.size + table
    if zlib.crc32(memoryview(data)[:end]).to_bytes(4, "little") != data[end : end + 4]:
        raise DamagedError(WRONG_SUM, chunk=head.name, offset=head.offset)
    return decompress(data[_LENGTHS.size : end], MAX_TABLE, head), table, hints


def read_rows(data: bytes, head: ChunkHead, recipes: Sequence[Recipe] | None) -> Rows:
    """The table at the beginning of a block's payload, which has ``head.length`` bytes in all.

    ``recipes``: the file's recipes by number, or None if they are not known yet. Raises DamagedError.
    """
    raw, table, hints = read_front(data, head)
    try:
        rows = Rows(raw, MAX_RECIPES - 1 if recipes is None else len(recipes) - 1)
        if rows.hint_bytes != hints:
            raise ValueError(f"its hints should have {rows.hint_bytes} bytes, but have {hints}")
        payloads = head.length - FRONT - table - hints - 4
        if rows.payload_bytes != payloads:
            raise ValueError(f"its payloads should have {rows.payload_bytes} bytes, but have {payloads}")
    except TABLE_ERRORS as exc:
        raise DamagedError(f"a block's table is wrong: {exc}", chunk=head.name, offset=head.offset) from exc
    rows.table_bytes, rows.table_sum = table, zlib.crc32(memoryview(data)[: _LENGTHS.size + table])
    return rows


class Block(Sequence[Exemplar]):
    """A block read from a file: its table checked, its payloads not yet decoded. Row i is ``block[i]``.

    ``memory`` is roughly the number of bytes that it takes.
    """

    def __init__(
        self, payload: bytes, head: ChunkHead, recipes: Sequence[Recipe] | None, rows: Rows | None = None
    ) -> None:
        """``recipes``: the file's recipes by number, or None if they are not known yet.

        ``rows``: the table if it was read before. Raises DamagedError.
        """
        if rows is None or zlib.crc32(memoryview(payload)[: _LENGTHS.size + rows.table_bytes]) != rows.table_sum:
            rows = read_rows(payload, head, recipes)  # the file may have been replaced since ``rows`` was read
        self.rows = rows
        self.recipes: Sequence[Recipe] = recipes or ()
        self.payload = payload
        self._hints = FRONT + self.rows.table_bytes
        self._payloads = self._hints + self.rows.hint_bytes + 4
        hints = memoryview(payload)[self._hints : self._payloads - 4]
        if zlib.crc32(hints).to_bytes(4, "little") != payload[self._payloads - 4 : self._payloads]:
            raise DamagedError(WRONG_SUM, chunk=head.name, offset=head.offset)
        self.memory: int = len(payload) + self.rows.memory

    def __len__(self) -> int:
        return len(self.rows)

    def payload_of(self, row: int) -> bytes:
        """The coded edge map, image file or latents of a row."""
        start, end = self.rows.payload_place(row)
        return self.payload[self._payloads + start : self._payloads + end]

    def hint_of(self, row: int) -> bytes | None:
        """The hint of a row."""
        start, end = self.rows.hint_place(row)
        return self.payload[self._hints + start : self._hints + end] if end > start else None

    def __getitem__(self, row: int) -> Exemplar:  # type: ignore[override]
        """Row 0 <= row < len(self)."""
        rows = self.rows
        kind = cell(rows.kind, row)
        prompt = kind == PROMPT
        return Exemplar(
            kind=KINDS[kind],
            label=rows.label_of(row),
            name=rows.name(row),
            size=(cell(rows.height, row), cell(rows.width, row)),
            prompt=rows.text_of(row),
            seeds=rows.seeds_of(row),
            payload=self.payload_of(row),
            coding=rows.coding_of(row) if prompt else "",
            map_shape=rows.map_shape(row) if prompt else (0, 0),
            hint=self.hint_of(row),
            hint_codec=rows.hint_codec_of(row),
            edge_settings=rows.settings_of(row),
            recipe=self.recipes[cell(rows.recipe, row)],
        )


def number_of_coding(name: str) -> int:
    """A coding's number in files; ``name`` may be the number of one that this version does not know."""
    return codings.get(name).number if name in codings else int(name)


def number_of_hint_codec(name: str) -> int:
    """A hint codec's number in files; ``name`` may be the number of one that this version does not know."""
    return HINT_CODECS.index(name) if name in HINT_CODECS else int(name)


def _pack_settings(made: EdgeSettings | None) -> tuple[int, int, int, int] | None:
    return None if made is None else (made.low, made.high, round(made.blur * 100), made.min_contour)
