"""The codings a second time: plain Python, written from the words of the spec's section "Codings" alone.

Slow, and meant to be: no numba, no table but the prior file, one pixel at a time. ``decode`` is what the tests of
the golden files use.
"""

from __future__ import annotations

import functools
import lzma
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from escort_codec.coding import EdgeMap


class RefusedError(Exception):
    """Bytes that the spec does not let an encoder write; the argument is the number of the rule."""


def decode(data: bytes, shape: tuple[int, int], coding: int) -> EdgeMap:
    """The edge map, bool (H, W), that ``data`` holds under the coding of that number."""
    if coding > 2:
        raise RefusedError("M31")
    readers: dict[int, Callable[[bytes, int, int], list[int]]] = {0: _packed, 1: _run_lengths, 2: _context}
    pixels = readers[coding](data, shape[0], shape[1])
    return np.array(pixels, np.bool_).reshape(shape)


def _bits(data: bytes) -> list[int]:
    return [byte >> (7 - i) & 1 for byte in data for i in range(8)]


def _packed(data: bytes, height: int, width: int) -> list[int]:
    size = height * width
    bits = _bits(data)
    if len(data) != -(-size // 8):
        raise RefusedError("M32")
    if any(bits[size:]):
        raise RefusedError("M33")
    return bits[:size]


def _run_lengths(data: bytes, height: int, width: int) -> list[int]:
    size = height * width
    bits = _bits(data)
    sums, counts = [16, 0], [1, 1]
    pixels: list[int] = []
    colour = 0
    at = 0
    while True:
        ones = 0
        while ones < 16 and at + ones < len(bits) and bits[at + ones]:
            ones += 1
        if at + ones == len(bits) and ones < 8:
            break
        k = 0
        while 8 * counts[colour] * 2**k < 5 * sums[colour]:
            k += 1
        if ones == 16:
            start, length = at + 16, 26
        else:
            start, length = at + ones + 1, k
        if start + length > len(bits):
            raise RefusedError("M35")
        number = int("0" + "".join(map(str, bits[start : start + length])), 2)
        at = start + length
        value = ones * 2**k + number
        if len(pixels) + value + (1 if pixels or colour else 0) >= size:
            raise RefusedError("M34")
        pixels += [colour] * (value + (1 if pixels or colour else 0))
        sums[colour] += value
        counts[colour] += 1
        if counts[colour] == 32:
            sums[colour] //= 2
            counts[colour] = 16
        colour = 1 - colour
    return pixels + [colour] * (size - len(pixels))


Pixels = list[tuple[int, int, int]]
WINDOWS: list[Pixels] = [  # (rows above, first column, last column)
    [(2, -2, 2), (1, -3, 3), (0, -4, -1)],
    [(3, -2, 2), (2, -2, 2), (1, -1, 2), (0, -2, -1)],
    [(2, 0, 5), (1, -1, 6), (0, -2, -1)],
    [(2, -5, -1), (1, -4, 1), (0, -5, -1)],
    [(5, -1, 1), (4, -2, 2), (3, -1, 1), (1, -1, 1), (0, -2, -1)],
]
WIDE: Pixels = [(2, -2, 2), (1, -2, 2), (0, -2, -1)]
NARROW: Pixels = [(2, 0, 0), (1, -1, 1), (0, -2, -1)]


@functools.cache
def _prior() -> list[list[int]]:
    file = Path(__file__).parents[2] / "escort_codec" / "coding" / "prior-1.xz"
    raw = lzma.decompress(file.read_bytes())
    tables = [[byte - 256 * (byte > 127) for byte in raw[65536 * t : 65536 * (t + 1)]] for t in range(5)]
    assert len(raw) == 5 * 65536
    return tables


@functools.cache
def _squash(i: int) -> int:
    return min(max(math.floor(65536 / (1 + math.exp((i - 3071.5) / 256)) + 0.5), 6), 65530)


class _Number:
    """The bytes as a number V, seen through the interval [low, low + range) of the coder."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.taken = 4
        self.range = 2**32 - 1
        self.low = 0  # all of it, not only its last 32 bits
        self.value = int.from_bytes((data + bytes(4))[:4], "big")
        if self.value - self.low >= self.range:
            raise RefusedError("M36")

    def fill(self) -> None:
        while self.range < 2**24:
            byte = self.data[self.taken] if self.taken < len(self.data) else 0
            self.value = self.value * 256 + byte
            self.low *= 256
            self.range *= 256
            self.taken += 1

    def choose(self, p: int) -> bool:
        """Whether the second alternative was taken."""
        bound = (self.range >> 16) * p
        second = self.value - self.low >= bound
        if second:
            self.low += bound
            self.range -= bound
        else:
            self.range = bound
        self.fill()
        return second

    def place(self, n: int) -> int:
        share = self.range // n
        found = min((self.value - self.low) // share, n - 1)
        self.low += share * found
        self.range = share if found < n - 1 else self.range - share * found
        self.fill()
        return found

    def check_end(self) -> None:
        """Refuses bytes that are not the encoder's: it takes the value with the most trailing zero bits."""
        if len(self.data) > self.taken or self.data[-1:] == b"\0":
            raise RefusedError("M36")
        for zeros in range(32, -1, -1):
            value = -(-self.low // 2**zeros) * 2**zeros
            if value < self.low + self.range:
                if value != self.value:
                    raise RefusedError("M36")
                return


def _context(data: bytes, height: int, width: int) -> list[int]:
    if not height * width:
        if data:
            raise RefusedError("M36")
        return []
    tables, number = _prior(), _Number(data)
    rows: list[list[int]] = []
    wide, narrow = [0] * 4096, [0] * 64
    gain, slope, block = 1_048_576, 0, 64_500

    def pixel(row: int, column: int) -> int:
        return rows[row][column] if row >= 0 and 0 <= column < width else 0

    def context(window: Pixels, y: int, x: int) -> int:
        bits = [pixel(y - up, x + step) for up, first, last in window for step in range(first, last + 1)]
        return int("".join(map(str, bits)), 2)

    for y in range(height):
        rows.append([0] * width)
        x = 0
        while x < width:
            quiet = not any(pixel(y, x - back) for back in range(1, 5))
            quiet = quiet and not any(pixel(y - up, c) for up in range(1, 5) for c in range(x - 4, x + 12))
            if quiet:
                n = min(8, width - x)
                if number.choose(block):
                    block -= block >> 6
                    first = number.place(n)
                    rows[y][x + first] = 1
                    x += first + 1
                else:
                    block += (65_472 - block) >> 6
                    x += n
                continue
            total = sum(tables[t][context(WINDOWS[t], y, x)] for t in range(5))
            w, m = context(WIDE, y, x), context(NARROW, y, x)
            logit = ((total * gain) >> 8) + wide[w] + narrow[m]
            p = _squash(min(max((logit >> 8) + 3072, 0), 6143))
            rows[y][x] = int(number.choose(p))
            error = p if rows[y][x] else p - 65_536
            wide[w] += (3 * error + 32) >> 6
            narrow[m] += (2 * error + 32) >> 6
            slope += error * total
            x += 1
        gain = min(max(gain + (slope >> 9), 262_144), 4_194_304)
        slope = 0
    number.check_end()
    return [value for line in rows for value in line]
