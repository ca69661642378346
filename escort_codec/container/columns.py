"""Columns of numbers, dictionaries of values, and runs of seeds (spec section "Blocks")."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

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


def check_runs(runs: Sequence[int], cap: int) -> array[int]:
    """``runs`` (numbers of 32 bits) where they are what ``pack_runs`` writes of at most ``cap`` seeds; else ValueError.

    Nothing is unpacked, so a few bytes cannot ask for much memory.
    """
    if len(runs) % 2:
        raise ValueError("seeds are not runs of numbers")
    flat = np.array(runs, np.int64)
    first, last = flat[::2], flat[1::2]
    if bool((first > last).any()) or bool((last[:-1] + 1 >= first[1:]).any()):
        raise ValueError("seeds do not rise")
    if int((last - first + 1).sum()) > cap:
        raise ValueError(f"more seeds than the cap of {cap}")
    return array("I", runs)


def unpack_runs(runs: Sequence[int]) -> tuple[int, ...]:
    """The inverse of ``pack_runs``, for runs that were checked."""
    return tuple(seed for i in range(0, len(runs), 2) for seed in range(runs[i], runs[i + 1] + 1))


def pack_column(values: Sequence[int]) -> int | bytes:
    """One integer where all values (0..2^32-1, at least one) agree, else the planes of their bytes."""
    if all(v == values[0] for v in values):
        return int(values[0])
    column = np.asarray(values, "<u4")
    width = 1 if column.max() < 1 << 8 else 2 if column.max() < 1 << 16 else 4
    return column.view(np.uint8).reshape(-1, 4)[:, :width].T.tobytes()


def unpack_column(what: str, value: Any, rows: int, top: int) -> NDArray[np.int64]:
    """The column as int64 (rows,), every value in 0..top; raises ValueError for what ``pack_column`` does not write."""
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


def number_values(values: Iterable[T | None]) -> tuple[list[T], list[int]]:
    """(distinct values in order of first use, each row's number from 1 on; None is 0)."""
    numbers: dict[T, int] = {}
    rows = [0 if v is None else numbers.setdefault(v, len(numbers) + 1) for v in values]
    return list(numbers), rows
