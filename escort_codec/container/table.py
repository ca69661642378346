"""Tables: one msgpack value in one zstd frame; columns of numbers, dictionaries of values, runs of seeds in them.

The spec describes them in its sections "Blocks" and "Index".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import msgpack
import numpy as np
import zstandard
from numpy.typing import NDArray

from escort_codec.container.layout import ChunkHead
from escort_codec.errors import DamagedError, LimitError
from escort_codec.limits import MAX_NAME, name_fault

T = TypeVar("T")

_ZSTD_LEVEL: Final = 19
_MOST: Final = 1 << 15  # bytes per byte of a zstd frame, at most: a zstd block of 128 KiB takes at least four bytes

SEPARATOR: Final = "\n"
"""What stands between the names of a block that are kept as one text: no name has it."""

TABLE_ERRORS: Final = (ValueError, TypeError, IndexError, OverflowError, msgpack.exceptions.UnpackException)
"""The errors that reading a table raises; the caller turns them into DamagedError."""


def pack_table(value: Any, cap: int) -> bytes:
    """A value as msgpack in one zstd frame that declares its size. Raises LimitError above ``cap`` bytes of msgpack."""
    raw = msgpack.packb(value, use_bin_type=True)
    if len(raw) > cap:
        raise LimitError(f"a table of {len(raw)} bytes is above the cap of {cap}")
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(raw)


def decompress(data: bytes, cap: int, head: ChunkHead) -> bytes:
    """The content of the single zstd frame ``data``: at most ``cap`` bytes, by declared and by actual size.

    Raises DamagedError before it takes memory if the declared size is above the cap or more than the frame can hold.
    """
    try:
        params = zstandard.get_frame_parameters(data)
        size = params.content_size
        if size == zstandard.CONTENTSIZE_UNKNOWN or size > cap:
            raise DamagedError(f"a table declares {size} bytes: the cap is {cap}", chunk=head.name, offset=head.offset)
        if params.has_checksum:
            raise DamagedError("a table's zstd frame has a checksum of its own", chunk=head.name, offset=head.offset)
        if params.dict_id or params.window_size > max(cap, 1 << 10) or size > _MOST * len(data):
            raise DamagedError("a table's zstd frame asks for too much memory", chunk=head.name, offset=head.offset)
        raw = zstandard.ZstdDecompressor(max_window_size=1 << 28).decompress(
            data, max_output_size=cap, allow_extra_data=False
        )
    except zstandard.ZstdError as exc:
        raise DamagedError(f"a table is not a zstd frame: {exc}", chunk=head.name, offset=head.offset) from exc
    if len(raw) != size:
        raise DamagedError("a table is not of its declared size", chunk=head.name, offset=head.offset)
    return raw


class TableReader:
    """Reads a msgpack array from front to back. Methods raise one of ``TABLE_ERRORS``.

    The type and size of each element are checked before it is built, so memory stays within a few times the caps.
    ``text_cap`` and ``bytes_cap`` are the longest text and byte string allowed, in bytes.
    """

    def __init__(self, raw: bytes, *, text_cap: int, bytes_cap: int = 0) -> None:
        self._length = len(raw)
        self._unpacker = msgpack.Unpacker(
            None,
            raw=False,
            max_buffer_size=max(len(raw), 1),
            max_str_len=text_cap,
            max_bin_len=bytes_cap,
            max_array_len=0,  # arrays are read by their heads alone
            max_map_len=0,
            max_ext_len=0,
        )
        self._unpacker.feed(raw)
        self.value: Callable[[], Any] = self._unpacker.unpack
        self.skip: Callable[[], None] = self._unpacker.skip

    def array(self, what: str, cap: int, least: int = 0) -> int:
        """The length of the array that begins here, ``least``..``cap``; its elements are read next."""
        length: int = self._unpacker.read_array_header()
        if not least <= length <= cap:
            raise ValueError(f"{what}: an array of {length}, not of {least} to {cap}")
        return length

    def number(self, what: str, top: int) -> int:
        """An integer in 0..``top``."""
        value = self.value()
        if type(value) is not int or not 0 <= value <= top:
            raise ValueError(f"{what}: {value!r:.80} is not a number from 0 to {top}")
        return value

    def numbers(self, what: str, cap: int, top: int, least: int = 0) -> list[int]:
        """An array of ``least``..``cap`` integers in 0..``top``."""
        value = self.value
        values = [value() for _ in range(self.array(what, cap, least))]
        if values and (set(map(type, values)) != {int} or min(values) < 0 or max(values) > top):
            raise ValueError(f"{what}: not all of them are numbers from 0 to {top}")
        return values

    def texts(self, what: str, cap: int, least: int = 0) -> list[str]:
        """An array of ``least``..``cap`` texts."""
        value = self.value
        values = [value() for _ in range(self.array(what, cap, least))]
        if values and set(map(type, values)) != {str}:
            raise ValueError(f"{what}: not all of them are texts")
        return values

    def end(self, left: int) -> None:
        """Skips the last ``left`` elements of the outermost array; nothing may follow it."""
        for _ in range(left):
            self.skip()
        if self._unpacker.tell() != self._length:
            raise ValueError("bytes follow the value")


def pack_runs(seeds: Sequence[int]) -> list[int]:
    """Rising numbers as runs: [first, last, first, last, ...]."""
    runs: list[int] = []
    for seed in seeds:
        if runs and runs[-1] == seed - 1:
            runs[-1] = seed
        else:
            runs += [seed, seed]
    return runs


def check_runs(runs: Sequence[int], cap: int) -> tuple[int, ...]:
    """``runs`` (32-bit numbers). Raises ValueError if ``pack_runs`` would not write them, or for over ``cap`` seeds.

    Nothing is unpacked, so a few bytes cannot ask for much memory.
    """
    if len(runs) % 2:
        raise ValueError("seeds are not runs of numbers")
    before, count = -2, 0
    for i in range(0, len(runs), 2):
        first, last = runs[i], runs[i + 1]
        if first > last or before + 1 >= first:
            raise ValueError("seeds do not rise")
        before = last
        count += last - first + 1
    if count > cap:
        raise ValueError(f"more seeds than the cap of {cap}")
    return tuple(runs)


def unpack_runs(runs: Sequence[int]) -> tuple[int, ...]:
    """The inverse of ``pack_runs``, for checked runs."""
    return tuple(seed for i in range(0, len(runs), 2) for seed in range(runs[i], runs[i + 1] + 1))


Column = int | NDArray[np.unsignedinteger]
"""A number for each row: one int if all rows agree, else uint8, uint16 or uint32 (rows,)."""


def pack_column(values: Sequence[int]) -> int | bytes:
    """One integer if all values (0..2^32-1, at least one) agree, else the planes of their bytes."""
    if all(v == values[0] for v in values):
        return int(values[0])
    column = np.asarray(values, "<u4")
    width = 1 if column.max() < 1 << 8 else 2 if column.max() < 1 << 16 else 4
    return column.view(np.uint8).reshape(-1, 4)[:, :width].T.tobytes()


def unpack_column(what: str, value: Any, rows: int, top: int) -> Column:
    """The column, values in 0..top. Raises ValueError if ``pack_column`` would not write it."""
    if type(value) is int:
        if not 0 <= value <= top:
            raise ValueError(f"{what} {value} is outside 0 to {top}")
        return value
    if type(value) is not bytes or len(value) not in (rows, 2 * rows, 4 * rows):
        raise ValueError(f"the column of {what} does not have {rows} rows")
    width = len(value) // rows
    column: NDArray[np.unsignedinteger] = np.frombuffer(value, np.uint8)
    if width > 1:
        column = np.ascontiguousarray(column.reshape(width, rows).T).view(f"<u{width}")[:, 0]
    largest = int(column.max())
    if largest > top:
        raise ValueError(f"{what} {largest} is outside 0 to {top}")
    same = value.count(value[0]) == rows if width == 1 else bool((column == column[0]).all())
    if same or (width > 1 and largest < 1 << (4 * width)):
        raise ValueError(f"the column of {what} is wider than it needs to be")
    return column


def cell(column: Column, row: int) -> int:
    """The number of one row."""
    return column if isinstance(column, int) else int(column[row])


def spread(column: Column, rows: int) -> NDArray[np.int64]:
    """The numbers of all rows, int64 (rows,)."""
    return np.full(rows, column, np.int64) if isinstance(column, int) else np.asarray(column, np.int64)


def check_first_use(what: str, column: Column, values: int, *, none: bool = False) -> None:
    """Raises ValueError unless the rows use all ``values`` values in order, from 0; with ``none`` from 1, 0 is none."""
    if isinstance(column, int):
        used, rising = column + 1, column == 0 or (none and column == 1)
    else:
        so_far = np.maximum.accumulate(column)
        steps = np.diff(so_far.astype(np.int64), prepend=0 if none else -1)
        used, rising = int(so_far[-1]) + 1, bool((steps <= 1).all())
    if not rising or used - none != values:
        raise ValueError(f"the {what} are not in the order of their first use, or one is not used")


def names_fault(names: list[str]) -> str | None:
    """Why these are not the names of a block's rows, or None. The usual names are checked all at once."""
    joined = SEPARATOR.join(names)
    parts = f"/{joined.replace(SEPARATOR, '/')}/"
    octets = np.frombuffer(joined.encode(), np.uint8)
    usual = (
        all(names)
        and not any(odd in parts for odd in ("\\", ":", "//", "/./", "/../"))
        and int(((octets < 0x20) | (octets == 0x7F)).sum()) == len(names) - 1
        and 4 * max(map(len, names)) <= MAX_NAME
    )
    if usual:
        return None
    if not any(names):
        return "no name is set: then there is no list of names"
    return next((fault for name in names if (fault := name_fault(name))), None)


def number_values(values: Iterable[T | None]) -> tuple[list[T], list[int]]:
    """(distinct values in order of first use, each row's number from 1; None is 0)."""
    numbers: dict[T, int] = {}
    rows = [0 if v is None else numbers.setdefault(v, len(numbers) + 1) for v in values]
    return list(numbers), rows


def product(one: Column, other: Column) -> Any:
    """The products of the rows, int64: an array, or a number that all rows have."""
    return np.multiply(one, other, dtype=np.int64)


def row_ends(lengths: Column, rows: int) -> tuple[NDArray[np.int64] | None, int]:
    """(where the bytes of each row end, or None if all have the same length; their sum)."""
    if isinstance(lengths, int):
        return None, lengths * rows
    ends = np.cumsum(lengths, dtype=np.int64)
    return ends, int(ends[-1])


def row_place(ends: NDArray[np.int64] | None, lengths: Column, row: int) -> tuple[int, int]:
    """(start, end) of the bytes of a row, by what ``row_ends`` gave."""
    length = cell(lengths, row)
    end = int(ends[row]) if ends is not None else length * (row + 1)
    return end - length, end
