"""The integer network that predicts latents, compiled into the kernels of latent coding 1. Imports numba.

Most latents are zero, so a latent's contribution to later predictions is added once it is known and not zero. Integers
only (spec/latent-1.md, "Coding of the latents").
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from escort_codec.latent.tables import CHANNELS, CONTEXT, GROUP_HIDDEN, GROUPS, HIDDEN, LOUD, MOST, TAPS
from escort_codec.workers import kernel

ROWS: Final = 3  # rows of positions whose predictions are open: this one and the two below
SIDE: Final = 2  # columns left and right of the picture, for contributions outside of it

FIRSTS: Final = np.array(GROUPS, np.int64)
GROUP_OF: Final = np.array([sum(c >= start for start in GROUPS[1:-1]) for c in range(CHANNELS)], np.int64)
_DOWN: Final = np.array([2 - tap // 5 for tap in range(TAPS)], np.int64)
_RIGHT: Final = np.array([2 - tap % 5 for tap in range(TAPS)], np.int64)


@kernel()
def open_position(tables: Any, quality: int, near: NDArray[np.int32], middle: Any, out: Any) -> None:
    """Sets ``middle`` (128) and ``out`` (128), in 2^-20, from what the positions before this one added to ``near``."""
    context_bias, weights, bias, out_weights, out_bias = tables[1], tables[3], tables[4], tables[6], tables[7]
    for unit in range(HIDDEN):
        middle[unit] = np.int64(bias[unit]) << 8
    for each in range(2 * CHANNELS):
        out[each] = np.int64(out_bias[quality, each]) << 8
    for unit in range(CONTEXT):
        x = np.int64(min(max((near[unit] + context_bias[quality, unit] + 8) >> 4, 0), 32767))
        if x > 0:
            for each in range(HIDDEN):
                middle[each] += x * weights[unit, each]
            for each in range(2 * CHANNELS):
                out[each] += x * out_weights[unit, each]


@kernel()
def open_group(tables: Any, group: int, middle: Any, out: Any) -> None:
    """Adds the hidden units of a group to the predictions of its channels and of those after it."""
    weights = tables[8]
    first = FIRSTS[group]
    for unit in range(group * GROUP_HIDDEN, (group + 1) * GROUP_HIDDEN):
        x = min(max((middle[unit] + 2048) >> 12, 0), 32767)
        if x > 0:
            for each in range(first, CHANNELS):
                out[each] += x * weights[unit, each]
                out[CHANNELS + each] += x * weights[unit, CHANNELS + each]


@kernel()
def note(tables: Any, channel: int, value: int, place: Any, near: Any, own: Any, middle: Any, out: Any) -> None:
    """Adds a latent that is not 0 to the predictions of all latents after it. ``place`` is (row, column)."""
    neighbours, own_weights, here, mean, scale = tables[0], tables[2], tables[5], tables[9], tables[10]
    loud = min(abs(value), LOUD)
    for unit in range((GROUP_OF[channel] + 1) * GROUP_HIDDEN, HIDDEN):
        middle[unit] += (value * here[channel, unit] + loud * here[CHANNELS + channel, unit]) << 8
    for each in range(channel + 1, CHANNELS):
        out[each] += (value * mean[channel, each]) << 8
        out[CHANNELS + each] += (loud * scale[channel, each]) << 8
    row, column = place
    value32, loud32 = np.int32(value), np.int32(loud)
    for tap in range(TAPS):
        below, beside = (row + _DOWN[tap]) % ROWS, column + SIDE + _RIGHT[tap]
        target = near[below, beside]
        for unit in range(CONTEXT):
            target[unit] += np.int32(
                value32 * np.int32(neighbours[tap, channel, unit])
                + loud32 * np.int32(neighbours[tap, CHANNELS + channel, unit])
            )
        own[below, beside, channel] += np.int32(value32 * np.int32(own_weights[tap, channel]))


@kernel()
def close_position(tables: Any, place: Any, near: Any) -> None:
    """Adds that this position lies inside the picture."""
    neighbours = tables[0]
    row, column = place
    for tap in range(TAPS):
        target = near[(row + _DOWN[tap]) % ROWS, column + SIDE + _RIGHT[tap]]
        for unit in range(CONTEXT):
            target[unit] += np.int32(neighbours[tap, 2 * CHANNELS, unit])


@kernel()
def predict(tables: Any, channel: int, own: int, out: Any) -> tuple[int, int]:
    """The mean of a latent in 1/256 and the index of its scale."""
    mean = (out[channel] + (np.int64(own) << 8) + 2048) >> 12
    mean = min(max(mean, -MOST * 256), MOST * 256)
    loose = (out[CHANNELS + channel] + 2048) >> 12
    return mean, int(tables[11][min(max(loose + 2048, 0), 8191) >> 4])
