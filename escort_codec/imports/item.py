"""The items that sources of ``escort import`` yield, and the options of an import."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, Protocol

from escort_codec.errors import SourceError
from escort_codec.limits import MAX_PAYLOAD
from escort_codec.names import SUFFIXES
from escort_codec.settings import setting

IMAGE_ENDINGS: Final = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
"""Endings (lower case) of image files in archives; all other files there are skipped."""

LABELS: Final = ("label", "labels", "class", "class_name", "fine_label", "target", "cls", "category")
CAPTIONS: Final = ("text", "caption", "captions", "prompt", "txt")
IMAGES: Final = ("image", "img", "jpg", "jpeg", "png", "webp", "picture")
"""Names of columns and keys for classes, captions and images; the first that exists is used."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to read a source. Names of columns also mean keys in the JSON of a WebDataset."""

    split: str = setting("", "Only this split; all if left out.", shown=True, metavar="NAME")
    config: str = setting("", "The configuration of a Hugging Face data set.", shown=True, metavar="NAME")
    image: str = setting("", "The column of the images, if it is not found.", shown=True, metavar="COLUMN")
    label: str = setting("", "The column or key of the classes.", shown=True, metavar="COLUMN")
    caption: str = setting("", "The column or key of the captions.", shown=True, metavar="COLUMN")
    classes: str = setting(
        "", "A text file with the classes' names, a line for each number.", shown=True, metavar="FILE"
    )
    limit: int | None = setting(None, "At most N images, the first ones.", shown=True, least=1)
    on_error: Literal["raise", "skip"] = setting(
        "raise", "raise: stop at a bad image; skip: name it and go on.", shown=True, choices=("raise", "skip")
    )


@dataclass(frozen=True, slots=True)
class ImportItem:
    """One image: its split, class, name (with "/" as a path), file bytes, and caption. ``place`` is for messages."""

    split: str
    label: str
    name: str
    data: bytes
    caption: str | None = None
    place: str = ""


class ImportSource(Protocol):
    """A source: its images in a fixed order, and their number if known."""

    total: int | None

    def __iter__(self) -> Iterator[ImportItem]: ...


def split_name(name: str, default: str = "train") -> str:
    """The folder of a split: ``train``, ``val`` or ``test`` for the usual names, else the name itself."""
    from escort_codec.source.layout import (
        SPLITS,  # numpy comes with it, and the command line's help imports this module
    )

    lower = name.lower()
    return next((split for split, names in SPLITS.items() if lower in names), name or default)


def split_of_file(path: Path) -> str:
    """The split that a shard's name (``train-0000.tar``) or the name of its folder says; ``train`` if neither does."""
    from escort_codec.source.layout import SPLITS

    words = [*re.split(r"[^A-Za-z]+", path.name), path.parent.name]
    return next((split_name(word) for word in words if split_name(word) in SPLITS), "train")


def first_key(wanted: str, usual: tuple[str, ...], there: list[str], what: str, place: str) -> str | None:
    """The column for a use: ``wanted``, which must be there, or the first of the ``usual`` ones. Raises SourceError."""
    if wanted:
        if wanted not in there:
            raise SourceError(f"{place}: has no {what} {wanted!r} (there are {', '.join(there)})")
        return wanted
    lower = {name.lower(): name for name in reversed(there)}
    return next((lower[name] for name in usual if name in lower), None)


def class_name(value: Any, names: list[str], place: str) -> str:
    """The class that a value stands for: a text, or a number by ``names``. Raises SourceError."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        text = value.strip()
        if not (names and text.isascii() and text.isdigit()):
            if not text:
                raise SourceError(f"{place}: its class is empty")
            return text
        value = int(text)
    if isinstance(value, bool) or not isinstance(value, int):
        raise SourceError(f"{place}: its class is {value!r:.60}, neither a text nor a number")
    if not names:
        return str(value)
    if not 0 <= value < len(names):
        raise SourceError(f"{place}: there is no name for class {value}: there are {len(names)}")
    return names[value]


def check_member(name: str, size: int, archive: str) -> PurePosixPath:
    """The path of a file in an archive. Raises SourceError if it leaves the archive or is too large."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        raise SourceError(f"{archive}: the name {name!r:.100} leads out of the archive: nothing more is read")
    if size > MAX_PAYLOAD:
        raise SourceError(f"{archive}: {name:.100} is above the cap of {MAX_PAYLOAD} bytes for one image file")
    return path
