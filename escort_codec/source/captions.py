"""Captions of a data folder: from a text file beside the image, or from a metadata file.

    <stem>.txt           beside the image
    metadata.jsonl       in the data folder, its split folder or the class folder: one JSON object per line
    metadata.csv         the same as a table with a header

An entry of a metadata file has a file name (``file_name``; also ``filename``, ``file``, ``image`` or ``path``) relative
to its folder, and a caption (``text``; also ``caption`` or ``prompt``): a text, or a list of texts, of which the first
counts. Text of numbers only is not a caption: it holds labels or boxes.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from escort_codec.errors import SourceError
from escort_codec.words import counted, listed

METADATA: Final = ("metadata.jsonl", "metadata.csv")
FILE_KEYS: Final = ("file_name", "filename", "file", "image", "path")
TEXT_KEYS: Final = ("text", "caption", "prompt")
_NUMBERS: Final = re.compile(r"[\s.,;:+\-/%]*(?:\d[eE]?[\s.,;:+\-/%]*)*")


@dataclass(slots=True)
class Captions:
    """The captions in a data folder's metadata files, and the use of all captions.

    ``used`` counts the images with a caption; ``unmatched`` lists the entries whose file name belongs to no image;
    ``numeric`` lists text files that hold only numbers; ``empty`` counts entries without a text.
    """

    root: Path
    used: int = 0
    numeric: list[Path] = field(default_factory=list)
    empty: int = 0
    _texts: dict[str, str] = field(default_factory=dict)
    _texts_left: dict[Path, None] = field(default_factory=dict)  # text files that no image has used yet
    _names: dict[str, str] = field(default_factory=dict)  # normal form -> as it is written, of entries not used yet

    def read(self, folder: Path, split: Path) -> None:
        """Reads the metadata files of ``folder``; ``split`` holds the class folders. Raises SourceError."""
        for file in (folder / name for name in METADATA):
            if not file.is_file():
                continue
            for where, entry in _entries(file):
                name = _value(entry, FILE_KEYS)
                if not isinstance(name, str):
                    raise SourceError(f"{where}: has no text 'file_name'")
                text = _caption(_value(entry, TEXT_KEYS))
                if text is None:
                    self.empty += 1
                    continue
                place = _place(folder, name, split)
                self._texts[place] = text
                self._names[place] = f"{name} in {file}"

    def beside(self, files: Iterable[Path]) -> dict[str, Path]:
        """The text files of one folder by stem, for ``of``; they count as unmatched until used."""
        texts = {_normal(file.stem): file for file in files}
        self._texts_left.update(dict.fromkeys(texts.values()))
        return texts

    def of(self, image: Path, beside: Mapping[str, Path]) -> str | None:
        """The caption of an image, or None; ``beside`` are the text files of the image's folder.

        Raises SourceError if a text file cannot be read.
        """
        file = beside.get(_normal(image.stem))
        text = None
        if file is not None:
            self._texts_left.pop(file, None)
            content = read_text(file)
            text = _caption(content)
            if text is None and content.strip():
                self.numeric.append(file)
        place = _normal(image.as_posix())
        self._names.pop(place, None)
        if text is None:
            text = self._texts.get(place)
        self.used += text is not None
        return text

    @property
    def unmatched(self) -> list[str]:
        """The entries without an image, as they are written."""
        return list(self._names.values())

    def notes(self, images: int) -> Iterator[str]:
        """Lines about used and unused captions; none if there are no captions."""
        if self.used:
            yield f"captions: {self.used} of {images} images have one"
        if unmatched := self.unmatched:
            yield f"captions: no image for {counted(len(unmatched), 'entry', 'entries')}: {listed(unmatched, 1)}"
        if self._texts_left:
            left = [str(path) for path in self._texts_left]
            yield f"captions: no image for {counted(len(left), 'text file')}: {listed(left, 1)}"
        if self.empty:
            entries = counted(self.empty, "entry", "entries")
            yield f"captions: no text ({', '.join(TEXT_KEYS)}) in {entries} of the metadata files"
        if self.numeric:
            yield f"captions: numbers are not used as captions: {listed(list(map(str, self.numeric)), 1)}"


def read_text(file: Path) -> str:
    """A text file's content: UTF-8, UTF-16 with a byte order mark, else Windows' Latin encoding. Raises SourceError."""
    try:
        data = file.read_bytes()
    except OSError as exc:
        raise SourceError(f"{file}: the caption cannot be read: {exc.strerror}") from exc
    try:
        text = data.decode("utf-16") if data.startswith((b"\xff\xfe", b"\xfe\xff")) else data.decode("utf-8-sig")
        if "\0" not in text:
            return text
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
        if "\0" not in text and "\ufffd" not in text:
            return text
    raise SourceError(f"{file}: the caption cannot be read: it is not text in UTF-8, UTF-16 or Windows-1252")


def _entries(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place for messages, entry) of a metadata file. Raises SourceError."""
    text = read_text(file)
    if file.suffix == ".csv":
        try:
            for row in (reader := csv.DictReader(io.StringIO(text, newline=""))):
                yield f"{file}, line {reader.line_num}", {(key or "").strip(): value for key, value in row.items()}
        except csv.Error as exc:
            raise SourceError(f"{file}: is not a table: {exc}") from exc
        return
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: a text may hold U+2028
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise SourceError(f"{where}: is not JSON: {exc}") from exc
        if not isinstance(entry, dict):
            raise SourceError(f"{where}: is not a JSON object with 'file_name' and 'text'")
        yield where, entry


def _value(entry: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """The value of the first of ``keys`` that the entry has, in any letter case, with something in it."""
    lower = {key.lower(): value for key, value in entry.items() if value not in (None, "", [])}
    return next((lower[key] for key in keys if key in lower), None)


def _caption(value: Any) -> str | None:
    """A caption of a text or a list of texts; None for an empty one and for numbers."""
    if isinstance(value, list):
        return next((text for each in value if (text := _caption(each)) is not None), None)
    if not isinstance(value, str) or _NUMBERS.fullmatch(value):
        return None
    return value.strip()


def _place(folder: Path, name: str, split: Path) -> str:
    """An entry's image in normal form: relative to ``folder``, or to the ``split`` folder where the classes are."""
    parts = PurePosixPath(name.replace("\\", "/"))
    here = _normal((folder / parts).as_posix())
    if folder != split and not (folder / parts).exists() and (split / parts).exists():
        return _normal((split / parts).as_posix())
    return here


def _normal(path: str) -> str:
    """One spelling of a path: no ``.`` or ``..``, and the composed Unicode form (NFC)."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] not in ("", ".."):
            parts.pop()
        elif part != ".":
            parts.append(part)
    return unicodedata.normalize("NFC", "/".join(parts))
