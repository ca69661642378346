"""Zip and tar archives of class folders, and WebDataset shards."""

from __future__ import annotations

import contextlib
import json
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from escort_codec.errors import SourceError
from escort_codec.imports.item import (
    CAPTIONS,
    IMAGE_ENDINGS,
    LABELS,
    ImportItem,
    ImportOptions,
    check_member,
    class_name,
    first_key,
    split_name,
    split_of_file,
)
from escort_codec.source.layout import SPLITS, is_hidden

ENDINGS: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_FIELDS: Final = frozenset(("cls", "json", "txt", "text", "caption", "class"))


def is_archive(path: Path) -> bool:
    """Whether a file's name is an archive's."""
    return path.name.lower().endswith(ENDINGS)


def members(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """The files of a zip or tar archive in its order, with names checked; links and devices are skipped.

    Raises SourceError.
    """
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as opened:
                for info in opened.infolist():
                    if not info.is_dir():
                        path = check_member(info.filename, info.file_size, str(archive))
                        yield path, opened.read(info)
            return
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                if member.isfile():
                    path = check_member(member.name, member.size, str(archive))
                    file = tar.extractfile(member)
                    yield path, b"" if file is None else file.read()
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as exc:
        raise SourceError(f"{archive}: is damaged, cut off or encrypted: {exc}") from exc
    except OSError as exc:
        raise SourceError(f"{archive}: cannot be read: {exc.strerror or exc}") from exc


class ArchiveSource:
    """An archive of class folders: ``<class>/<image>``, ``train/<class>/<image>``, in any wrapping folder.

    ``<image>.txt`` beside an image is its caption. The archive is read twice, the first time for its names.
    """

    def __init__(self, archive: Path, options: ImportOptions) -> None:
        self._archive, self._options = archive, options
        names = _names(archive)
        self._captions = {path for path in names if path.suffix.lower() == ".txt"}
        images = [path for path in names if path.suffix.lower() in IMAGE_ENDINGS]
        if not images:
            raise SourceError(f"{archive}: holds no images")
        self._depth = _depth(images)
        if any(len(path.parts) < self._depth + 2 for path in images):
            raise SourceError(f"{archive}: its images do not lie in class folders (<class>/<image>)")
        self.total: int | None = len(images)

    def __iter__(self) -> Iterator[ImportItem]:
        texts: dict[PurePosixPath, str] = {}
        if self._captions:
            for path, data in members(self._archive):
                if path in self._captions:
                    texts[path.with_suffix("")] = data.decode("utf-8", "replace").strip()
        for path, data in members(self._archive):
            if path.suffix.lower() in IMAGE_ENDINGS and not _hidden(path):
                split, label, name = self._parts(path)
                caption = texts.get(path.with_suffix(""))
                yield ImportItem(split, label, name, data, caption or None, f"{self._archive}, {path}")

    def _parts(self, path: PurePosixPath) -> tuple[str, str, str]:
        parts = path.parts[self._depth :]
        if split_name(parts[0]) in SPLITS and len(parts) > 2:
            return split_name(parts[0]), parts[1], "/".join(parts[2:])
        return "train", parts[0], "/".join(parts[1:])


def _names(archive: Path) -> list[PurePosixPath]:
    if archive.name.lower().endswith(".zip"):
        try:
            with zipfile.ZipFile(archive) as opened:
                infos = [info for info in opened.infolist() if not info.is_dir()]
                paths = [check_member(info.filename, info.file_size, str(archive)) for info in infos]
        except (zipfile.BadZipFile, OSError) as exc:
            raise SourceError(f"{archive}: cannot be read: {exc}") from exc
    else:
        paths = [path for path, _ in members(archive)]
    return [path for path in paths if not _hidden(path)]


def _hidden(path: PurePosixPath) -> bool:
    return any(is_hidden(part) for part in path.parts)


def _depth(images: Sequence[PurePosixPath]) -> int:
    """The number of folders around all images that are neither a split nor a class."""
    depth = 0
    while True:
        here = {path.parts[depth] for path in images if len(path.parts) > depth + 1}
        if len(here) != 1 or split_name(next(iter(here))) in SPLITS:
            return depth
        inside = {len(path.parts) > depth + 2 for path in images}
        if inside != {True}:  # images lie directly in it: it is a class
            return depth
        depth += 1


class ShardSource:
    """WebDataset shards: consecutive files of one key are a sample: image, ``.cls`` or ``.json``, ``.txt``."""

    def __init__(self, shards: Sequence[Path], options: ImportOptions, names: list[str]) -> None:
        self._shards, self._options = shards, options
        self._classes = names
        self.total: int | None = None

    def __iter__(self) -> Iterator[ImportItem]:
        for shard in self._shards:
            split = split_of_file(shard)
            for key, fields in _samples(members(shard)):
                if (item := self._item(shard, split, key, fields)) is not None:
                    yield item

    def _item(self, shard: Path, split: str, key: str, fields: dict[str, bytes]) -> ImportItem | None:
        place = f"{shard}, {key}"
        endings = [each for each in fields if f".{each.rpartition('.')[2].lower()}" in IMAGE_ENDINGS]
        if not endings:
            return None
        about: dict[str, Any] = {}
        if "json" in fields:
            with contextlib.suppress(ValueError):
                about = json.loads(fields["json"])
        about = about if isinstance(about, dict) else {}
        texts = {name: data.decode("utf-8", "replace").strip() for name, data in fields.items() if name in _FIELDS}
        values = {**about, **{name: text for name, text in texts.items() if name != "json"}}
        column = first_key(self._options.label, ("cls", *LABELS), list(values), "key", place)
        folder, _, name = key.rpartition("/")
        if column is not None:
            label = class_name(values[column], self._classes, place)
        elif folder:
            label, folder = folder.rpartition("/")[2], ""
        else:
            raise SourceError(f"{place}: has no class: no .cls, no key {', '.join(LABELS[:3])} in .json, no folder")
        caption_key = first_key(self._options.caption, CAPTIONS, list(values), "key", place)
        caption = values.get(caption_key) if caption_key else None
        return ImportItem(
            split,
            label,
            f"{folder}/{name}" if folder else name,
            fields[endings[0]],
            caption if isinstance(caption, str) and caption else None,
            place,
        )


def is_shard(archive: Path) -> bool:
    """Whether a tar is a WebDataset shard: its first sample has an image with a ``.cls`` or ``.json`` beside it."""
    if archive.name.lower().endswith(".zip"):
        return False
    for _, fields in _samples(members(archive)):
        return bool({"cls", "json"} & fields.keys())
    return False


def _samples(files: Iterable[tuple[PurePosixPath, bytes]]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, files by ending) of consecutive files of one key: the path up to the first dot of the file's name."""
    last, fields = "", dict[str, bytes]()
    for path, data in files:
        if _hidden(path):
            continue
        stem, _, ending = path.name.partition(".")
        key = (path.parent / stem).as_posix()
        if key != last and fields:
            yield last, fields
            fields = {}
        last = key
        fields[ending.lower()] = data
    if fields:
        yield last, fields
