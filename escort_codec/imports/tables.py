"""Parquet files, and data sets of Hugging Face's ``datasets``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from escort_codec.errors import SourceError
from escort_codec.imports.item import (
    CAPTIONS,
    IMAGES,
    LABELS,
    ImportItem,
    ImportOptions,
    class_name,
    first_key,
    split_name,
    split_of_file,
)

_ROWS: Final = 32
"""Rows that are read at once: each may hold an image of megabytes."""


class Columns:
    """Finds the columns of images, classes and captions, by type if known, else by name."""

    def __init__(self, names: list[str], types: Mapping[str, Any], options: ImportOptions, place: str) -> None:
        kinds = {name: kind.get("_type") for name, kind in types.items() if isinstance(kind, dict)}
        pictures = tuple(name.lower() for name in names if kinds.get(name) == "Image")
        classes = tuple(name.lower() for name in names if kinds.get(name) == "ClassLabel")
        image = first_key(options.image, (*pictures, *IMAGES), names, "column", place)
        label = first_key(options.label, (*classes, *LABELS), names, "column", place)
        for what, found, flag in (("images", image, "image"), ("classes", label, "label")):
            if found is None:
                raise SourceError(f"{place}: no column of {what} is found in {', '.join(names)}: set `{flag}`")
        self.image: str = str(image)
        self.label: str = str(label)
        self.caption: str | None = first_key(options.caption, CAPTIONS, names, "column", place)
        declared = types.get(self.label)
        self.classes: list[str] = list(declared.get("names") or ()) if isinstance(declared, dict) else []

    def used(self) -> list[str]:
        """The columns to read."""
        return [self.image, self.label, *([self.caption] if self.caption else [])]

    def item(self, row: Mapping[str, Any], split: str, name: str, classes: list[str], place: str) -> ImportItem:
        """One row. Raises SourceError."""
        picture, caption = row[self.image], row[self.caption] if self.caption else None
        data = picture.get("bytes") if isinstance(picture, dict) else picture
        path = picture.get("path") if isinstance(picture, dict) else None
        if data is None and path:
            try:
                data = Path(path).read_bytes()
            except OSError as exc:
                raise SourceError(f"{place}: {path}: cannot be read: {exc.strerror}") from exc
        if not isinstance(data, bytes):
            raise SourceError(f"{place}: column {self.image!r} holds no image file: set `image` to another one")
        if isinstance(caption, list):
            caption = next((text for text in caption if isinstance(text, str)), None)
        label = class_name(row[self.label], classes or self.classes, place)
        stem = re.split(r"[\\/]", path)[-1] if path else name
        return ImportItem(split, label, stem, data, caption if isinstance(caption, str) and caption else None, place)


class ParquetSource:
    """Parquet files with a column of image files."""

    def __init__(self, files: Sequence[Path], options: ImportOptions, names: list[str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._parquet, self._error = pq, pa.ArrowException
        self._files, self._options, self._classes = files, options, names
        try:
            self.total: int | None = sum(pq.read_metadata(file).num_rows for file in files)
        except (pa.ArrowException, OSError) as exc:
            raise SourceError(f"{files[0]}: cannot be read: {str(exc).splitlines()[0]}") from exc

    def __iter__(self) -> Iterator[ImportItem]:
        for path in self._files:
            split = split_of_file(path)
            try:
                with self._parquet.ParquetFile(path) as file:
                    yield from self._rows(path, file, split)
            except (self._error, OSError) as exc:
                raise SourceError(f"{path}: cannot be read: {str(exc).splitlines()[0]}") from exc

    def _rows(self, path: Path, file: Any, split: str) -> Iterator[ImportItem]:
        schema = file.schema_arrow
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        columns = Columns(schema.names, about.get("info", {}).get("features") or {}, self._options, str(path))
        number = 0
        for batch in file.iter_batches(batch_size=_ROWS, columns=columns.used()):
            for row in batch.to_pylist():
                name = f"{path.stem}-{number:06d}"
                yield columns.item(row, split, name, self._classes, f"{path}, row {number}")
                number += 1


class HubSource:
    """``hf:NAME[@revision]``: a data set of the Hugging Face hub, or one in a folder (``hf:./folder``).

    Downloads and conversions go to ``cache``.
    """

    def __init__(self, name: str, options: ImportOptions, cache: Path, names: list[str]) -> None:
        import datasets

        self._options, self._classes, self._name = options, names, name
        folder, _, revision = (name, "", "") if Path(name).exists() else name.partition("@")
        here = Path(folder)
        if not here.exists() and re.match(r"[./~]", folder):  # a path, which no name on the hub can be
            raise SourceError(f"hf:{name}: there is no such folder")
        try:
            datasets.disable_progress_bars()
            if (here / "state.json").is_file() or (here / "dataset_dict.json").is_file():
                loaded = datasets.load_from_disk(folder)
            else:
                config = options.config or None
                loaded = datasets.load_dataset(folder, config, revision=revision or None, cache_dir=str(cache))
        except Exception as exc:  # of the hub, of builders, of files
            why = " ".join(str(exc).split())[:300] or type(exc).__name__
            raise SourceError(f"hf:{name}: cannot be loaded: {why}") from exc
        splits = dict(loaded) if isinstance(loaded, dict) else {str(loaded.split or "train"): loaded}
        self._splits = {split_name(str(split)): rows for split, rows in splits.items()}
        self._undecoded = datasets.Image(decode=False)
        wanted = [
            rows for split, rows in self._splits.items() if not options.split or split == split_name(options.split)
        ]
        self.total: int | None = sum(map(len, wanted))

    def __iter__(self) -> Iterator[ImportItem]:
        for split, rows in self._splits.items():
            place = f"hf:{self._name}, {split}"
            columns = Columns(rows.column_names, rows.features.to_dict(), self._options, place)
            rows = rows.select_columns(columns.used()).cast_column(columns.image, self._undecoded)
            for number, row in enumerate(rows):
                yield columns.item(row, split, f"{number:06d}", self._classes, f"{place} {number}")
