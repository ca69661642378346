"""The installed files of latent model 1: the integer tables of its coding, its gains and its networks.

The bytes of these files never change: a later model has other files and another number (spec/latent-1.md has their
hashes).
"""

from __future__ import annotations

import functools
import lzma
import math
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from escort_codec.errors import EscortError

MODEL: Final = 1  # on the wire
QUALITIES: Final = 64
CHANNELS: Final = 64  # latents of a position
BLOCK: Final = 8  # pixels of a position, in each direction
MOST: Final = 255  # largest magnitude of a latent
LOUD: Final = 8  # magnitudes above this count as this in the contexts
CONTEXT: Final = 96
GROUPS: Final = (0, 1, 3, 6, 10, 16, 24, 40, 64)
"""Where the groups of channels begin, and the end of the last."""
GROUP_HIDDEN: Final = 16
HIDDEN: Final = GROUP_HIDDEN * (len(GROUPS) - 1)
TAPS: Final = 12  # positions that predict one: tap t is row t // 5 - 2, column t % 5 - 2 from it
SCALES: Final = 48
PARTS: Final = 16  # steps of the fraction of a mean
ESCAPE: Final = 14  # binary choices for a magnitude, after which the rest is written in bits
NODES: Final = 2 + 2 * ESCAPE

ARRAYS: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    "neighbours": ("<i2", (TAPS, 2 * CHANNELS + 1, CONTEXT)),
    "context_bias": ("<i4", (QUALITIES, CONTEXT)),
    "own": ("<i2", (TAPS, CHANNELS)),
    "middle": ("<i2", (CONTEXT, HIDDEN)),
    "middle_bias": ("<i4", (HIDDEN,)),
    "middle_here": ("<i2", (2 * CHANNELS, HIDDEN)),
    "out_context": ("<i2", (CONTEXT, 2 * CHANNELS)),
    "out_bias": ("<i4", (QUALITIES, 2 * CHANNELS)),
    "out_here": ("<i2", (HIDDEN, 2 * CHANNELS)),
    "earlier_mean": ("<i2", (CHANNELS, CHANNELS)),
    "earlier_scale": ("<i2", (CHANNELS, CHANNELS)),
    "scale_index": ("<u1", (512,)),
    "probabilities": ("<u2", (SCALES, PARTS, NODES)),
    "gains": ("<f4", (QUALITIES, CHANNELS)),
    "steps": ("<f4", (QUALITIES, CHANNELS)),
    "scales": ("<f4", (SCALES,)),
}
"""The arrays of the file of tables, one after another in this order: type and shape."""

FILE: Final = "model-1.tables.xz"
ENCODER: Final = "model-1.encoder.onnx"
DECODER: Final = "model-1.decoder.onnx"


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """The file of tables. ``arrays`` are the integer ones, as the kernels take them."""

    arrays: tuple[NDArray[Any], ...]
    gains: NDArray[np.float32]
    steps: NDArray[np.float32]
    scales: NDArray[np.float32]

    @property
    def probabilities(self) -> NDArray[np.uint16]:
        """Probability of the first alternative of each choice in 1/65536: (SCALES, PARTS, NODES)."""
        return self.arrays[-1]


FOLDER: Traversable = files("escort_codec.latent")
"""The folder of the files; training replaces it to try a network."""


def read_file(name: str) -> bytes:
    """An installed file of the model. Raises EscortError if it is missing."""
    try:
        return FOLDER.joinpath(name).read_bytes()
    except OSError as exc:
        raise EscortError(f"the installed file {name} is missing: install escort again ({exc})") from exc


@functools.cache
def load_tables() -> Tables:
    """The tables of model 1. Raises EscortError if the installed file is missing or damaged."""
    try:
        return unpack(lzma.decompress(read_file(FILE)))
    except (lzma.LZMAError, ValueError) as exc:
        raise EscortError(f"the installed file {FILE} is damaged: install escort again ({exc})") from exc


@functools.cache
def load_costs() -> NDArray[np.float32]:
    """Bits of both alternatives of each choice: (SCALES, PARTS, NODES, 2)."""
    first = load_tables().probabilities.astype(np.float64) / 65536
    return np.ascontiguousarray(-np.log2(np.stack([first, 1 - first], -1)), dtype=np.float32)


def unpack(data: bytes) -> Tables:
    """The tables in the bytes of all arrays one after another. Raises ValueError for another length."""
    found, at = {}, 0
    for name, (form, shape) in ARRAYS.items():
        count = math.prod(shape)
        found[name] = np.frombuffer(data, form, count, at).reshape(shape)
        at += found[name].nbytes
    if at != len(data):
        raise ValueError(f"{len(data)} bytes instead of {at}")
    integers = tuple(array for name, array in found.items() if name not in ("gains", "steps", "scales"))
    return Tables(integers, found["gains"], found["steps"], found["scales"])


def pack(arrays: dict[str, NDArray[Any]]) -> bytes:
    """The file of these tables. Raises ValueError if one has another shape or does not fit its type."""
    parts = []
    for name, (form, shape) in ARRAYS.items():
        array = np.asarray(arrays[name])
        stored = array.astype(form)
        if array.shape != shape or (stored.dtype.kind in "iu" and not np.array_equal(stored, array)):
            raise ValueError(f"{name}: not {shape} of {form}")
        parts.append(stored.tobytes())
    return lzma.compress(b"".join(parts), check=lzma.CHECK_CRC32, preset=9 | lzma.PRESET_EXTREME)
