"""The caps of ``spec/FORMAT.md`` and the checks of single values (sections "Caps" and "Names").

Reader and writer check them before they allocate memory: a hostile file can make a reader hold at most one block, one
table and one map at a time. Lengths of strings are in bytes of UTF-8. A check returns a message, or None if
the value is right: the writer raises it as LimitError, the reader as DamagedError.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from typing import Final

MAX_LABEL: Final = 255  # a class name is one folder name
MAX_NAME: Final = 1024  # a path relative to the class folder
MAX_PROMPT: Final = 8192
MAX_SOURCE: Final = 4096  # the data folder as the user typed it
MAX_RECIPE: Final = 16 * 1024  # one recipe's msgpack
MAX_RECIPES: Final = 65_536  # recipes in one file
MAX_RECIPE_BYTES: Final = 4 << 20  # all recipes of one file together
MAX_RECIPE_NUMBER: Final = (1 << 32) - 1  # integers in a recipe
MAX_HEAD: Final = 64 * 1024  # bytes of the HEAD chunk's payload

MAX_SIDE: Final = 65_535  # pixels
MAX_PIXELS: Final = 1 << 26  # pixels of one image or edge map: 67 Mpixel
MAX_SEEDS: Final = 4096  # seeds recorded for one exemplar
MAX_SEED: Final = (1 << 32) - 1
MAX_HINT: Final = 64 * 1024  # bytes of one hint
MAX_HINT_SIDE: Final = 1024  # pixels
MAX_LATENT: Final = 1 << 20  # bytes of one learned picture
MAX_LATENT_SIDE: Final = 1024  # pixels
MAX_PAYLOAD: Final = 1 << 26  # bytes of one exemplar: coded map and hint, or the image file

MAX_BLOCK_EXEMPLARS: Final = 1024
MAX_TABLE: Final = 16 << 20  # bytes of a block's table, decompressed
MAX_CHUNK: Final = 1 << 28  # bytes of a chunk's payload
MAX_INDEX: Final = 1 << 26  # bytes of the index, decompressed
MAX_LABELS: Final = 1 << 20  # class names in one file
MAX_INDEX_SEEDS: Final = 1 << 20  # seeds that the index names: all that any exemplar has
MAX_EXEMPLARS: Final = (1 << 32) - 1

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE: Final = re.compile(r"[A-Za-z]:")


def text_fault(what: str, text: str, cap: int) -> str | None:
    """Why ``text`` cannot be stored; ``what`` names it in the message."""
    size = _utf8(text)
    if size < 0:
        return f"{what} {text!r} is not valid UTF-8"
    if size > cap:
        return f"{what} {text[:40]!r}... has {size} bytes: the cap is {cap}"
    return None


def _utf8(text: str) -> int:
    """The length in bytes of UTF-8, or -1 if the text has no UTF-8 (a lone surrogate)."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return -1


def name_fault(name: str) -> str | None:
    """Why ``name`` cannot be an exemplar's name: a relative path with '/', or empty."""
    if not name:
        return None
    parts = name.split("/")
    if "\\" in name or _CONTROL.search(name) or _DRIVE.match(name) or any(p in ("", ".", "..") for p in parts):
        return f"name {name!r} is not a plain relative path"
    return text_fault("name", name, MAX_NAME)


def label_fault(label: str) -> str | None:
    """Why ``label`` cannot be a class name: it must work as the name of one folder."""
    if not label or label in (".", "..") or re.search(r"[/\\]", label) or _CONTROL.search(label):
        return f"class name {label!r} is not a valid folder name"
    if _DRIVE.match(label):
        return f"class name {label!r} begins with a drive letter"
    return text_fault("class name", label, MAX_LABEL)


def size_fault(what: str, height: int, width: int) -> str | None:
    """Why an image or map cannot be of ``height`` x ``width`` pixels."""
    if not (0 <= height <= MAX_SIDE and 0 <= width <= MAX_SIDE):
        return f"{what} of {width} x {height} pixels has a side above {MAX_SIDE}"
    if height * width > MAX_PIXELS:
        return f"{what} of {width} x {height} pixels is above the cap of {MAX_PIXELS} pixels"
    return None


def recipe_fault(values: Mapping[str, object]) -> str | None:
    """Why the numbers among a recipe's values cannot be stored."""
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            return f"a recipe's {key!r} cannot be {value!r}"
        if type(value) is int and not 0 <= value <= MAX_RECIPE_NUMBER:
            return f"a recipe's {key!r} of {value} is outside 0 to {MAX_RECIPE_NUMBER}"
    return None


def seeds_fault(seeds: tuple[int, ...]) -> str | None:
    """Why these seeds cannot be recorded: they must rise strictly and respect the caps."""
    if not isinstance(seeds, tuple) or not all(type(v) is int for v in seeds):
        return f"seeds must be a tuple of integers, not {seeds!r:.80}"
    if len(seeds) > MAX_SEEDS:
        return f"{len(seeds)} seeds are above the cap of {MAX_SEEDS}"
    if seeds and (seeds[0] < 0 or seeds[-1] > MAX_SEED):
        return f"a seed is outside 0 to {MAX_SEED}"
    if any(a >= b for a, b in itertools.pairwise(seeds)):
        return "seeds must be distinct and in rising order"
    return None
