"""A data folder in a store: listed once, with many requests in parallel; images are read ahead.

``StorePath`` has those parts of ``pathlib.Path`` that ``scan`` and ``read_file`` use. After the listing only bytes are
requested from the store.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, cast

from escort_codec.errors import SourceError
from escort_codec.store.ranges import TRIES
from escort_codec.store.urls import Place, Url, connect, place, reason, store_errors

READERS: Final = 32
"""Parallel requests: a store answers after tens of milliseconds, however many there are."""


class StoreFolder:
    """The files below a URL by their paths, with their sizes. Listed by top folders in parallel. Raises SourceError."""

    def __init__(self, url: Url) -> None:
        self.url = url
        self._fs, root = connect(url)
        self._root = str(root).rstrip("/")
        self.sizes: dict[PurePosixPath, int] = {}
        self.inside: dict[PurePosixPath, set[PurePosixPath]] = {PurePosixPath(): set()}
        self._texts: dict[PurePosixPath, bytes] = {}
        with store_errors(url, "listed", SourceError):
            self._fs.invalidate_cache()
            entries = self._fs.ls(self._root, detail=True)
            if [entry["name"].rstrip("/") for entry in entries if entry["type"] != "directory"] == [self._root]:
                raise SourceError(f"{url}: is not a folder")
            below = [entry["name"] for entry in entries if entry["type"] == "directory"]
            with ThreadPoolExecutor(READERS, thread_name_prefix="list") as pool:
                listings = pool.map(self._find, below)
                files = {entry["name"]: entry for entry in entries if entry["type"] != "directory"}
                for found in (files, *listings):
                    for name, entry in found.items():
                        self._add(name, entry)
        if not self.sizes:
            raise SourceError(f"{url}: there is no such folder, or it is empty")

    def _find(self, folder: str) -> dict[str, Any]:
        return dict(self._fs.find(folder, detail=True))

    def _add(self, name: str, entry: dict[str, Any]) -> None:
        if entry["type"] != "file" or name.endswith("/"):  # an empty object that represents a folder
            return
        path = PurePosixPath(name[len(self._root) :].lstrip("/"))
        self.sizes[path] = int(entry.get("size") or 0)
        while path != PurePosixPath():
            inside = self.inside.setdefault(path.parent, set())
            if path in inside:
                break
            inside.add(path)
            path = path.parent

    def read(self, path: PurePosixPath, most: int | None = None) -> bytes:
        """The bytes of a file, or its first ``most``. Raises OSError, with a reason in ``strerror``."""
        if path not in self.sizes:
            raise FileNotFoundError(errno.ENOENT, "there is no such file", str(path))
        if path.suffix.lower() == ".txt":
            if path not in self._texts:
                self._read_texts(path.parent)
            return self._texts[path][:most]
        size = self.sizes[path]
        data = self._request(path, most if most is not None and most < size else None)
        if len(data) != (size if most is None else min(size, most)):
            raise OSError(errno.EIO, "the connection was lost, or the file was replaced", str(path))
        return data

    def _request(self, path: PurePosixPath, most: int | None) -> bytes:
        part: dict[str, int] = {} if most is None else {"start": 0, "end": most}
        for left in reversed(range(TRIES)):
            try:
                return bytes(self._fs.cat_file(f"{self._root}/{path}", **part))
            except Exception as exc:  # each store has errors of its own
                if not left or isinstance(exc, FileNotFoundError | PermissionError):
                    raise OSError(errno.EIO, reason(exc), str(path)) from exc
        raise AssertionError

    def _read_texts(self, folder: PurePosixPath) -> None:
        """Reads all captions of a folder in parallel: each is small, and there may be one for each image."""
        names = [path for path in self.inside[folder] if path.suffix.lower() == ".txt" and path in self.sizes]
        with ThreadPoolExecutor(READERS, thread_name_prefix="captions") as pool:
            for path, data in zip(names, pool.map(lambda path: self._request(path, None), names), strict=True):
                self._texts[path] = data

    def __reduce__(self) -> tuple[Any, ...]:
        return _Unlisted, (self.url, self._root)


class _Unlisted(StoreFolder):
    """The folder in another process, which reads single files of it and needs no listing."""

    def __init__(self, url: Url, root: str) -> None:
        self.url, self._root = url, root
        self.sizes, self.inside = {}, {}
        self._fs, _ = connect(url)

    def read(self, path: PurePosixPath, most: int | None = None) -> bytes:
        """See ``StoreFolder``."""
        return self._request(path, None if most is None else most)


class StorePath:
    """A file or folder of a ``StoreFolder``."""

    __slots__ = ("_data", "_folder", "_path")

    def __init__(self, folder: StoreFolder, path: PurePosixPath = PurePosixPath(), data: bytes | None = None) -> None:
        self._folder, self._path, self._data = folder, path, data

    @property
    def name(self) -> str:
        """The last part."""
        return self._path.name or self._folder.url.name

    @property
    def stem(self) -> str:
        """``name`` without its ending."""
        return self._path.stem

    @property
    def suffix(self) -> str:
        """The ending of ``name``, with its dot."""
        return self._path.suffix

    @property
    def parent(self) -> StorePath:
        """The folder around it; of the listed folder, itself."""
        return StorePath(self._folder, self._path.parent)

    def __truediv__(self, part: str | PurePosixPath) -> StorePath:
        return StorePath(self._folder, self._path / part)

    def as_posix(self) -> str:
        """The path below the listed folder."""
        return self._path.as_posix()

    def relative_to(self, other: StorePath) -> PurePosixPath:
        """The path below ``other``."""
        return self._path.relative_to(other._path)

    def is_dir(self) -> bool:
        """Whether files lie below it."""
        return self._path in self._folder.inside

    def is_file(self) -> bool:
        """Whether it is a file."""
        return self._path in self._folder.sizes

    def exists(self) -> bool:
        """Whether it is a file or a folder."""
        return self.is_file() or self.is_dir()

    def is_symlink(self) -> bool:
        """Stores have no links."""
        return False

    def iterdir(self) -> Iterator[StorePath]:
        """What lies directly in the folder."""
        return (StorePath(self._folder, path) for path in self._folder.inside.get(self._path, ()))

    @property
    def size(self) -> int:
        """The bytes of the file."""
        return self._folder.sizes.get(self._path, 0)

    def read_bytes(self) -> bytes:
        """The file's bytes. Raises OSError."""
        return self._folder.read(self._path) if self._data is None else self._data

    def open(self, mode: str = "rb") -> BinaryIO:
        """The first 64 KiB of the file as a stream. Raises OSError."""
        return io.BytesIO(self._folder.read(self._path, 1 << 16))

    def fetched(self) -> StorePath:
        """The path with the file's bytes loaded. Raises OSError."""
        return StorePath(self._folder, self._path, self.read_bytes())

    def __str__(self) -> str:
        return f"{str(self._folder.url).rstrip('/')}/{self._path}" if self._path.parts else str(self._folder.url)

    def __repr__(self) -> str:
        return f"StorePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorePath) and (self._folder is other._folder, self._path) == (True, other._path)

    def __hash__(self) -> int:
        return hash(self._path)


def source_path(folder: str | os.PathLike[str]) -> Path:
    """A data folder: a Path, or for a URL a StorePath, which does as one here. Raises SourceError, StoreError."""
    here: Place = place(folder)
    return cast("Path", StorePath(StoreFolder(here))) if isinstance(here, Url) else here
