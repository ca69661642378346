"""What an exemplar's fields may be: the same on the way in and on the way out (spec sections "Names" and "Caps").

Each function returns a message, or None where all is right: the writer raises it as LimitError, the reader as
DamagedError.
"""

from __future__ import annotations

import itertools
import math
import re

from escort_codec.coding import codings
from escort_codec.errors import EscortError
from escort_codec.exemplar import Exemplar
from escort_codec.hint import hint_size
from escort_codec.limits import (
    MAX_LABEL,
    MAX_NAME,
    MAX_PAYLOAD,
    MAX_PIXELS,
    MAX_PROMPT,
    MAX_SEED,
    MAX_SEEDS,
    MAX_SIDE,
)
from escort_codec.recipe import EdgeSettings, Recipe

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")


def _utf8(text: str) -> int:
    """The length in bytes of UTF-8, or -1 where the text has none (a lone surrogate)."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return -1


def text_fault(what: str, text: str, cap: int) -> str | None:
    """Why ``text`` cannot be stored as ``what``."""
    size = _utf8(text)
    if size < 0:
        return f"{what} {text!r} is not valid UTF-8"
    if size > cap:
        return f"{what} {text[:40]!r}... has {size} bytes: the cap is {cap}"
    return None


def name_fault(name: str) -> str | None:
    """Why ``name`` cannot be an exemplar's name: a relative path with '/', or empty."""
    if not name:
        return None
    parts = name.split("/")
    if "\\" in name or _CONTROL.search(name) or _DRIVE.match(name) or any(p in ("", ".", "..") for p in parts):
        return f"name {name!r} is not a plain relative path"
    return text_fault("name", name, MAX_NAME)


def label_fault(label: str) -> str | None:
    """Why ``label`` cannot be a class name: it must be able to be one folder's name."""
    if not label or label in (".", "..") or re.search(r"[/\\]", label) or _CONTROL.search(label):
        return f"class name {label!r} cannot be a folder's name"
    if _DRIVE.match(label):
        return f"class name {label!r} begins like a drive"
    return text_fault("class name", label, MAX_LABEL)


def size_fault(what: str, height: int, width: int) -> str | None:
    """Why an image or map cannot be of ``height`` x ``width`` pixels."""
    if not (0 <= height <= MAX_SIDE and 0 <= width <= MAX_SIDE):
        return f"{what} of {width} x {height} pixels has a side above {MAX_SIDE}"
    if height * width > MAX_PIXELS:
        return f"{what} of {width} x {height} pixels is above the cap of {MAX_PIXELS} pixels"
    return None


def seeds_fault(seeds: tuple[int, ...]) -> str | None:
    """Why these seeds cannot be recorded: they must rise strictly, and keep to the caps."""
    if not isinstance(seeds, tuple) or not all(type(v) is int for v in seeds):
        return f"seeds must be a tuple of integers, not {seeds!r:.80}"
    if len(seeds) > MAX_SEEDS:
        return f"{len(seeds)} seeds are above the cap of {MAX_SEEDS}"
    if seeds and (seeds[0] < 0 or seeds[-1] > MAX_SEED):
        return f"a seed is outside 0 to {MAX_SEED}"
    if any(a >= b for a, b in itertools.pairwise(seeds)):
        return "seeds must be distinct and in rising order"
    return None


def type_fault(exemplar: Exemplar) -> str | None:
    """Whether a field is of a type that it cannot have: what would fail only when its block is written."""
    for what, value, kind in (
        ("the class name", exemplar.label, str),
        ("the name", exemplar.name, str),
        ("the prompt", exemplar.prompt, str),
        ("the payload", exemplar.payload, bytes),
        ("the hint", exemplar.hint or b"", bytes),
        ("the recipe", exemplar.recipe, Recipe),
    ):
        if not isinstance(value, kind):
            return f"{what} is a {type(value).__name__}, not {kind.__name__}"
    if not all(isinstance(v, tuple) and len(v) == 2 for v in (exemplar.size, exemplar.map_shape)) or not all(
        type(v) is int for v in (*exemplar.size, *exemplar.map_shape)
    ):
        return f"sizes are (height, width) in integers, not {exemplar.size!r} and {exemplar.map_shape!r}"
    if exemplar.kind not in ("prompt", "real"):
        return f"its kind is {exemplar.kind!r}, not prompt or real"
    return None


def settings_fault(made: EdgeSettings) -> str | None:
    """Why a prompt's settings cannot be stored."""
    if not all(type(v) is int for v in (made.low, made.high, made.min_contour)) or not math.isfinite(made.blur):
        return f"settings must be integers, and the blur a finite number, not {made}"
    if not all(0 <= v <= 0xFFFF for v in (made.low, made.high, round(made.blur * 100), made.min_contour)):
        return "a threshold, blur or contour length is outside 0 to 65535"
    return None


def exemplar_fault(exemplar: Exemplar) -> str | None:
    """Why an exemplar cannot be written."""
    if fault := type_fault(exemplar):
        return f"{exemplar.label!r:.80}/{exemplar.name!r:.80}: {fault}"
    faults = [
        label_fault(exemplar.label),
        name_fault(exemplar.name),
        text_fault("prompt", exemplar.prompt, MAX_PROMPT),
        size_fault("an image", *exemplar.size),
        size_fault("an edge map", *exemplar.map_shape),
        seeds_fault(exemplar.seeds),
    ]
    hint, made = exemplar.hint, exemplar.made
    if len(exemplar.payload) + len(hint or b"") > MAX_PAYLOAD:
        faults.append(f"{len(exemplar.payload)} bytes are above the cap of {MAX_PAYLOAD} for one exemplar")
    if exemplar.kind == "prompt":
        if 0 in exemplar.map_shape and exemplar.map_shape != exemplar.size:
            faults.append("an empty edge map must be of its image's size")
        if exemplar.coding not in codings:
            faults.append(f"there is no coding {exemplar.coding!r}")
        faults.append("a prompt must say how its edge map was made" if made is None else settings_fault(made))
        faults.append(None if hint is None else _hint_fault(hint))
    else:
        if made is not None or hint is not None or exemplar.coding or exemplar.map_shape != (0, 0):
            faults.append("a real exemplar has no edge map, no hint and no coding")
        if not exemplar.payload:
            faults.append("a real exemplar's image file is empty")
    fault = next((f for f in faults if f), None)
    key = exemplar.key if exemplar.key.isprintable() else repr(exemplar.key)
    return f"{key:.300}: {fault}" if fault else None


def _hint_fault(hint: bytes) -> str | None:
    try:
        hint_size(hint)
    except EscortError as exc:
        return str(exc)
    return None
