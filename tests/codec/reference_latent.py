"""Latent coding 1 as spec/latent-1.md says it, in plain Python and numpy: slow, and by other means than the kernels.

Every position's predictions are computed from scratch, as dense products.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from escort_codec.latent.tables import ARRAYS, Tables

Integers = NDArray[np.int64]


class RefusedError(Exception):
    """Bytes that no encoder writes."""


class Coder:
    """Range decoder of coding 2, as the spec says it: the number V, and low and range beside it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._taken = 4
        self._value = int.from_bytes((data + bytes(4))[:4], "big")
        self._low, self._range = 0, 0xFFFFFFFF
        if self._value >= self._range:
            raise RefusedError("outside")

    def choice(self, probability: int) -> int:
        """The next choice; ``probability`` is that of 0 in 1/65536."""
        bound = (self._range >> 16) * probability
        second = self._value - self._low >= bound
        if second:
            self._low += bound
            self._range -= bound
        else:
            self._range = bound
        while self._range < 1 << 24:
            byte = self._data[self._taken] if self._taken < len(self._data) else 0
            self._taken += 1
            self._value = self._value << 8 | byte
            self._low <<= 8
            self._range <<= 8
        return int(second)

    def end(self) -> None:
        """Raises RefusedError unless an encoder ends with this number."""
        if len(self._data) > self._taken or self._data.endswith(b"\0"):
            raise RefusedError("bytes left over, or a zero at the end")
        for zeros in range(32, -1, -1):
            value = -(-self._low >> zeros) << zeros
            if value < self._low + self._range:
                if value != self._value:
                    raise RefusedError("another number")
                return


def decode(data: bytes, shape: tuple[int, int], quality: int, tables: Tables) -> tuple[Integers, Integers, Integers]:
    """Latents (h, w, 64), predicted means in 1/256 and indices of scales, from the coded latents alone."""
    names = [name for name in ARRAYS if name not in ("gains", "steps", "scales")]
    table: dict[str, Any] = {n: each.astype(np.int64) for n, each in zip(names, tables.arrays, strict=True)}
    height, width = shape
    latents = np.zeros((height, width, 64), np.int64)
    means, scales = np.zeros_like(latents), np.zeros_like(latents)
    coder = Coder(data)
    for row in range(height):
        for column in range(width):
            _position(coder, latents, means, scales, (row, column), quality, table)
    coder.end()
    return latents, means, scales


def _position(
    coder: Coder,
    latents: Integers,
    means: Integers,
    scales: Integers,
    place: tuple[int, int],
    quality: int,
    table: dict[str, Any],
) -> None:
    row, column = place
    around = table["context_bias"][quality].copy()
    own = np.zeros(64, np.int64)
    for tap in range(12):
        y, x = row + tap // 5 - 2, column + tap % 5 - 2
        if y >= 0 and 0 <= x < latents.shape[1]:
            seen = latents[y, x]
            inputs = np.concatenate([seen, np.minimum(abs(seen), 8), [1]])
            around += inputs @ table["neighbours"][tap]
            own += seen * table["own"][tap]
    context = np.clip((around + 8) >> 4, 0, 32767)
    here = latents[row, column]
    edges = (0, 1, 3, 6, 10, 16, 24, 40, 64)
    for channel in range(64):
        group = next(g for g in range(8) if channel < edges[g + 1])
        known = np.where(np.arange(64) < channel, here, 0)
        hidden = np.zeros(128, np.int64)
        for unit in range(16 * (group + 1)):  # a unit of group g sees the channels before that group
            visible = np.where(np.arange(64) < edges[unit // 16], here, 0)
            inputs = np.concatenate([visible, np.minimum(abs(visible), 8)])
            total = (table["middle_bias"][unit] << 8) + context @ table["middle"][:, unit]
            total += (inputs @ table["middle_here"][:, unit]) << 8
            hidden[unit] = min(max((total + 2048) >> 12, 0), 32767)
        outs = []
        for out in (channel, 64 + channel):
            total = (table["out_bias"][quality, out] << 8) + context @ table["out_context"][:, out]
            outs.append(total + hidden @ table["out_here"][:, out])
        outs[0] += (known @ table["earlier_mean"][:, channel] + own[channel]) << 8
        outs[1] += (np.minimum(abs(known), 8) @ table["earlier_scale"][:, channel]) << 8
        mean = int(np.clip((outs[0] + 2048) >> 12, -65280, 65280))
        scale = int(table["scale_index"][np.clip(((outs[1] + 2048) >> 12) + 2048, 0, 8191) >> 4])
        centre = (mean + 128) >> 8
        value = centre + _difference(coder, table["probabilities"][scale, (mean - 256 * centre + 128) >> 4])
        if abs(value) > 255:
            raise RefusedError("a latent above 255")
        means[row, column, channel], scales[row, column, channel] = mean, scale
        here[channel] = value


def _difference(coder: Coder, nodes: Integers) -> int:
    if not coder.choice(int(nodes[0])):
        return 0
    negative = coder.choice(int(nodes[1]))
    magnitude = 1
    while magnitude <= 14 and coder.choice(int(nodes[2 + 14 * negative + magnitude - 1])):
        magnitude += 1
    if magnitude == 15:
        zeros = 0
        while not coder.choice(32768):
            zeros += 1
            if zeros > 9:
                raise RefusedError("a rest above all")
        rest = 1
        for _ in range(zeros):
            rest = 2 * rest + coder.choice(32768)
        magnitude = 14 + rest
    return -magnitude if negative else magnitude
