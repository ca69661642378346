"""The codings a second time: plain Python, written from the words of the spec's section "Codings" alone.

Slow, and meant to be: no numba, no table but the prior file, one pixel at a time. ``decode`` is what the tests of
the golden files use.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from escort_codec.coding import EdgeMap


class RefusedError(Exception):
    """The bits are not what the spec lets an encoder write."""


def decode(data: bytes, shape: tuple[int, int], coding: int) -> EdgeMap:
    """The edge map, bool (H, W), that ``data`` holds under the coding of that number."""
    readers: dict[int, Callable[[bytes, int, int], list[int]]] = {0: _packed, 1: _run_lengths}
    pixels = readers[coding](data, shape[0], shape[1])
    return np.array(pixels, np.bool_).reshape(shape)


def _bits(data: bytes) -> list[int]:
    return [byte >> (7 - i) & 1 for byte in data for i in range(8)]


def _packed(data: bytes, height: int, width: int) -> list[int]:
    size = height * width
    bits = _bits(data)
    if len(data) != -(-size // 8) or any(bits[size:]):
        raise RefusedError
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
            raise RefusedError
        number = int("0" + "".join(map(str, bits[start : start + length])), 2)
        at = start + length
        value = ones * 2**k + number
        if len(pixels) + value + (1 if pixels or colour else 0) >= size:
            raise RefusedError
        pixels += [colour] * (value + (1 if pixels or colour else 0))
        sums[colour] += value
        counts[colour] += 1
        if counts[colour] == 32:
            sums[colour] //= 2
            counts[colour] = 16
        colour = 1 - colour
    return pixels + [colour] * (size - len(pixels))
