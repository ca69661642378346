"""File and folder names made of labels and image names: valid on every system, distinct on each, and stable.

A class becomes a folder, an exemplar's name without its extension a stem: ``cat/001.jpg`` with seed 0 is
``cat/001_seed00.jpg``. Forbidden characters, control characters and trailing dots or spaces become ``_``, and Windows
device names (``CON``, ``nul.txt``) get a ``_`` appended. Names that are equal on a file system that ignores case or
Unicode form get ``~2``, ``~3`` in the order of the ``.escx`` file, so that appending to the file renames nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from escort_codec.errors import OutputError

MANIFEST: Final = "manifest.jsonl"
MANIFESTS: Final = re.compile(r"manifest(\.\d+)?\.jsonl")
"""The manifest, and the parts of several processes; no class folder has such a name."""
LONGEST: Final = 200
"""Bytes of one part of a path, so that ``_seed4294967295.jpg`` still fits into the 255 that file systems allow."""

_FORBIDDEN: Final = re.compile('[\x00-\x1f\x7f<>:"|?*\\\\/\ud800-\udfff]')
_DEVICE: Final = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])(?=[ .]|$)", re.IGNORECASE)
_RESERVED: Final = re.compile(r"_(seed\d+|edges)$", re.IGNORECASE)


class SafeNames:
    """The paths of one file's exemplars; call it in the file's order. ``changed`` counts the names that were changed.

    ``labels`` are all classes of the file in its order.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self.changed = 0
        self.example = ""
        self._folders: dict[str, str] = {}
        used: set[str] = set()
        for label in labels:
            folder = self._safe(label)
            if MANIFESTS.fullmatch(fold(folder)):
                used.add(fold(folder))
            self._folders[label] = _distinct(folder, used)
        self._used: dict[str, set[str]] = {}

    def folder(self, label: str) -> str:
        """A class's folder, one part of a path."""
        return self._folders[label]

    def stem(self, label: str, name: str, number: int) -> str:
        """A prompt's path without ``_seed00.jpg``: ``label/stem``. ``number`` replaces a missing name."""
        path = PurePosixPath(name)
        return self._path(label, path.parts[:-1], path.stem if name else f"{number:06d}", "")

    def file(self, label: str, name: str, number: int, suffix: str) -> str:
        """A real exemplar's path: its own name, or its number and ``suffix`` if it has none."""
        path = PurePosixPath(name or f"{number:06d}{suffix}")
        stem = path.stem + "~real" if _RESERVED.search(fold(path.stem)) else path.stem
        return self._path(label, path.parts[:-1], stem, path.suffix)

    def _path(self, label: str, folders: tuple[str, ...], stem: str, suffix: str) -> str:
        parts = [self._safe(part) for part in folders]
        safe = self._safe(stem + suffix)
        if suffix and safe.endswith(suffix):
            stem, suffix = safe[: -len(suffix)], suffix
        else:
            stem, suffix = safe, ""
        used = self._used.setdefault(label, set())
        return "/".join([self._folders[label], _distinct("/".join([*parts, stem]), used, suffix)])

    def _safe(self, part: str) -> str:
        safe = safe_part(part)
        if safe != part:
            self.changed += 1
            self.example = self.example or f"{part!r} is written as {safe!r}"
        return safe


def safe_part(part: str) -> str:
    """One part of a path, made valid on every system; a valid part is returned unchanged.

    Raises OutputError for an empty part and for ``.`` and ``..``.
    """
    if part in ("", ".", ".."):
        raise OutputError(f"{part!r} cannot be a file's name")
    safe = _FORBIDDEN.sub("_", part)
    safe = re.sub(r"[ .]+$", lambda end: "_" * len(end[0]), safe)
    safe = _DEVICE.sub(r"\1_", safe, count=1) if _DEVICE.match(safe) else safe
    raw = safe.encode()
    if len(raw) > LONGEST:
        digest = hashlib.sha256(raw).hexdigest()[:8]
        safe = raw[: LONGEST - 9].decode(errors="ignore") + "~" + digest
    return safe


def fold(path: str) -> str:
    """A path without its case and Unicode form: equal for paths that are the same on some file systems."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _distinct(path: str, used: set[str], suffix: str = "") -> str:
    """``path + suffix``, or the first of ``path~2 + suffix`` ... that is not in ``used``; adds it there."""
    number = 1
    candidate = path + suffix
    while fold(candidate) in used:
        number += 1
        candidate = f"{path}~{number}{suffix}"
    used.add(fold(candidate))
    return candidate


def there_is(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file or folder at ``path``; False for a name that is too long for the system.

    ``Path.exists`` raises for such a name.
    """
    return os.path.exists(path)  # noqa: PTH110


def make_folder(out: Path, folder: str) -> Path:
    """``out/folder``, made if it is missing; raises OutputError if a part of it is a link or a file."""
    path = out
    for part in folder.split("/"):
        path = path / part
        refuse_link(path)
        try:
            path.mkdir(exist_ok=True)
        except FileExistsError as exc:
            raise OutputError(f"{path} is a file where a folder belongs: remove it or choose another folder") from exc
    return path


def refuse_link(path: Path) -> None:
    """Raises OutputError if ``path`` is a symbolic link: files must stay inside the folder."""
    if path.is_symlink():
        raise OutputError(f"{path} is a symbolic link: remove it or choose another folder")
