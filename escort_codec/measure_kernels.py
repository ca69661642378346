"""The kernel of ``measure``: a largest one-to-one matching of edge pixels."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import boolean, int32, int64
from numpy.typing import NDArray

from escort_codec.workers import kernel

OFFSETS: Final = np.array(
    sorted(
        ((y, x) for y in range(-8, 9) for x in range(-8, 9) if y * y + x * x <= 64),
        key=lambda at: (at[0] ** 2 + at[1] ** 2, at),
    ),
    np.int32,
)
"""Steps (dy, dx) of up to 8 pixels, the nearest first."""


@kernel(int64(boolean[:, ::1], boolean[:, ::1], int32[:, ::1]))
def matched(first: NDArray[np.bool_], second: NDArray[np.bool_], offsets: NDArray[np.int32]) -> int:
    """How many pixels of two maps (H, W) can be matched one to one along ``offsets`` (N, 2) at most.

    A greedy matching, the nearest pairs first, then augmenting paths. Pixels that a failed search has visited are not
    visited again: no path leads through them (Kuhn's algorithm with Hungarian trees).
    """
    height, width = first.shape
    number = np.full((height, width), -1, np.int32)  # of the pixels of ``second``
    count = 0
    for y in range(height):
        for x in range(width):
            if second[y, x]:
                number[y, x] = count
                count += 1
    places = np.empty((height * width, 2), np.int32)
    total = 0
    for y in range(height):
        for x in range(width):
            if first[y, x]:
                places[total, 0], places[total, 1] = y, x
                total += 1
    partner = np.full(count, -1, np.int32)  # of each pixel of ``second``: the pixel of ``first``
    free = np.ones(total, np.bool_)
    found = 0
    for k in range(len(offsets)):
        for i in range(total):
            if free[i]:
                y, x = places[i, 0] + offsets[k, 0], places[i, 1] + offsets[k, 1]
                if 0 <= y < height and 0 <= x < width and number[y, x] >= 0 and partner[number[y, x]] < 0:
                    partner[number[y, x]] = i
                    free[i] = False
                    found += 1
    seen = np.full(count, -1, np.int32)  # the last search that visited it; -2: for good
    origin = np.empty(count, np.int32)  # the pixel of ``first`` from which a pixel of ``second`` was reached
    before = np.full(total, -1, np.int32)  # the pixel of ``second`` that a pixel of ``first`` was matched with
    queue = np.empty(total, np.int32)
    trail = np.empty(count, np.int32)
    for start in range(total):
        if not free[start]:
            continue
        head, tail, marks, end = 0, 1, 0, -1
        queue[0] = start
        before[start] = -1
        while head < tail and end < 0:
            i = queue[head]
            head += 1
            for k in range(len(offsets)):
                y, x = places[i, 0] + offsets[k, 0], places[i, 1] + offsets[k, 1]
                if not (0 <= y < height and 0 <= x < width):
                    continue
                j = number[y, x]
                if j < 0 or seen[j] == start or seen[j] == -2:
                    continue
                seen[j] = start
                trail[marks] = j
                marks += 1
                origin[j] = i
                if partner[j] < 0:
                    end = j
                    break
                before[partner[j]] = j
                queue[tail] = partner[j]
                tail += 1
        if end < 0:
            for n in range(marks):
                seen[trail[n]] = -2
            continue
        found += 1
        free[start] = False
        while end >= 0:
            i = origin[end]
            partner[end] = i
            end = before[i]
    return found
