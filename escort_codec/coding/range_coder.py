"""The binary range coder of coding 2, inlined into its kernels. Imports numba: import it lazily.

G. N. N. Martin's range encoding (1979) with carries, as in LZMA (I. Pavlov): integers only, 32 bits of range, 16 bits
of probability (spec section "Coding 2", "Range coder"). The coded number V is written byte by byte. The decoder holds
``code`` = V - low instead of V, and ``seen``, the last 32 bits of V, to check at the end whether the encoder would
have chosen this V.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from escort_codec.workers import kernel

RANGE: Final = 0xFFFFFFFF  # at the start, when low is 0
LEAST: Final = 1 << 24  # below this the range grows by a byte
MASK: Final = 0xFFFFFFFF
HEAD: Final = 4  # bytes of V that the decoder holds


@kernel()
def shift_out(out: NDArray[np.uint8], written: int, low: int, span: int) -> tuple[int, int, int]:
    """Writes the top byte of ``low`` until ``span`` >= LEAST; the new (written, low, span).

    A 33rd bit of ``low`` is carried into the bytes already written.
    """
    if low > MASK:
        low &= MASK
        place = written - 1
        while out[place] == 255:
            out[place] = 0
            place -= 1
        out[place] += 1
    while span < LEAST:
        out[written] = low >> 24
        written += 1
        low = (low << 8) & MASK
        span <<= 8
    return written, low, span


@kernel()
def finish(out: NDArray[np.uint8], written: int, low: int, span: int) -> int:
    """Writes the number of [low, low + span) with the most trailing zero bits, without zero bytes at its end."""
    zeros = 32
    while True:
        value = ((low + (1 << zeros) - 1) >> zeros) << zeros
        if value < low + span:
            break
        zeros -= 1
    written, value, _ = shift_out(out, written, value, LEAST)
    for shift in (24, 16, 8, 0):
        out[written] = (value >> shift) & 255
        written += 1
    while written > 0 and out[written - 1] == 0:
        written -= 1
    return written


@kernel()
def byte_at(data: NDArray[np.uint8], place: int) -> int:
    """A byte of V; 0 after the end."""
    return int(data[place]) if place < data.size else 0


@kernel()
def shift_in(data: NDArray[np.uint8], taken: int, code: int, seen: int, span: int) -> tuple[int, int, int, int]:
    """Reads bytes of V until ``span`` >= LEAST; the new (taken, code, seen, span)."""
    while span < LEAST:
        byte = byte_at(data, taken)
        taken += 1
        code = code << 8 | byte
        seen = (seen << 8 | byte) & MASK
        span <<= 8
    return taken, code, seen, span


@kernel()
def is_only_form(data: NDArray[np.uint8], taken: int, code: int, span: int, seen: int) -> bool:
    """Whether ``finish`` would have written ``data``: no bytes left over, no zero at the end, and no rounder V."""
    if data.size > taken or (data.size > 0 and data[data.size - 1] == 0):
        return False
    lowest = seen & -seen
    return seen == 0 or (code < lowest and span - code <= lowest)
