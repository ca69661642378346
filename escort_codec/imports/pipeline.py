"""``escort import``: recognises a source, and writes all of its images into a folder."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from escort_codec.errors import SourceError
from escort_codec.imports.item import ImportOptions, ImportSource, split_name
from escort_codec.imports.tree import CACHE, ImportReport, ImportTree
from escort_codec.progress import Progress
from escort_codec.settings import check
from escort_codec.source.captions import read_text

HUB: Final = "hf:"


def import_data(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: ImportOptions | None = None,
    *,
    progress: Progress = Progress(),
) -> ImportReport:
    """Writes the images of ``source`` into the new folder ``out``, as ``<split>/<class>/<image>`` with captions.

    A second call with the same source and options continues one that was stopped. Raises SourceError, ImageError,
    OutputError, UsageError.
    """
    options = options or ImportOptions()
    check(options)
    source, out = os.fspath(source), Path(out)
    tree = ImportTree(out, source, options)
    try:
        found = find_source(source, options, out / CACHE)
    except BaseException:
        shutil.rmtree(out / CACHE, ignore_errors=True)
        with suppress(OSError):  # not empty, or never made
            out.rmdir()
        raise
    tree.begin()
    progress.begin("import", found.total if options.limit is None else None)
    try:
        wanted = (item for item in found if not options.split or item.split == split_name(options.split))
        for item in islice(wanted, options.limit):
            tree.add(item)
            progress.advance()
    finally:
        progress.end()
    if not tree.report.splits:
        tree.discard()
        only = f" in the split {options.split!r}" if options.split else ""
        raise SourceError(f"{source}: holds no images{only}")
    shutil.rmtree(out / CACHE, ignore_errors=True)
    return tree.finish()


def find_source(source: str, options: ImportOptions, cache: Path) -> ImportSource:
    """Recognises ``hf:NAME``, parquet files, an archive, WebDataset shards or a folder. Raises SourceError."""
    from escort_codec.imports.archives import ArchiveSource, ShardSource, is_archive, is_shard
    from escort_codec.imports.folders import CifarSource, FolderSource, IdxSource
    from escort_codec.imports.tables import HubSource, ParquetSource

    names = _class_names(options)
    if source.startswith(HUB):
        return HubSource(source[len(HUB) :], options, cache, names)
    place = Path(source)
    if not place.exists() and any(char in source for char in "*?["):
        files = sorted(path for path in place.parent.glob(place.name) if path.is_file())
    elif place.is_dir():
        files = sorted(path for path in place.rglob("*") if path.suffix in (".parquet", ".tar") and path.is_file())
        if not files:
            if cifar := CifarSource.find(place):
                return CifarSource(cifar)
            if idx := IdxSource.find(place):
                return IdxSource(idx)
            return FolderSource(place, options)
    else:
        files = [place]
    if not files or not all(file.is_file() for file in files):
        raise SourceError(f"{source}: there is no such file or folder")
    if all(file.suffix.lower() == ".parquet" for file in files):
        return ParquetSource(files, options, names)
    if all(is_archive(file) for file in files):
        if is_shard(files[0]):
            return ShardSource(files, options, names or _beside(files[0]))
        if len(files) == 1:
            return ArchiveSource(files[0], options)
        raise SourceError(f"{source}: {len(files)} archives that are no WebDataset shards: import them one by one")
    raise SourceError(f"{source}: is not a data set: give hf:NAME, a folder, .parquet, .tar or .zip")


def _class_names(options: ImportOptions) -> list[str]:
    """The lines of ``options.classes``."""
    return _lines(Path(options.classes)) if options.classes else []


def _beside(shard: Path) -> list[str]:
    """The names of classes in a file beside WebDataset shards, as ``classnames.txt``."""
    found = (shard.parent / name for name in ("classnames.txt", "classes.txt"))
    return next((_lines(file) for file in found if file.is_file()), [])


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in read_text(file).splitlines() if line.strip()]
