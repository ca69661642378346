"""Kernels of coding 2: the model, and the two loops that drive it. Imports numba: import it lazily.

The part of the contexts from the rows above is computed for a whole row at once (``prepare_row``); the part from the
row itself is or-ed in pixel by pixel. Integers only (spec section "Coding 2: context").
"""

from __future__ import annotations

from typing import Any, Final

import numba as nb
import numpy as np
from numpy.typing import NDArray

from escort_codec.coding.context import (
    BIASES,
    BLOCK,
    BLOCK_MOST,
    BLOCK_SHIFT,
    BLOCK_START,
    GAIN_LEAST,
    GAIN_MOST,
    GAIN_RATE_SHIFT,
    GAIN_SHIFT,
    GAIN_START,
    NARROW_RATE,
    QUIET,
    RATE_SHIFT,
    REACH,
    RING,
    SQUASH_SHIFT,
    WIDE_RATE,
    WINDOWS,
    row_mask,
    window_size,
)
from escort_codec.coding.range_coder import HEAD, LEAST, RANGE, byte_at, finish, is_only_form, shift_in, shift_out
from escort_codec.workers import kernel

BYTES_IN: Final = nb.types.Array(nb.uint8, 1, "C", readonly=True)
BYTES: Final = nb.types.Array(nb.uint8, 1, "C")
MAP_IN: Final = nb.types.Array(nb.uint8, 2, "C", readonly=True)
MAP: Final = nb.types.Array(nb.uint8, 2, "C")
TABLES_IN: Final = nb.types.Array(nb.int8, 2, "C", readonly=True)
SQUASH_IN: Final = nb.types.Array(nb.uint16, 1, "C", readonly=True)

N_WINDOWS: Final = len(WINDOWS)
N_CONTEXTS: Final = N_WINDOWS + len(BIASES)
HERE: Final = tuple(row_mask(window) for window in WINDOWS + BIASES)
WIDE: Final = 1 << window_size(BIASES[0])
NARROW: Final = 1 << window_size(BIASES[1])
HERE0, HERE1, HERE2, HERE3, HERE4, HERE5, HERE6 = [np.uint16(h) for h in HERE]
FULL: Final = -1  # encode: ``out`` is too short
OUTSIDE: Final = 1  # decode: the kind of fault
NOT_ONLY: Final = 2


@kernel()
def note_row(pixels: NDArray[np.uint8], columns: NDArray[np.uint16]) -> None:
    """Sets ``columns[x]`` to the pixels x-7 .. x+8 of a finished row, x+8 lowest; ``columns`` is REACH longer."""
    width = pixels.size
    held = 0
    for x in range(-REACH, width):
        held <<= 1
        if x + REACH < width:
            held |= pixels[x + REACH]
        if x >= 0:
            columns[x] = held & 0xFFFF
    for x in range(width, columns.size):
        held <<= 1
        columns[x] = held & 0xFFFF


@kernel()
def _part(columns: int, left: int, right: int) -> int:
    """The pixels x + left .. x + right of a row's ``columns[x]``."""
    return (columns >> (REACH - right)) & ((1 << (right - left + 1)) - 1)


@kernel()
def prepare_row(y: int, columns: NDArray[np.uint16], contexts: NDArray[np.uint16], near: NDArray[np.uint16]) -> None:
    """Computes row ``y``'s part of ``contexts[i, x]`` from the rows above; ``near[x]`` is 0 if a quiet block may begin.

    ``columns`` holds the rows above, row r at r % RING. A test checks the contexts against WINDOWS and BIASES.
    """
    one = columns[(y - 1) % RING]
    two = columns[(y - 2) % RING]
    three = columns[(y - 3) % RING]
    four = columns[(y - 4) % RING]
    five = columns[(y - 5) % RING]
    for x in range(near.size):
        a, b, c, d, e = one[x], two[x], three[x], four[x], five[x]
        contexts[0, x] = (_part(b, -2, 2) << 11) | (_part(a, -3, 3) << 4)
        contexts[1, x] = (_part(c, -2, 2) << 11) | (_part(b, -2, 2) << 6) | (_part(a, -1, 2) << 2)
        contexts[2, x] = (_part(b, 0, 5) << 10) | (_part(a, -1, 6) << 2)
        contexts[3, x] = (_part(b, -5, -1) << 11) | (_part(a, -4, 1) << 5)
        contexts[4, x] = (
            (_part(e, -1, 1) << 13) | (_part(d, -2, 2) << 8) | (_part(c, -1, 1) << 5) | (_part(a, -1, 1) << 2)
        )
        contexts[5, x] = (_part(b, -2, 2) << 7) | (_part(a, -2, 2) << 2)
        contexts[6, x] = (_part(b, 0, 0) << 5) | (_part(a, -1, 1) << 2)
    for x in range(near.size):  # columns x-4 .. x+11
        near[x] = one[x + 3] | two[x + 3] | three[x + 3] | four[x + 3]


@kernel()
def _logit(
    x: int, held: int, contexts: NDArray[np.uint16], tables: NDArray[np.int8], bias: NDArray[np.int32], gain: int
) -> tuple[int, int, Any, Any]:
    """(static part in table steps, logit of an edge in 1/65536, and the two places in ``bias``) of pixel x.

    ``held`` holds the pixels before x in its row, x-1 lowest.
    """
    here = np.uint16(held)
    at = np.uint64(x)
    static = 0
    static += tables[0, contexts[0, at] | (here & HERE0)]
    static += tables[1, contexts[1, at] | (here & HERE1)]
    static += tables[2, contexts[2, at] | (here & HERE2)]
    static += tables[3, contexts[3, at] | (here & HERE3)]
    static += tables[4, contexts[4, at] | (here & HERE4)]
    wide = np.uint16(contexts[5, at] | (here & HERE5))
    narrow = np.uint16((contexts[6, at] | (here & HERE6)) + WIDE)
    return static, ((static * gain) >> GAIN_SHIFT) + bias[wide] + bias[narrow], wide, narrow


@kernel()
def _zero_probability(logit: int, squash: NDArray[np.uint16]) -> int:
    """P0, the probability of no edge in 1/65536."""
    return int(squash[np.uint64(min(max((logit >> SQUASH_SHIFT) + squash.size // 2, 0), squash.size - 1))])


@kernel()
def _learn(error: int, static: int, wide: int, narrow: int, bias: NDArray[np.int32]) -> int:
    """Updates both biases by the error of P0. Returns the gradient of the gain."""
    bias[wide] += (error * WIDE_RATE + (1 << (RATE_SHIFT - 1))) >> RATE_SHIFT
    bias[narrow] += (error * NARROW_RATE + (1 << (RATE_SHIFT - 1))) >> RATE_SHIFT
    return error * static


@kernel(nb.int64(MAP_IN, TABLES_IN, SQUASH_IN, BYTES))
def encode(
    pixels: NDArray[np.uint8], tables: NDArray[np.int8], squash: NDArray[np.uint16], out: NDArray[np.uint8]
) -> int:
    """Codes the map (H, W), 0 or 1 each, into ``out``. The number of bytes, or FULL."""
    height, width = pixels.shape
    columns = np.zeros((RING, width + REACH), np.uint16)
    contexts = np.zeros((N_CONTEXTS, width), np.uint16)
    near = np.zeros(width, np.uint16)
    bias = np.zeros(WIDE + NARROW, np.int32)
    gain = GAIN_START
    slope = 0
    block = BLOCK_START
    low, span, written = 0, RANGE, 0
    for y in range(height):
        if written + 2 * width + 16 > out.size:  # no pixel takes more than two bytes
            return FULL
        row = pixels[y]
        prepare_row(y, columns, contexts, near)
        x = 0
        held = 0
        zeros = QUIET
        while x < width:
            if zeros >= QUIET and near[x] == 0:
                length = min(BLOCK, width - x)
                first = 0
                while first < length and row[x + first] == 0:
                    first += 1
                bound = (span >> 16) * block
                if first == length:
                    span = bound
                    block += (BLOCK_MOST - block) >> BLOCK_SHIFT
                    held = 0
                    x += length
                else:
                    low += bound
                    span -= bound
                    block -= block >> BLOCK_SHIFT
                    written, low, span = shift_out(out, written, low, span)
                    share = span // length
                    low += share * first
                    span = share if first < length - 1 else span - share * first
                    held = 1
                    zeros = 0
                    x += first + 1
                if span < LEAST:
                    written, low, span = shift_out(out, written, low, span)
                continue
            static, logit, wide, narrow = _logit(x, held, contexts, tables, bias, gain)
            p0 = _zero_probability(logit, squash)
            bound = (span >> 16) * p0
            bit = int(row[x])
            if bit:
                low += bound
                span -= bound
                zeros = 0
                error = p0
            else:
                span = bound
                zeros += 1
                error = p0 - 65536
            if span < LEAST:
                written, low, span = shift_out(out, written, low, span)
            slope += _learn(error, static, wide, narrow, bias)
            held = (held << 1 | bit) & 0xFFFF
            x += 1
        gain = min(max(gain + (slope >> GAIN_RATE_SHIFT), GAIN_LEAST), GAIN_MOST)
        slope = 0
        note_row(row, columns[y % RING])
    return finish(out, written, low, span)


@kernel(nb.int64(BYTES_IN, TABLES_IN, SQUASH_IN, MAP))
def decode(
    data: NDArray[np.uint8], tables: NDArray[np.int8], squash: NDArray[np.uint16], pixels: NDArray[np.uint8]
) -> int:
    """Sets the edges of the map (H, W), all 0 before, to 1. Returns 0, or the kind of fault in ``data``."""
    height, width = pixels.shape
    columns = np.zeros((RING, width + REACH), np.uint16)
    contexts = np.zeros((N_CONTEXTS, width), np.uint16)
    near = np.zeros(width, np.uint16)
    bias = np.zeros(WIDE + NARROW, np.int32)
    gain = GAIN_START
    slope = 0
    block = BLOCK_START
    code, seen, span, taken = 0, 0, RANGE, 0
    while taken < HEAD:
        code = code << 8 | byte_at(data, taken)
        taken += 1
    seen = code
    if code >= span:
        return OUTSIDE
    for y in range(height):
        row = pixels[y]
        prepare_row(y, columns, contexts, near)
        x = 0
        held = 0
        zeros = QUIET
        while x < width:
            if zeros >= QUIET and near[x] == 0:
                length = min(BLOCK, width - x)
                bound = (span >> 16) * block
                if code < bound:
                    span = bound
                    block += (BLOCK_MOST - block) >> BLOCK_SHIFT
                    held = 0
                    x += length
                else:
                    code -= bound
                    span -= bound
                    block -= block >> BLOCK_SHIFT
                    taken, code, seen, span = shift_in(data, taken, code, seen, span)
                    share = span // length
                    first = min(code // share, length - 1)
                    code -= share * first
                    span = share if first < length - 1 else span - share * first
                    row[x + first] = 1
                    held = 1
                    zeros = 0
                    x += first + 1
                taken, code, seen, span = shift_in(data, taken, code, seen, span)
                continue
            static, logit, wide, narrow = _logit(x, held, contexts, tables, bias, gain)
            p0 = _zero_probability(logit, squash)
            bound = (span >> 16) * p0
            if code >= bound:
                code -= bound
                span -= bound
                row[x] = 1
                held = (held << 1 | 1) & 0xFFFF
                zeros = 0
                error = p0
            else:
                span = bound
                held = (held << 1) & 0xFFFF
                zeros += 1
                error = p0 - 65536
            taken, code, seen, span = shift_in(data, taken, code, seen, span)
            slope += _learn(error, static, wide, narrow, bias)
            x += 1
        gain = min(max(gain + (slope >> GAIN_RATE_SHIFT), GAIN_LEAST), GAIN_MOST)
        slope = 0
        note_row(row, columns[y % RING])
    return 0 if is_only_form(data, taken, code, span, seen) else NOT_ONLY
