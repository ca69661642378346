"""Kernels of latent coding 1: the two loops that predict and code latents. Imports numba: import it lazily.

Integers only (spec/latent-1.md, "Coding of the latents"): the same bytes give the same latents on every machine.
"""

from __future__ import annotations

from typing import Any, Final

import numba as nb
import numpy as np
from numpy.typing import NDArray

from escort_codec.coding.range_coder import HEAD, LEAST, RANGE, byte_at, finish, is_only_form, shift_in, shift_out
from escort_codec.latent.prediction_kernels import (
    FIRSTS,
    GROUP_OF,
    ROWS,
    SIDE,
    close_position,
    note,
    open_group,
    open_position,
    predict,
)
from escort_codec.latent.tables import CHANNELS, CONTEXT, ESCAPE, HIDDEN, MOST
from escort_codec.workers import kernel

READ: Final = True
_I16_3: Final = nb.types.Array(nb.int16, 3, "C", readonly=READ)
_I16_2: Final = nb.types.Array(nb.int16, 2, "C", readonly=READ)
_I32_2: Final = nb.types.Array(nb.int32, 2, "C", readonly=READ)
_I32_1: Final = nb.types.Array(nb.int32, 1, "C", readonly=READ)
TABLES: Final = nb.types.Tuple(
    (
        _I16_3,  # neighbours
        _I32_2,  # context_bias
        _I16_2,  # own
        _I16_2,  # middle
        _I32_1,  # middle_bias
        _I16_2,  # middle_here
        _I16_2,  # out_context
        _I32_2,  # out_bias
        _I16_2,  # out_here
        _I16_2,  # earlier_mean
        _I16_2,  # earlier_scale
        nb.types.Array(nb.uint8, 1, "C", readonly=READ),  # scale_index
        nb.types.Array(nb.uint16, 3, "C", readonly=READ),  # probabilities
    )
)
"""``Tables.arrays``, in the order of ``tables.ARRAYS``."""
LATENTS: Final = nb.types.Array(nb.int16, 3, "C")
FLOATS_IN: Final = nb.types.Array(nb.float32, 3, "C", readonly=True)
COSTS_IN: Final = nb.types.Array(nb.float32, 4, "C", readonly=True)
BYTES_IN: Final = nb.types.Array(nb.uint8, 1, "C", readonly=True)
BYTES: Final = nb.types.Array(nb.uint8, 1, "C")

FULL: Final = -1  # encode: ``out`` is too short
OUTSIDE: Final = 1  # decode: the kind of fault
NOT_ONLY: Final = 2
TOO_LARGE: Final = 3

LONGEST: Final = 9  # most zero bits before the first one in the rest of an escaped magnitude
HALF: Final = 32768


@kernel()
def _bits(costs: Any, centre: int, value: int) -> Any:
    """Bits of a latent; ``costs`` (nodes, 2) has those of each choice."""
    far = value - centre
    if far == 0:
        return costs[0, 0]
    total = costs[0, 1]
    negative = 1 if far < 0 else 0
    total += costs[1, negative]
    left = abs(far) - 1
    first = 2 + negative * ESCAPE
    for place in range(min(left, ESCAPE)):
        total += costs[first + place, 1]
    if left < ESCAPE:
        return total + costs[first + left, 0]
    rest = left - ESCAPE + 1
    while rest > 1:
        total += 2
        rest >>= 1
    return total + 1


@kernel()
def _put(out: Any, state: Any, probability: int, bit: int) -> Any:
    """Codes one choice; ``state`` is (written, low, span), ``probability`` that of bit 0 in 1/65536."""
    written, low, span = state
    bound = (span >> 16) * probability
    if bit:
        low += bound
        span -= bound
    else:
        span = bound
    if span < LEAST:
        written, low, span = shift_out(out, written, low, span)
    return written, low, span


@kernel(nb.int64(TABLES, nb.int64, FLOATS_IN, COSTS_IN, nb.float64, LATENTS, BYTES))
def encode(
    tables: Any,
    quality: int,
    exact: NDArray[np.float32],
    costs: NDArray[np.float32],
    weight: float,
    latents: NDArray[np.int16],
    out: NDArray[np.uint8],
) -> int:
    """Chooses integers for the ``exact`` latents (h, w, 64) and codes them. The number of bytes, or FULL.

    Each becomes the integer beside it with the least sum of bits and ``weight`` times the squared difference.
    """
    height, width, _ = exact.shape
    near = np.zeros((ROWS, width + 2 * SIDE, CONTEXT), np.int32)
    own = np.zeros((ROWS, width + 2 * SIDE, CHANNELS), np.int32)
    middle, predicted = np.zeros(HIDDEN, np.int64), np.zeros(2 * CHANNELS, np.int64)
    probabilities = tables[12]
    state = (0, 0, RANGE)
    for row in range(height):
        for column in range(width):
            if state[0] + 4 * CHANNELS * (ESCAPE + 2 * LONGEST) > out.size:
                return FULL
            place = (row, column)
            here = own[row % ROWS, column + SIDE]
            open_position(tables, quality, near[row % ROWS, column + SIDE], middle, predicted)
            for channel in range(CHANNELS):
                group = GROUP_OF[channel]
                if channel == FIRSTS[group]:
                    open_group(tables, group, middle, predicted)
                mean, scale = predict(tables, channel, here[channel], predicted)
                centre = (mean + 128) >> 8
                part = (mean - (centre << 8) + 128) >> 4
                wanted = min(max(exact[row, column, channel], -MOST), MOST)
                value = int(np.floor(wanted + 0.5))
                other = value - 1 if wanted < value else value + 1
                if value != centre and abs(other) <= MOST:
                    cost = costs[scale, part]
                    gain = _bits(cost, centre, value) - _bits(cost, centre, other)
                    if gain > weight * ((wanted - other) ** 2 - (wanted - value) ** 2):
                        value = other
                latents[row, column, channel] = value
                table = probabilities[scale, part]
                far = value - centre
                state = _put(out, state, table[0], 1 if far else 0)
                if far:
                    negative = 1 if far < 0 else 0
                    state = _put(out, state, table[1], negative)
                    left = abs(far) - 1
                    first = 2 + negative * ESCAPE
                    for step in range(min(left, ESCAPE)):
                        state = _put(out, state, table[first + step], 1)
                    if left < ESCAPE:
                        state = _put(out, state, table[first + left], 0)
                    else:
                        rest = left - ESCAPE + 1
                        zeros = 0
                        while rest >> (zeros + 1):
                            zeros += 1
                        for _ in range(zeros):
                            state = _put(out, state, HALF, 0)
                        for shift in range(zeros, -1, -1):
                            state = _put(out, state, HALF, (rest >> shift) & 1)
                if value != 0:
                    note(tables, channel, value, place, near, own, middle, predicted)
            close_position(tables, place, near)
        near[row % ROWS] = 0
        own[row % ROWS] = 0
    return finish(out, state[0], state[1], state[2])


@kernel()
def _take(data: Any, state: Any, probability: int) -> Any:
    """(bit, new state) of one choice; ``state`` is (taken, code, seen, span)."""
    taken, code, seen, span = state
    bound = (span >> 16) * probability
    if code >= bound:
        code -= bound
        span -= bound
        bit = 1
    else:
        span = bound
        bit = 0
    taken, code, seen, span = shift_in(data, taken, code, seen, span)
    return bit, (taken, code, seen, span)


@kernel(nb.int64(TABLES, nb.int64, BYTES_IN, LATENTS, LATENTS, nb.types.Array(nb.uint8, 3, "C")))
def decode(
    tables: Any,
    quality: int,
    data: NDArray[np.uint8],
    latents: NDArray[np.int16],
    offsets: NDArray[np.int16],
    scales: NDArray[np.uint8],
) -> int:
    """Sets ``latents`` (h, w, 64), and for each its predicted mean less itself in 1/256 (limited to 16 bits) and the
    index of its scale. Returns 0, or the kind of fault in ``data``."""
    height, width, _ = latents.shape
    near = np.zeros((ROWS, width + 2 * SIDE, CONTEXT), np.int32)
    own = np.zeros((ROWS, width + 2 * SIDE, CHANNELS), np.int32)
    middle, predicted = np.zeros(HIDDEN, np.int64), np.zeros(2 * CHANNELS, np.int64)
    probabilities = tables[12]
    code, taken = 0, 0
    while taken < HEAD:
        code = code << 8 | byte_at(data, taken)
        taken += 1
    if code >= RANGE:
        return OUTSIDE
    state = (taken, code, code, RANGE)
    for row in range(height):
        for column in range(width):
            place = (row, column)
            here = own[row % ROWS, column + SIDE]
            open_position(tables, quality, near[row % ROWS, column + SIDE], middle, predicted)
            for channel in range(CHANNELS):
                group = GROUP_OF[channel]
                if channel == FIRSTS[group]:
                    open_group(tables, group, middle, predicted)
                mean, scale = predict(tables, channel, here[channel], predicted)
                centre = (mean + 128) >> 8
                table = probabilities[scale, (mean - (centre << 8) + 128) >> 4]
                value = centre
                bit, state = _take(data, state, table[0])
                if bit:
                    negative, state = _take(data, state, table[1])
                    first = 2 + negative * ESCAPE
                    far = 1
                    while far <= ESCAPE:
                        bit, state = _take(data, state, table[first + far - 1])
                        if not bit:
                            break
                        far += 1
                    if far > ESCAPE:
                        zeros = 0
                        bit, state = _take(data, state, HALF)
                        while not bit:
                            zeros += 1
                            if zeros > LONGEST:
                                return TOO_LARGE
                            bit, state = _take(data, state, HALF)
                        rest = 1
                        for _ in range(zeros):
                            bit, state = _take(data, state, HALF)
                            rest = rest << 1 | bit
                        far = ESCAPE + rest
                    value = centre - far if negative else centre + far
                    if abs(value) > MOST:
                        return TOO_LARGE
                latents[row, column, channel] = value
                offsets[row, column, channel] = min(max(mean - (value << 8), -32768), 32767)
                scales[row, column, channel] = scale
                if value != 0:
                    note(tables, channel, value, place, near, own, middle, predicted)
            close_position(tables, place, near)
        near[row % ROWS] = 0
        own[row % ROWS] = 0
    return 0 if is_only_form(data, state[0], state[1], state[3], state[2]) else NOT_ONLY
