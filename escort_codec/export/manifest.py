"""``manifest.jsonl``: one line per file of the tree, with its exemplar, seed and recipe.

    {"image": "cat/001_seed00.jpg", "exemplar": "cat/001.jpg", "label": "cat", "number": 17, "kind": "image", "seed": 0,
     "regenerator": "harmonic", "recipe": {...}, "digest": "0123456789abcdef0123456789abcdef", "quality": 95}

``image`` is relative to the manifest's folder, ``number`` the exemplar's number in its file, ``kind`` image, edges,
real or latent; edges and real have null for seed, regenerator and recipe, a plain learned picture for the seed.
``digest`` is ``regenerate.image_digest``: it changes with the exemplar, the seed and the recipe. ``quality`` is that of
a JPEG or WebP file that was encoded here, else null. A line is written before its file is renamed into place, so every
file has one. ``repair`` removes lines without a file, lines torn by a kill, and repeated lines.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from escort_codec.atomic import replacing
from escort_codec.errors import OutputError, UsageError
from escort_codec.names import MANIFEST, MANIFESTS, refuse_link
from escort_codec.settings import check, settings_of
from escort_codec.words import to_json

LONGEST_LINE: Final = 1 << 20
"""The most bytes of a line; escort writes no longer ones. A recipe has at most 16 KiB in an .escx file."""

KINDS: Final = ("image", "edges", "real", "latent")


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One line."""

    image: str
    exemplar: str
    label: str
    number: int
    kind: str = "image"
    seed: int | None = None
    regenerator: str | None = None
    recipe: dict[str, Any] | None = None
    digest: str | None = None
    quality: int | None = None

    def line(self) -> bytes:
        """JSON in UTF-8 with a newline."""
        return to_json(asdict(self)).encode() + b"\n"


def read_manifest(out: Path) -> dict[str, ManifestEntry]:
    """The entries of the tree ``out`` by image path; later lines replace earlier ones, invalid lines are ignored.

    Empty if there is no manifest. Raises OutputError if it cannot be read.
    """
    return _read(out)[0]


def repair(out: Path) -> None:
    """Leaves one line for each existing image, and merges the parts of several processes.

    The manifest is replaced as a whole, and only if it needs repair.
    """
    entries, untidy = _read(out)
    here = {image: entry for image, entry in entries.items() if os.path.isfile(out / image)}  # noqa: PTH113 - Path raises for a long name
    if untidy or len(here) < len(entries):
        with replacing(out / MANIFEST) as file:
            file.writelines(entry.line() for entry in here.values())
    for part in _parts(out):
        part.unlink(missing_ok=True)


class ManifestWriter:
    """Appends lines; threads may share it. ``part`` numbers this process's part if several processes write.

    The file is made with the first line.
    """

    def __init__(self, out: Path, part: int | None = None) -> None:
        self.path: Path = out / (MANIFEST if part is None else f"manifest.{part}.jsonl")
        self._lock = threading.Lock()
        self._torn = False
        self._file: int | None = None

    def add(self, entry: ManifestEntry) -> None:
        """Appends one line; raises OSError, OutputError."""
        line = entry.line()
        with self._lock:
            if self._file is None:
                self._file = _opened(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            if self._torn:  # the disk was full: begin a new line
                line = b"\n" + line
            self._torn = True
            if os.write(self._file, line) < len(line):
                raise OSError(f"{self.path}: only part of a line was written")
            self._torn = False

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _opened(path: Path, flags: int) -> int:
    """A descriptor of a manifest, which is a plain file and no link. Raises OutputError, FileNotFoundError."""
    refuse_link(path)
    more = ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK")  # opening a pipe without a reader would block
    try:
        file = os.open(path, flags | sum(getattr(os, name, 0) for name in more), 0o666)
    except FileNotFoundError:
        raise
    except OSError as exc:
        used = "read" if flags == os.O_RDONLY else "written"
        raise OutputError(f"{path}: cannot be {used} ({exc.strerror})") from exc
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OutputError(f"{path}: is not a plain file: choose another folder")
    return file


def _parts(out: Path) -> list[Path]:
    found = [path for path in out.glob("manifest.*.jsonl") if MANIFESTS.fullmatch(path.name)]
    return sorted(path for path in found if path.is_symlink() or path.is_file())


def _read(out: Path) -> tuple[dict[str, ManifestEntry], bool]:
    """(entries by image, whether the manifest needs repair)."""
    entries: dict[str, ManifestEntry] = {}
    recipes: dict[str, dict[str, Any] | None] = {}
    parts = _parts(out)
    untidy = bool(parts)
    for path in [out / MANIFEST, *parts]:
        for line in _lines(path):
            entry = _parse(line, recipes)
            untidy = untidy or entry is None or entry.image in entries or not line.endswith(b"\n")
            if entry is not None:
                entries[entry.image] = entry
    return entries, untidy


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a manifest with their ends, those that are too long in pieces; none if there is no such file."""
    try:
        with os.fdopen(_opened(path, os.O_RDONLY), "rb") as file:
            while line := file.readline(LONGEST_LINE):
                yield line
    except FileNotFoundError:
        return
    except OSError as exc:
        raise OutputError(f"{path}: cannot be read ({exc.strerror})") from exc


def _parse(line: bytes, recipes: dict[str, dict[str, Any] | None]) -> ManifestEntry | None:
    """An entry, or None if the line is not valid: a manifest may come from elsewhere. Equal recipes are one object."""
    try:
        values = json.loads(line, parse_constant=_refuse)
        entry = ManifestEntry(**{name: values[name] for name in settings_of(ManifestEntry) if name in values})
        check(entry)
        json.dumps(asdict(entry), ensure_ascii=False).encode()  # a lone surrogate has no UTF-8
        text = json.dumps(entry.recipe)
    except (ValueError, TypeError, KeyError, RecursionError, UsageError):
        return None
    image = PurePosixPath(entry.image)
    if image.is_absolute() or ".." in image.parts or set(entry.image) & set("\0\\:") or entry.kind not in KINDS:
        return None
    return replace(entry, recipe=recipes.setdefault(text, entry.recipe))


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
