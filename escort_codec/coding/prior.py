"""The priors of coding 2: tables trained on photographs, one file each, read when first needed."""

from __future__ import annotations

import functools
import lzma
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from escort_codec.coding.context_model import SQUASH_SIZE, WINDOWS
from escort_codec.errors import EscortError

FILES = {1: "prior-1.xz"}
"""Prior number -> file beside this module. A number's bytes never change (their hash stands in spec/prior.md)."""

ENTRIES = 1 << 16


@dataclass(frozen=True, slots=True)
class Prior:
    """``tables``: int8 (windows, 65536), logits of an edge in 1/16, by context. ``number`` is the prior's name."""

    number: int
    tables: NDArray[np.int8]


@functools.cache
def load(number: int) -> Prior:
    """The prior of that number; raises EscortError where the installed file is not a prior."""
    name = FILES[number]
    try:
        tables = unpack(files("escort_codec.coding").joinpath(name).read_bytes())
    except (OSError, lzma.LZMAError, ValueError) as exc:
        raise EscortError(f"the installed file {name} is missing or damaged: install escort again ({exc})") from exc
    return Prior(number, tables)


def pack(tables: NDArray[np.int8]) -> bytes:
    """A prior's file: the tables one after another, one byte an entry, as an ``.xz`` stream."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 0}]
    return lzma.compress(np.ascontiguousarray(tables).tobytes(), check=lzma.CHECK_CRC32, filters=filters)


def unpack(data: bytes) -> NDArray[np.int8]:
    """The inverse of ``pack``; raises ValueError or LZMAError."""
    return np.frombuffer(lzma.decompress(data), np.int8).reshape(len(WINDOWS), ENTRIES)


@functools.cache
def squash() -> NDArray[np.uint16]:
    """P0, the probability of no edge in 1/65536, by logit: entry i is that of (i - 3072 + 1/2) / 256, within 6..65530.

    Rounded half up. No value is within 10^-4 of a half, so that any double precision exp gives the same integers.
    """
    logits = (np.arange(SQUASH_SIZE) - SQUASH_SIZE // 2 + 0.5) / 256
    return np.clip(np.floor(65536 / (1 + np.exp(logits)) + 0.5), 6, 65530).astype(np.uint16)
