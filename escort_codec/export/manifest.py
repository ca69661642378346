"""``manifest.jsonl``: one line per image of the tree, with what it was made of.

    {"image": "cat/001_seed00.jpg", "exemplar": "cat/001.jpg", "label": "cat", "number": 17, "seed": 0,
     "regenerator": "harmonic", "recipe": {...}, "digest": "0123456789abcdef"}

``image`` is relative to the manifest's folder, ``number`` the exemplar's number in its file, ``digest`` the recipe's.
A real exemplar's copy has null for the last four. A line is written before its image is renamed into place, so every
image has one. ``repair`` removes lines without an image, lines torn by a kill, and repeated lines.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from escort_codec.atomic import write_file
from escort_codec.errors import OutputError, UsageError
from escort_codec.names import MANIFEST, MANIFESTS, refuse_link
from escort_codec.settings import check, settings_of


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One line."""

    image: str
    exemplar: str
    label: str
    number: int
    seed: int | None = None
    regenerator: str | None = None
    recipe: dict[str, Any] | None = None
    digest: str | None = None

    def line(self) -> bytes:
        """JSON in UTF-8 with a newline."""
        return json.dumps(asdict(self), ensure_ascii=False).encode() + b"\n"


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
        write_file(out / MANIFEST, b"".join(entry.line() for entry in here.values()))
    for part in _parts(out):
        part.unlink(missing_ok=True)


class ManifestWriter:
    """Appends lines; threads may share it. ``part`` numbers this process's part if several processes write."""

    def __init__(self, out: Path, part: int | None = None) -> None:
        self.path = out / (MANIFEST if part is None else f"manifest.{part}.jsonl")
        refuse_link(self.path)
        self._lock = threading.Lock()
        self._torn = False
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as exc:
            raise OutputError(f"{self.path}: cannot be written ({exc.strerror})") from exc

    def add(self, entry: ManifestEntry) -> None:
        """Appends one line; raises OSError."""
        line = entry.line()
        with self._lock:
            if self._torn:  # the disk was full: begin a new line
                line = b"\n" + line
            self._torn = True
            if os.write(self._file, line) < len(line):
                raise OSError(f"{self.path}: only part of a line was written")
            self._torn = False

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def _parts(out: Path) -> list[Path]:
    found = [path for path in out.glob("manifest.*.jsonl") if MANIFESTS.fullmatch(path.name)]
    return sorted(path for path in found if path.is_symlink() or path.is_file())


def _read(out: Path) -> tuple[dict[str, ManifestEntry], bool]:
    """(entries by image, whether the manifest needs repair)."""
    entries: dict[str, ManifestEntry] = {}
    parts = _parts(out)
    untidy = bool(parts)
    for path in [out / MANIFEST, *parts]:
        refuse_link(path)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise OutputError(f"{path}: cannot be read ({exc.strerror})") from exc
        untidy = untidy or (bool(data) and not data.endswith(b"\n"))
        for line in data.split(b"\n"):
            entry = _parse(line)
            untidy = untidy or (entry is None and bool(line)) or (entry is not None and entry.image in entries)
            if entry is not None:
                entries[entry.image] = entry
    return entries, untidy


def _parse(line: bytes) -> ManifestEntry | None:
    """An entry, or None if the line is not valid: a manifest may come from elsewhere."""
    try:
        values = json.loads(line)
        entry = ManifestEntry(**{name: values[name] for name in settings_of(ManifestEntry) if name in values})
        check(entry)
        entry.line()  # a lone surrogate cannot be written
    except (ValueError, TypeError, KeyError, RecursionError, UsageError):
        return None
    path = Path(entry.image)
    return None if path.is_absolute() or ".." in path.parts or "\0" in entry.image else entry
