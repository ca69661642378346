"""Compiled loops that are several times as fast on a CPU as torch's operations on whole tensors."""

from __future__ import annotations

import numpy as np
from numba import boolean, float32, float64, int32, int64, uint8, void
from numpy.typing import NDArray

from escort_codec.workers import kernel

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@kernel()
def _weights(start: float, extent: float, size: int, length: int) -> tuple[Ints, Ints, Floats]:
    """For ``size`` places that share ``extent`` pixels from ``start`` on, of ``length`` in all: the first pixel of
    each, how many there are, and their weights. A triangle as wide as two steps, at least two pixels, as Pillow's.
    """
    step = extent / size
    reach = max(step, 1.0)
    first, count = np.empty(size, np.int64), np.empty(size, np.int64)
    weights = np.zeros((size, int(2 * reach) + 3), np.float32)
    for i in range(size):
        centre = start + (i + 0.5) * step
        low = min(max(int(centre - reach + 0.5), 0), length - 1)
        high = max(min(int(centre + reach + 0.5), length), low + 1)
        total = 0.0
        for j in range(low, high):
            weight = max(0.0, 1.0 - abs((j + 0.5 - centre) / reach))
            weights[i, j - low] = weight
            total += weight
        for j in range(high - low):
            weights[i, j] = weights[i, j] / total if total > 0 else 1.0 / (high - low)
        first[i], count[i] = low, high - low
    return first, count, weights


@kernel(void(uint8[:, ::1], float64, float64, float64, float64, boolean, float32, uint8[:, :, ::1]))
def crop_resized(
    rows: Bytes, left: float, top: float, width: float, height: float, flip: bool, factor: float, out: Bytes
) -> None:
    """A box of a picture resized to ``out`` (3, size, size), mirrored if ``flip``; then brightness.

    ``rows`` is (H, 3 W): the picture's rows of interleaved pixels. Bilinear with antialiasing.
    """
    size = out.shape[2]
    first_row, row_count, down = _weights(top, height, size, rows.shape[0])
    first_column, column_count, along = _weights(left, width, size, rows.shape[1] // 3)
    begin = 3 * first_column.min()
    end = 3 * (first_column + column_count).max()
    line = np.empty(end - begin, np.float32)
    for y in range(size):
        line[:] = float32(0)
        for i in range(row_count[y]):
            weight = down[y, i]
            row = rows[first_row[y] + i, begin:end]
            for j in range(end - begin):
                line[j] += weight * float32(row[j])
        for x in range(size):
            red, green, blue = float32(0.5), float32(0.5), float32(0.5)
            at = 3 * first_column[x] - begin
            for i in range(column_count[x]):
                weight = along[x, i]
                red += weight * line[at]
                green += weight * line[at + 1]
                blue += weight * line[at + 2]
                at += 3
            place = size - 1 - x if flip else x
            out[0, y, place] = uint8(min(int32(float32(int32(red)) * factor), int32(255)))
            out[1, y, place] = uint8(min(int32(float32(int32(green)) * factor), int32(255)))
            out[2, y, place] = uint8(min(int32(float32(int32(blue)) * factor), int32(255)))


@kernel(void(uint8[:, ::1], int64[:, ::1]))
def histogram(values: Bytes, counts: Ints) -> None:
    """Adds to ``counts`` (N, 256) how often each value occurs in the rows of ``values`` (N, pixels)."""
    for i in range(len(values)):
        # Neighbours are often equal: with two counters one does not wait for the other.
        other = np.zeros(256, np.int64)
        for j in range(0, values.shape[1] - 1, 2):
            counts[i, values[i, j]] += 1
            other[values[i, j + 1]] += 1
        if values.shape[1] % 2:
            counts[i, values[i, -1]] += 1
        for value in range(256):
            counts[i, value] += other[value]


@kernel(void(uint8[:, ::1], uint8[:, ::1], uint8[:, ::1]))
def look_up(tables: Bytes, values: Bytes, out: Bytes) -> None:
    """Replaces the values in the rows of ``values`` (N, pixels) by those of ``tables`` (N, 256)."""
    for i in range(len(values)):
        for j in range(values.shape[1]):
            out[i, j] = tables[i, values[i, j]]


@kernel(void(uint8[:, ::1], float32[::1], float32[::1], float32[:, ::1]))
def scale(values: Bytes, factors: Floats, shifts: Floats, out: Floats) -> None:
    """Row i of ``values`` (N, pixels) times ``factors[i]``, plus ``shifts[i]``."""
    for i in range(len(values)):
        factor, shift = factors[i], shifts[i]
        for j in range(values.shape[1]):
            out[i, j] = float32(values[i, j]) * factor + shift
