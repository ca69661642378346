"""File and folder names made of labels and image names: safe and valid on every system, distinct on each, and stable.

A class becomes a folder, an exemplar's name without its extension a stem: ``cat/001.jpg`` with seed 0 is
``cat/001_seed00.jpg``. The names come from an untrusted file. So no name begins with a dot (a
hidden file, ``.git``) or a hyphen (an option of a command), a file has no dot but the one before the extension of its
own format, and characters that are forbidden somewhere, control characters and those that turn letters around become
``_``. Windows' device names (``CON``, ``nul.txt``) get a ``_``.

Safe names that a file system may take for equal get ``~2``, ``~3`` in the order of the ``.escx`` file, so that
appending to the file renames nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from escort_codec.errors import OutputError
from escort_codec.words import escaped

MANIFEST: Final = "manifest.jsonl"
MANIFESTS: Final = re.compile(r"manifest(\.\d+)?\.jsonl")
"""The manifest, and the parts of several processes; no class folder has such a name."""

SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
}
"""By format (as Pillow calls it) the extensions that a file of it may have; the first is the usual one."""

LONGEST: Final = 200
"""Bytes of one part of a path, so that ``_seed4294967295.jpg`` still fits into the 255 that file systems allow."""
LONGEST_PATH: Final = 512
"""Bytes of a path in the tree; macOS allows 1024 with the folders above it."""

_PLAIN: Final = re.compile(r"\w[\w ~+=,()-]{0,39}(?<! )", re.ASCII)
_FORBIDDEN: Final = re.compile('[<>:"|?*\\\\/\u2024\ufe52\uff0e]')  # the last three are dots
_DEVICE: Final = re.compile(r"(CON|PRN|AUX|NUL|CLOCK\$|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])(?=[ .]|$)", re.IGNORECASE)
_RESERVED: Final = re.compile(r"_(seed\d+|edges)$")
_IGNORED: Final = re.compile(
    "[\u200c\u200d\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""What file systems ignore in names beside the characters that ``escaped`` hides, which no safe name has."""
_LEADING: Final = re.compile(f"^(?:{_IGNORED.pattern}+|[.\u2025\u2026\ufe19\ufe30\uff0d\ufe63-])")
"""What no name may begin with; macOS ignores an invisible letter before a dot."""
_LIKE_A_FILE: Final = re.compile(
    rf"\.(?=({'|'.join(suffix[1:] for each in SUFFIXES.values() for suffix in each)}|jsonl)$|\{{)", re.IGNORECASE
)
"""The dot in a folder's name that would make it look like one of our files, or like a special folder of Windows."""


class SafeNames:
    """The paths of one file's exemplars; call it in the file's order. ``changed`` counts the names that were changed.

    ``labels`` are all classes of the file in its order. Any label and name that a valid file may have gets a path.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self.changed: int = 0
        self.example: str = ""
        self._places: dict[str, _Place] = {}
        for label in labels:
            self._folder("", label)

    def folder(self, label: str) -> str:
        """A class's folder, one part of a path."""
        return self._folder("", label)

    def stem(self, label: str, name: str, number: int) -> str:
        """A prompt's path without ``_seed00.jpg``: ``label/stem``. ``number`` replaces a missing name."""
        *folders, last = (name or f"{number:06d}").split("/")
        stem, _ = _split(last)
        return self._path(label, folders, stem, "", last)

    def file(self, label: str, name: str, number: int, suffixes: tuple[str, ...]) -> str:
        """A real exemplar's path; ``suffixes`` are those of its format: its own stays if it is one of them.

        ``number`` replaces a missing name.
        """
        *folders, last = (name or f"{number:06d}{suffixes[0]}").split("/")
        stem, suffix = _split(last)
        if suffix.lower() not in suffixes:
            suffix = suffixes[0]
        return self._path(label, folders, stem, suffix, last)

    def _path(self, label: str, folders: list[str], stem: str, suffix: str, name: str) -> str:
        parent = self.folder(label)
        safe = safe_part(stem.replace(".", "_"))
        if suffix and _RESERVED.search(fold(safe)):
            safe += "~real"  # a file of a prompt may have that name
        self._note(name, safe + suffix, changed=safe + suffix not in (stem, name))
        for part in folders:
            parent = self._folder(parent, part)
        if len(f"{parent}/{safe}".encode()) > LONGEST_PATH:
            digest = hashlib.sha256("/".join((*folders, stem)).encode()).hexdigest()[:16]
            parent, safe = self.folder(label), f"{safe.encode()[:100].decode(errors='ignore')}~{digest}"
        return f"{parent}/{self._place(parent).distinct(safe, suffix)}"

    def _folder(self, parent: str, part: str) -> str:
        """The folder of ``part`` in ``parent``: the same each time."""
        place = self._place(parent)
        if part not in place.folders:
            safe = safe_part(part)
            safe = _LIKE_A_FILE.sub("_", safe) if "." in safe else safe
            self._note(part, safe, changed=safe != part)
            place.folders[part] = place.distinct(safe, "/")[:-1]
        return f"{parent}/{place.folders[part]}" if parent else place.folders[part]

    def _place(self, folder: str) -> _Place:
        return self._places.setdefault(folder, _Place())

    def _note(self, part: str, safe: str, *, changed: bool) -> None:
        if changed:
            self.changed += 1
            self.example = self.example or f"{part!r} is written as {safe!r}"


class _Place:
    """The names in one folder: stems of prompts, real files and folders, which cannot be confused."""

    def __init__(self) -> None:
        self.folders: dict[str, str] = {}
        self._used: set[str] = set()
        self._next: dict[str, int] = {}

    def distinct(self, stem: str, suffix: str) -> str:
        """``stem + suffix``, or the first of ``stem~2 + suffix`` ... that is not used yet. Linear in the names."""
        candidate = stem + suffix
        base = key = fold(candidate)
        number = self._next.get(base, 1)
        while key in self._used:
            number += 1
            candidate = f"{stem}~{number}{suffix}"
            key = fold(candidate)
        self._next[base] = number
        self._used.add(key)
        return candidate


def _split(name: str) -> tuple[str, str]:
    """A file's name as stem and extension with its dot; a name that begins with its only dot has no extension."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem and suffix else (name, "")


def safe_part(part: str) -> str:
    """One part of a path, made safe and valid on every system; such a part is returned unchanged.

    Raises OutputError for an empty part and for ``.`` and ``..``.
    """
    if part in ("", ".", ".."):
        raise OutputError(f"{part!r} cannot be a file's name")
    if _PLAIN.fullmatch(part) and not _DEVICE.match(part):
        return part
    safe = "".join(char if escaped(char) == char else "_" for char in part) if escaped(part) != part else part
    safe = _FORBIDDEN.sub("_", safe)
    safe = re.sub(r"[ .]+$", lambda end: "_" * len(end[0]), safe)
    safe = _LEADING.sub("_", safe)
    safe = _DEVICE.sub(r"\1_", safe, count=1) if _DEVICE.match(safe) else safe
    raw = safe.encode()
    if len(raw) > LONGEST:
        digest = hashlib.sha256(raw).hexdigest()[:8]
        safe = raw[: LONGEST - 9].decode(errors="ignore") + "~" + digest
    return safe


def fold(path: str) -> str:
    """A path without what a file system may ignore: case, Unicode form, invisible characters.

    Paths of the same file on some system are equal here; the reverse does not hold.
    """
    if path.isascii():
        return path.lower()
    plain = unicodedata.normalize("NFKC", _IGNORED.sub("", path))
    return unicodedata.normalize("NFKC", plain.upper().casefold())


def there_is(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file or folder at ``path``; False for a name that is too long for the system.

    ``Path.exists`` raises for such a name.
    """
    return os.path.exists(path)  # noqa: PTH110


def make_folders(path: Path, mode: int = 0o777) -> None:
    """Makes the folder ``path`` and those above it, where they are missing. Raises OutputError."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as exc:
        raise OutputError(f"{path}: cannot be created: {exc.strerror or exc}") from exc


def make_folder(out: Path, folder: str) -> Path:
    """``out/folder``, created if missing; raises OutputError if a part of it is a link or a file."""
    path = out
    for part in folder.split("/"):
        path = path / part
        refuse_link(path)
        try:
            path.mkdir(exist_ok=True)
        except FileExistsError as exc:
            raise OutputError(f"{path} is a file, not a folder: remove it or choose another folder") from exc
    return path


def refuse_link(path: Path) -> None:
    """Raises OutputError if ``path`` is a symbolic link: files must stay inside the folder."""
    if path.is_symlink():
        raise OutputError(f"{path} is a symbolic link: remove it or choose another folder")
