"""The table of a block: columns and dictionaries of its rows, checked, without a Python object for each row."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import numpy as np

from escort_codec.coding import codings
from escort_codec.container.table import (
    SEPARATOR,
    Column,
    TableReader,
    cell,
    check_first_use,
    check_runs,
    names_fault,
    product,
    row_ends,
    row_place,
    spread,
    unpack_column,
    unpack_runs,
)
from escort_codec.exemplar import KINDS
from escort_codec.limits import (
    MAX_BLOCK_EXEMPLARS,
    MAX_HINT,
    MAX_PAYLOAD,
    MAX_PIXELS,
    MAX_PROMPT,
    MAX_SEED,
    MAX_SEEDS,
    label_fault,
    size_fault,
)
from escort_codec.recipe import HINT_CODECS, EdgeSettings

COLUMNS: Final = 18
PROMPT, REAL, LATENT = range(len(KINDS))
_MOST_COLUMNS: Final = 1 << 10  # later minor versions may add columns, up to here


class Rows:
    """The table of a block. A column is an int or an array (``table.Column``); ``cell`` reads one row.

    Names are stored as one text. ``hint_bytes`` and ``payload_bytes`` are the sums of the lengths, ``memory`` is
    roughly the size of this object in bytes, ``table_bytes`` and ``table_sum`` are the length and the CRC of the table.
    """

    table_bytes: int = 0
    table_sum: int = 0
    payload_bytes: int
    hint_bytes: int

    def __init__(self, raw: bytes, top_recipe: int) -> None:
        """``raw``: the table, decompressed. ``top_recipe``: the largest recipe number. Raises ``TABLE_ERRORS``."""
        self._read(TableReader(raw, text_cap=MAX_PROMPT, bytes_cap=4 * MAX_BLOCK_EXEMPLARS), top_recipe)
        self._check()
        held = (*self.labels, *self.texts, *self._seedsets, *self._settings, *vars(self).values())
        self.memory: int = 2048 + sum(map(sys.getsizeof, held))

    def _read(self, table: TableReader, top_recipe: int) -> None:
        columns = table.array("columns", _MOST_COLUMNS, COLUMNS)
        n = table.number("rows", MAX_BLOCK_EXEMPLARS)
        self.count: int = n
        if not n:
            raise ValueError("it has no rows")

        def column(what: str, top: int) -> Column:
            return unpack_column(what, table.value(), n, top)

        self.labels: list[str] = table.texts("class names", n, 1)
        self.label: Column = column("class", len(self.labels) - 1)
        self._set_names(table.texts("names", n))
        self.kind: Column = column("kind", LATENT)
        self.texts: list[str] = table.texts("prompts", n)
        self.text: Column = column("prompt", len(self.texts))
        self.height: Column = column("side", 0xFFFF)
        self.width: Column = column("side", 0xFFFF)
        self.map_height: Column = column("map side", 0xFFFF)
        self.map_width: Column = column("map side", 0xFFFF)
        self.coding: Column = column("coding", 0xFFFF)
        self.payload_length: Column = column("payload length", MAX_PAYLOAD)
        self.hint_length: Column = column("hint length", MAX_HINT)
        self.hint_codec: Column = column("hint codec", 0xFF)
        table.array("seeds", 2, 2)
        self._seedsets = [
            array("I", check_runs(table.numbers("seeds", 2 * MAX_SEEDS, MAX_SEED), MAX_SEEDS)).tobytes()
            for _ in range(table.array("seeds", n, 1))
        ]
        self.seeds: Column = column("seeds", len(self._seedsets) - 1)
        table.array("settings", 2, 2)
        self._settings = [tuple(table.numbers("settings", 4, 0xFFFF, 4)) for _ in range(table.array("settings", n))]
        self.setting: Column = column("settings", len(self._settings))
        self.recipe: Column = column("recipe", top_recipe)
        table.end(columns - COLUMNS)

    def _set_names(self, names: list[str]) -> None:
        self._names, self._name_ends = "", None
        self.low_name: str = ""
        self.high_name: str = ""
        if not names:
            return
        if len(names) != self.count:
            raise ValueError(f"{len(names)} names for {self.count} rows")
        if fault := names_fault(names):
            raise ValueError(fault)
        self._names = SEPARATOR.join(names)
        self._name_ends = np.cumsum(np.fromiter(map(len, names), np.int32, len(names)) + 1, dtype=np.int32) - 1
        self.low_name, self.high_name = min(names), max(names)

    def _check(self) -> None:
        """Checks the columns against each other. Raises ValueError."""
        for label in self.labels:
            if fault := label_fault(label):
                raise ValueError(fault)
        for what, values in (
            ("class names", self.labels),
            ("prompts", self.texts),
            ("seeds", self._seedsets),
            ("settings", self._settings),
        ):
            if len(set(values)) != len(values):
                raise ValueError(f"the {what} hold a value twice")
        check_first_use("class names", self.label, len(self.labels))
        check_first_use("prompts", self.text, len(self.texts), none=True)
        check_first_use("seeds", self.seeds, len(self._seedsets))
        check_first_use("settings", self.setting, len(self._settings), none=True)
        if any(self.text_of(i) == self.label_of(i) for i in self._rows_with_class_as_prompt()):
            raise ValueError("a prompt repeats the class name of its row")
        self._check_sizes()
        self._check_kinds()

    def _rows_with_class_as_prompt(self) -> list[int]:
        """The rows whose own prompt is the name of a class: usually none."""
        labels = frozenset(self.labels)
        same = [number for number, text in enumerate(self.texts, 1) if text in labels]
        return np.flatnonzero(np.isin(spread(self.text, self.count), same)).tolist() if same else []

    def _check_sizes(self) -> None:
        height, width, map_height, map_width = self.height, self.width, self.map_height, self.map_width
        if ((product(height, width) > MAX_PIXELS) | (product(map_height, map_width) > MAX_PIXELS)).any():
            sides = (spread(side, self.count).tolist() for side in (height, width, map_height, map_width))
            for h, w, map_h, map_w in zip(*sides, strict=True):
                if fault := size_fault("an image", h, w) or size_fault("an edge map", map_h, map_w):
                    raise ValueError(fault)
        own = np.not_equal(map_height, 0) | np.not_equal(map_width, 0)
        half = np.equal(map_height, 0) | np.equal(map_width, 0)
        if (own & (half | (np.equal(map_height, height) & np.equal(map_width, width)))).any():
            raise ValueError("a map's size is incomplete, or repeats its image's")

    def _check_kinds(self) -> None:
        prompt = np.equal(self.kind, PROMPT)
        no_hint = np.equal(self.hint_length, 0)
        made = np.not_equal(self.setting, 0)
        fields = ~no_hint | np.not_equal(self.coding, 0) | made | np.not_equal(self.map_height, 0)
        if (~prompt & fields).any():
            raise ValueError("a real or latent exemplar has an edge map's fields")
        if ((~prompt & np.equal(self.payload_length, 0)) | (prompt & ~made)).any():
            raise ValueError("a real or latent exemplar is empty, or a prompt has no edge settings")
        if (no_hint & np.not_equal(self.hint_codec, 0)).any():
            raise ValueError("a row without a hint names its codec")
        largest = int(np.add(self.payload_length, self.hint_length, dtype=np.int64).max())
        if largest > MAX_PAYLOAD:
            raise ValueError(f"an exemplar of {largest} bytes is above the cap of {MAX_PAYLOAD}")
        self._payload_ends, self.payload_bytes = row_ends(self.payload_length, self.count)
        self._hint_ends, self.hint_bytes = row_ends(self.hint_length, self.count)

    def __len__(self) -> int:
        return self.count

    @property
    def named(self) -> bool:
        """Whether a row has a name."""
        return self._name_ends is not None

    @property
    def names(self) -> list[str]:
        """The names of all rows, ``""`` for a row without one."""
        return self._names.split(SEPARATOR) if self.named else [""] * self.count

    def name(self, row: int) -> str:
        """The name of a row, or ``""``."""
        if self._name_ends is None:
            return ""
        start = self._name_ends[row - 1] + 1 if row else 0
        return self._names[start : self._name_ends[row]]

    def label_of(self, row: int) -> str:
        """The class name of a row."""
        return self.labels[cell(self.label, row)]

    def text_of(self, row: int) -> str:
        """The prompt of a row."""
        number = cell(self.text, row)
        return self.texts[number - 1] if number else self.label_of(row)

    def key(self, row: int) -> str:
        """``label/name`` of a row."""
        return f"{self.label_of(row)}/{self.name(row)}"

    def all_keys(self) -> list[str]:
        """``label/name`` of all rows."""
        if isinstance(self.label, int):
            start = f"{self.labels[0]}/"
            return [start + name for name in self.names]
        starts = [f"{label}/" for label in self.labels]
        return [starts[number] + name for number, name in zip(self.label.tolist(), self.names, strict=True)]

    def key_range(self) -> tuple[str, str]:
        """The smallest and the largest key, by code point."""
        if isinstance(self.label, int):
            start = f"{self.labels[0]}/"
            return start + self.low_name, start + self.high_name
        keys = self.all_keys()
        return min(keys), max(keys)

    def class_counts(self) -> list[int]:
        """How many rows each of ``labels`` has."""
        if isinstance(self.label, int):
            return [self.count]
        return [int(count) for count in np.bincount(self.label, minlength=len(self.labels))]

    @property
    def last_recipe(self) -> int:
        """The largest recipe number."""
        return int(np.max(self.recipe))

    def seeds_of(self, row: int) -> tuple[int, ...]:
        """The seeds recorded for a row."""
        return _unpacked(self._seedsets[cell(self.seeds, row)])

    def seedsets(self) -> Iterator[array[int]]:
        """The seeds of the rows, each set of them once, as runs."""
        return (array("I", packed) for packed in self._seedsets)

    def map_shape(self, row: int) -> tuple[int, int]:
        """(H, W) of a prompt's edge map."""
        shape = cell(self.map_height, row), cell(self.map_width, row)
        return shape if shape != (0, 0) else (cell(self.height, row), cell(self.width, row))

    def coding_of(self, row: int) -> str:
        """The coding of a prompt: its name, or its number as text if this version does not know it."""
        return name_of_coding(cell(self.coding, row))

    def hint_codec_of(self, row: int) -> str:
        """The codec of a row's hint: its name, or its number as text if this version does not know it."""
        number = cell(self.hint_codec, row)
        return HINT_CODECS[number] if number < len(HINT_CODECS) else str(number)

    @property
    def settings(self) -> list[EdgeSettings]:
        """How edge maps of this block were made, each way once."""
        return [_edge_settings(made) for made in self._settings]

    def settings_of(self, row: int) -> EdgeSettings | None:
        """How the edge map of a row was made; None for a row that is no prompt."""
        number = cell(self.setting, row)
        return _edge_settings(self._settings[number - 1]) if number else None

    def payload_place(self, row: int) -> tuple[int, int]:
        """(start, end) of a row's payload, in bytes from the first payload."""
        return row_place(self._payload_ends, self.payload_length, row)

    def hint_place(self, row: int) -> tuple[int, int]:
        """(start, end) of a row's hint, in bytes from the first hint; equal without a hint."""
        return row_place(self._hint_ends, self.hint_length, row)


def name_of_coding(number: int) -> str:
    """A coding's name, or its number as text if this version does not know it."""
    return next((coding.name for coding in codings if coding.number == number), str(number))


@lru_cache(maxsize=64)
def _unpacked(packed: bytes) -> tuple[int, ...]:
    return unpack_runs(array("I", packed))


@lru_cache(maxsize=64)
def _edge_settings(made: tuple[int, ...]) -> EdgeSettings:
    low, high, blur, min_contour = made
    return EdgeSettings(low=low, high=high, blur=blur / 100, min_contour=min_contour)
