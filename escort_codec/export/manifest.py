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
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from escort_codec.atomic import write_file
from escort_codec.errors import OutputError
from escort_codec.names import MANIFEST, refuse_link


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
    here = {image: entry for image, entry in entries.items() if (out / image).is_file()}
    if untidy or len(here) < len(entries):
        write_file(out / MANIFEST, b"".join(entry.line() for entry in here.values()))
    for part in _parts(out):
        part.unlink(missing_ok=True)


class ManifestWriter:
    """Appends lines; threads may share it. ``part`` names this process's part if several processes write."""

    def __init__(self, out: Path, part: str = "") -> None:
        self.path = out / (f"manifest.{part}.jsonl" if part else MANIFEST)
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
    return sorted(out.glob("manifest.*.jsonl"))


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
    """An entry, or None if the line is not valid."""
    try:
        values = json.loads(line)
        known = {field.name for field in fields(ManifestEntry)}
        entry = ManifestEntry(**{k: v for k, v in values.items() if k in known})
    except (ValueError, TypeError, AttributeError):
        return None
    if not isinstance(entry.image, str) or not isinstance(entry.exemplar, str) or "\0" in entry.image:
        return None
    path = Path(entry.image)
    if path.is_absolute() or ".." in path.parts:  # a manifest may come from elsewhere
        return None
    return entry
