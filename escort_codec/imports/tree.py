"""The folder of an import, which a second call can continue.

    DIR/<split>/<class>/<name>.jpg      the image file, unchanged
    DIR/<split>/<class>/<name>.txt      its caption, if it has one
    DIR/import.json                     the source and the options, and whether it is complete

Each file is written atomically. Nothing is written outside DIR, whatever the names in the source.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from PIL import Image

from escort_codec.atomic import remove_leftovers, write_file
from escort_codec.errors import ImageError, OutputError
from escort_codec.imports.item import ImportItem, ImportOptions
from escort_codec.names import SUFFIXES, SafeNames, make_folder, make_folders, safe_part
from escort_codec.source.image import FORMATS, image_size
from escort_codec.untrusted import parse_json, read_file

RECORD: Final = "import.json"
CACHE: Final = ".import-cache"
"""Where ``datasets`` converts what it reads; removed at the end."""

log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class ImportReport:
    """The result: files written now and found from an earlier call, images by split, lines for bad images."""

    written: int = 0
    existed: int = 0
    captions: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    classes: int = 0
    skipped: list[str] = field(default_factory=list)
    renamed: int = 0
    example: str = ""


class ImportTree:
    """Writes items into ``out``. Raises OutputError if it holds anything but an import of the same source."""

    def __init__(self, out: Path, source: str, options: ImportOptions) -> None:
        self.out = out
        self._options = options
        self.report: ImportReport = ImportReport()
        self._names: dict[str, SafeNames] = {}
        self._labels: set[str] = set()
        self._about = {"source": source, **asdict(options)}
        try:
            before = {path.name for path in out.iterdir()} - {CACHE}
        except FileNotFoundError:
            before = set()
        except OSError as exc:
            raise OutputError(f"{out}: cannot be used: {exc.strerror}") from exc
        self._continued = RECORD in before
        if self._continued:
            self._check(out / RECORD)
        elif before:
            raise OutputError(f"{out}: holds other files: choose a new folder")

    def begin(self) -> None:
        """Makes the folder, or cleans up what a killed import left in it. Raises OutputError."""
        if self._continued:
            remove_leftovers(self.out)
            return
        make_folders(self.out)
        self._record(done=False)

    def _check(self, record: Path) -> None:
        try:
            there = parse_json(read_file(record, OutputError, most=1 << 20))
        except ValueError as exc:
            raise OutputError(f"{record}: cannot be read: {exc}") from exc
        theirs = there if isinstance(there, dict) else {}
        for key, mine in self._about.items():
            if theirs.get(key) != mine and key not in ("limit", "on_error"):
                raise OutputError(
                    f"{self.out}: holds an import with {key} {theirs.get(key)!r}, not {mine!r}: choose another folder"
                )

    def _record(self, *, done: bool) -> None:
        write_file(self.out / RECORD, json.dumps({**self._about, "done": done}, indent=1).encode() + b"\n")

    def add(self, item: ImportItem) -> None:
        """Writes an image and its caption, if they are not there. Raises ImageError for what is not an image."""
        split = safe_part(item.split)
        names = self._names.setdefault(split, SafeNames(()))
        stem = names.stem(item.label, item.name, sum(self.report.splits.values()))
        try:
            suffix = _suffix(item)
        except ImageError as exc:
            if self._options.on_error == "raise":
                raise
            self.report.skipped.append(str(exc))
            log.warning("skipped: %s", exc)
            return
        folder, _, name = f"{split}/{stem}".rpartition("/")
        place = make_folder(self.out, folder)
        caption = item.caption
        if caption is None and stem.partition("/")[0] != item.label:
            caption = item.label  # the folder is renamed: the prompt keeps the label
        if caption is not None:
            self.report.captions += item.caption is not None
            _write_missing(place / f"{name}.txt", caption.encode())
        new = _write_missing(place / f"{name}{suffix}", item.data)
        self.report.written += new
        self.report.existed += not new
        self.report.splits[split] = self.report.splits.get(split, 0) + 1
        self._labels.add(item.label)

    def discard(self) -> None:
        """Removes the folder that ``begin`` made, in which nothing was written."""
        if not self._continued:
            (self.out / RECORD).unlink(missing_ok=True)
            shutil.rmtree(self.out / CACHE, ignore_errors=True)
            with suppress(OSError):
                self.out.rmdir()

    def finish(self) -> ImportReport:
        """Records that the import is complete. Returns the report."""
        self.report.classes = len(self._labels)
        for names in self._names.values():
            self.report.renamed += names.changed
            self.report.example = self.report.example or names.example
        self._record(done=True)
        return self.report


def _suffix(item: ImportItem) -> str:
    """The usual ending of the image's format. Raises ImageError."""
    image_size(item.data, name=item.place)
    with Image.open(io.BytesIO(item.data), formats=FORMATS) as image:
        return SUFFIXES[image.format or "JPEG"][0]


def _write_missing(path: Path, data: bytes) -> bool:
    """Writes a file unless it is there with as many bytes."""
    try:
        if path.lstat().st_size == len(data) and not path.is_symlink():
            return False
    except FileNotFoundError:
        pass
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written: {exc.strerror}") from exc
    write_file(path, data)
    return True
