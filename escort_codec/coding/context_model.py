"""The shape of coding 2's model: which pixels its contexts see, and the constants of its adaptation.

All of it is on the wire (spec section "Coding 2: context"): a change needs a new coding number.
"""

from __future__ import annotations

from typing import Final

Segment = tuple[int, int, int]
"""(row, left, right): the pixels x + left .. x + right of the row ``row`` above the current one."""

WINDOWS: Final[tuple[tuple[Segment, ...], ...]] = (
    ((2, -2, 2), (1, -3, 3), (0, -4, -1)),
    ((3, -2, 2), (2, -2, 2), (1, -1, 2), (0, -2, -1)),
    ((2, 0, 5), (1, -1, 6), (0, -2, -1)),
    ((2, -5, -1), (1, -4, 1), (0, -5, -1)),
    ((5, -1, 1), (4, -2, 2), (3, -1, 1), (1, -1, 1), (0, -2, -1)),
)
"""The static contexts, 16 pixels each. A context is a binary number; its first pixel is the highest bit."""

BIASES: Final[tuple[tuple[Segment, ...], ...]] = (
    ((2, -2, 2), (1, -2, 2), (0, -2, -1)),
    ((2, 0, 0), (1, -1, 1), (0, -2, -1)),
)
"""The contexts of the biases that follow the one map: 12 and 6 pixels."""

RING: Final = 8  # rows above that are kept: five are seen
REACH: Final = 8  # columns to either side, at most: -7 .. 8

QUIET: Final = 4  # R: columns to either side, rows above and zeros before that are without an edge
BLOCK: Final = 8  # pixels of a quiet block

BLOCK_START: Final = 64500  # the probability, in 1/65536, that such a block has no edge
BLOCK_MOST: Final = 65472
BLOCK_SHIFT: Final = 6

STEP: Final = 16  # steps of a table's entry in one unit of the logit
SQUASH_SHIFT: Final = 8  # from a logit in 1/65536 to a place in the squash table: 1/256
SQUASH_SIZE: Final = 6144  # logits from -12 to 12

WIDE_RATE: Final = 3  # of the two biases, in 2^-RATE_SHIFT
NARROW_RATE: Final = 2
RATE_SHIFT: Final = 6

GAIN_SHIFT: Final = 8  # static * gain >> GAIN_SHIFT is a logit in 1/65536
GAIN_START: Final = 65536 * (1 << GAIN_SHIFT) // STEP
GAIN_LEAST: Final = GAIN_START // 4
GAIN_MOST: Final = GAIN_START * 4
GAIN_RATE_SHIFT: Final = 9


def size(window: tuple[Segment, ...]) -> int:
    """Pixels of a window."""
    return sum(right - left + 1 for _, left, right in window)


def here(window: tuple[Segment, ...]) -> int:
    """The mask of a context's bits that stand for pixels of the current row: its lowest ones."""
    return sum(1 << i for i in range(sum(right - left + 1 for row, left, right in window if row == 0)))


def above(window: tuple[Segment, ...]) -> tuple[tuple[int, int, int, int], ...]:
    """(row, shift, mask, place) of each segment above: its bits are ((columns >> shift) & mask) << place, where
    ``columns`` holds x-7 .. x+8 of that row, x+8 lowest."""
    found = []
    place = size(window)
    for row, left, right in window:
        length = right - left + 1
        place -= length
        if row:
            found.append((row, REACH - right, (1 << length) - 1, place))
    return tuple(found)
