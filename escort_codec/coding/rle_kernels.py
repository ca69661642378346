"""Kernels of coding 1: the runs of a map in adaptive Rice codes. Imports numba: import it lazily.

Integers only: unsigned 64-bit for shifts, signed 64-bit for counts.
"""

from __future__ import annotations

from typing import Any, Final

import numba as nb
import numpy as np
from numba.core.typing.templates import Signature
from numba.extending import intrinsic
from numpy.typing import NDArray

from escort_codec.workers import kernel

BYTES: Final = nb.types.Array(nb.uint8, 1, "C")
BYTES_IN: Final = nb.types.Array(nb.uint8, 1, "C", readonly=True)
WORDS_IN: Final = nb.types.Array(nb.uint64, 1, "C", readonly=True)

ESCAPE: Final = 16  # this many ones announce a value of RAW bits
RAW: Final = 26  # enough for any run: MAX_PIXELS is 2^26
START: Final = (16, 0)  # the initial sums of white and black runs; the counts start at 1
HALVE: Final = 32  # the count at which sum and count are halved

FULL: Final = -1  # encode: ``out`` is too short
TRUNCATED: Final = 1  # decode: the kind of fault
BEYOND: Final = 2
WASTED: Final = 3


@intrinsic  # type: ignore[untyped-decorator]
def leading_zeros(typing_context: Any, value: Any) -> tuple[Signature, Any]:
    """Zeros above the highest 1 of an unsigned 64-bit integer; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Signature, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], nb.core.cgutils.false_bit)

    return nb.int64(nb.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def trailing_zeros(typing_context: Any, value: Any) -> tuple[Signature, Any]:
    """Zeros below the lowest 1 of an unsigned 64-bit integer; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Signature, arguments: Any) -> Any:
        return builder.cttz(arguments[0], nb.core.cgutils.false_bit)

    return nb.int64(nb.uint64), generate


@kernel(inline=True)
def _parameter(total: int, count: int) -> int:
    """The least k with 8 * count * 2^k >= 5 * total."""
    k: int = max(0, leading_zeros(np.uint64(8 * count)) - leading_zeros(np.uint64(5 * total)))
    return k + ((count << (k + 3)) < 5 * total)


@kernel(inline=True)
def _run_end(words: NDArray[np.uint64], position: int, flip: np.uint64) -> int:
    """The first pixel from ``position`` on whose bit differs from ``flip``, or the end of ``words``."""
    word = position >> 6
    offset = position & 63
    bits = (words[word] ^ flip) >> np.uint64(offset)
    if bits != 0:
        return position + int(trailing_zeros(bits))
    word += 1
    while word < words.size and words[word] == flip:
        word += 1
    if word == words.size:
        return word << 6
    return (word << 6) + int(trailing_zeros(words[word] ^ flip))


@kernel(nb.int64(WORDS_IN, nb.int64, BYTES))
def encode(words: NDArray[np.uint64], size: int, out: NDArray[np.uint8]) -> int:
    """Codes ``size`` pixels, the lowest bit of the first word first, into ``out``. The number of bytes, or FULL."""
    total_white, total_black = START
    count_white = count_black = 1
    position = 0
    written = 0
    held = np.uint64(0)  # ``n_held`` bits that do not fill a byte yet
    n_held = 0
    black = False
    least = 0  # the least number of pixels of this run
    while position < size:
        if black:
            end = _run_end(words, position, np.uint64(0xFFFFFFFFFFFFFFFF))
            total, count = total_black, count_black
        else:
            end = _run_end(words, position, np.uint64(0))
            total, count = total_white, count_white
        if end >= size:  # the last run is not coded
            break
        value = end - position - least
        position = end
        least = 1
        k = _parameter(total, count)
        quotient = value >> k
        if quotient < ESCAPE:
            code = (((1 << quotient) - 1) << (k + 1)) | (value & ((1 << k) - 1))
            bits = quotient + 1 + k
        else:
            code = (((1 << ESCAPE) - 1) << RAW) | (value - (ESCAPE << k))
            bits = ESCAPE + RAW
        held = (held << np.uint64(bits)) | np.uint64(code)
        n_held += bits
        if written + 8 > out.size:
            return FULL
        while n_held >= 8:
            n_held -= 8
            out[written] = np.uint8(held >> np.uint64(n_held))
            written += 1
        total += value
        count += 1
        if count == HALVE:
            total >>= 1
            count >>= 1
        if black:
            total_black, count_black = total, count
        else:
            total_white, count_white = total, count
        black = not black
    if n_held > 0:
        if written == out.size:
            return FULL
        out[written] = np.uint8(((held + np.uint64(1)) << np.uint64(8 - n_held)) - np.uint64(1))
        written += 1
    return written


@kernel(nb.int64(BYTES_IN, BYTES))
def decode(data: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> int:
    """Sets the black pixels of the flat map ``pixels``, all 0 before. 0, or the kind of fault in ``data``."""
    size = pixels.size
    total_white, total_black = START
    count_white = count_black = 1
    position = 0
    taken = 0
    held = np.uint64(0)  # the next ``n_held`` bits, highest first; 0 below them
    n_held = 0
    black = False
    least = 0
    while True:
        while n_held <= 56 and taken < data.size:
            held |= np.uint64(data[taken]) << np.uint64(56 - n_held)
            n_held += 8
            taken += 1
        quotient = min(leading_zeros(~held), ESCAPE)
        if quotient == n_held:
            if quotient >= 8:
                return WASTED
            break  # the end: these ones fill the last byte
        if black:
            total, count = total_black, count_black
        else:
            total, count = total_white, count_white
        k = _parameter(total, count)
        if quotient < ESCAPE:
            skip, rest = quotient + 1, k
        else:
            skip, rest = ESCAPE, RAW
        if skip + rest > n_held:
            return TRUNCATED
        held <<= np.uint64(skip)
        value = (quotient << k) + np.int64((held >> np.uint64(1)) >> np.uint64(63 - rest))
        held <<= np.uint64(rest)
        n_held -= skip + rest
        end = position + value + least
        least = 1
        if end >= size:
            return BEYOND
        if black:
            for i in range(position, end):
                pixels[i] = 1
        position = end
        total += value
        count += 1
        if count == HALVE:
            total >>= 1
            count >>= 1
        if black:
            total_black, count_black = total, count
        else:
            total_white, count_white = total, count
        black = not black
    if black:
        for i in range(position, size):
            pixels[i] = 1
    return 0
