"""Finds the splits and the classes among the folders of a data folder.

    DATA/<class>/...                      class folders
    DATA/train/<class>/...                splits: train or training; val, valid, validation or dev; test or testing,
    DATA/test/<class>/...                 in any letter case
    DATA/<one folder>/train/<class>/...   the same inside a single folder, as archives have it

An ambiguous folder is an error that names both readings. With ``layout="classes"`` every folder is a class, whatever
its name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from escort_codec.errors import SourceError
from escort_codec.names import MANIFEST, there_is
from escort_codec.source.remote import StorePath
from escort_codec.words import counted, listed

SPLITS: Final[dict[str, tuple[str, ...]]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""The splits by the names that their folders have."""

LITTER: Final = frozenset(
    (
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "zbthumbnail.info", "picasa.ini"),
        *("__macosx", "__pycache__", "@eadir", "@tmp", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "recycler"),
        *("lost+found", "found.000", "system volume information"),
    )
)
"""Names (lower case) of files and folders that systems leave behind."""

SIDECARS: Final = frozenset(
    (
        *(".txt", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".md", ".html", ".pdf", ".log", ".ini"),
        *(".db", ".info", ".npy", ".npz", ".mat", ".pkl", ".md5", ".sha256", ".xmp", ".aae", ".lnk", ".url", ".escx"),
        *("readme", "license", "licence", "copying", "notice", "authors", "citation", "changelog", "md5sums"),
    )
)
"""Endings (lower case) of files beside images that are not images; names of such files without an ending."""

CACHE_TAG: Final = "CACHEDIR.TAG"
CACHE_SIGNATURE: Final = b"Signature: 8a477f597d28d172789f06886806bc55"
"""The file that marks a folder as a cache, and how it begins (Cache Directory Tagging Specification)."""

_RUN_FILES: Final = (("config.json", "metrics.jsonl"), ("config.json", "log.txt"), ("config.json", "memory.escx"))


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders that hold class folders, by split: ``train``, ``val``, ``test``; None if there is no such split.

    Without splits ``train`` is the folder of all classes and ``split`` is False. ``notes`` name what is not used.
    """

    folder: Path
    split: bool
    train: Path | None = None
    val: Path | None = None
    test: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def held_apart(self) -> Path | None:
        """The folder of the test images: ``test``, or ``val`` if there is no test."""
        return self.test or self.val

    def root(self, split: str) -> Path:
        """The folder with the class folders of a split, by any of its names. Raises SourceError."""
        name = next((name for name, names in SPLITS.items() if split.lower() in names), None)
        found = getattr(self, name) if name is not None and self.split else None
        if name == "train" and not self.split:
            found = self.train
        if found is None:
            there = ", ".join(f"{each}/" for each in SPLITS if self.split and getattr(self, each) is not None)
            raise SourceError(
                f"{self.folder}: has no folder {split!r} with class folders in it"
                + (f" (there are {there}): rename the one to use" if there else "")
            )
        return found  # type: ignore[no-any-return]

    def describe(self, root: Path, classes: int, images: int) -> str:
        """``train/ (20 classes, 800 images), test/``; the counts are those of ``root``, one of the splits."""
        counts = f"({counted(classes, 'class')}, {counted(images, 'image')})"
        if not self.split:
            return f"class folders {counts}"
        places = dict.fromkeys(place for place in (self.train, self.held_apart, root) if place is not None)
        shown = {place: f"{place.relative_to(self.folder).as_posix()}/" for place in places}
        return ", ".join(f"{shown[place]} {counts}" if place == root else shown[place] for place in places)


class Folders:
    """Listings of the folders of a data folder, each read once: a class may have a million images."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[list[Path], list[Path]]] = {}

    def listed(self, root: Path) -> tuple[list[Path], list[Path]]:
        """(folders, files) directly in ``root``, sorted by name, without what is hidden. Raises SourceError."""
        if root not in self._seen:
            folders: list[str] = []
            files: list[str] = []
            try:
                with _entries(root) as entries:
                    for entry in entries:
                        if not is_hidden(entry.name):
                            (folders if entry.is_dir() else files).append(entry.name)
            except OSError as exc:
                raise SourceError(f"{root}: cannot be listed: {exc.strerror}") from exc
            self._seen[root] = [root / name for name in sorted(folders)], [root / name for name in sorted(files)]
        return self._seen[root]

    def classes(self, root: Path) -> list[Path]:
        """The folders directly in ``root`` that can be classes: not hidden, no litter, no caches, not written by
        escort."""
        return [path for path in self.listed(root)[0] if not self._is_ours(path)]

    def has_images(self, folder: Path, *, deep: bool = False) -> bool:
        """Whether a folder has files that should be images: directly in it or, with ``deep``, anywhere below."""
        folders, files = self.listed(folder)
        if not all(is_sidecar(file.name) for file in files):
            return True
        return deep and any(self.has_images(path, deep=True) for path in folders if not path.is_symlink())

    def _is_ours(self, folder: Path) -> bool:
        """Whether a folder is a cache, a run, holds runs, or was written by ``escort decode``."""
        if _head(folder / CACHE_TAG).startswith(CACHE_SIGNATURE) or b'"exemplar"' in _head(folder / MANIFEST):
            return True
        return self._holds_runs(folder, depth=2)

    def _holds_runs(self, folder: Path, depth: int) -> bool:
        folders, files = self.listed(folder)
        here = {file.name for file in files}
        if any(here.issuperset(names) for names in _RUN_FILES):
            return True
        return depth > 0 and any(self._holds_runs(path, depth - 1) for path in folders)


def find_layout(folder: Path, layout: str = "auto", folders: Folders | None = None) -> Layout:
    """The layout of a data folder; ``folders`` keeps its listings. Raises SourceError if there is none, or two."""
    if not (folder.exists() if isinstance(folder, StorePath) else there_is(folder)):
        raise SourceError(f"{folder}: there is no such folder")
    if not folder.is_dir():
        raise SourceError(f"{folder}: is not a folder")
    whole = Layout(folder, split=False, train=folder)
    if layout == "classes":
        return whole
    folders = folders or Folders()
    return _in_folder(folder, folder, folders) or _in_wrapper(folder, folders) or whole


def _in_folder(folder: Path, place: Path, folders: Folders) -> Layout | None:
    """The splits in ``place``, or None if it has none. A folder with images directly in it is a class, not a split."""
    found: dict[str, list[Path]] = {name: [] for name in SPLITS}
    flat: list[Path] = []
    others: list[Path] = []
    for each in folders.classes(place):
        name = next((name for name, names in SPLITS.items() if each.name.lower() in names), None)
        if name is None:
            others.append(each)
        elif folders.classes(each):
            found[name].append(each)
        elif folders.has_images(each):
            flat.append(each)
    splits = {name: places for name, places in found.items() if places}
    if not splits:
        return None
    for name, places in splits.items():
        if len(places) > 1:
            raise SourceError(
                f"{place}: {places[0].name}/ and {places[1].name}/ can both be the {name} split: rename or move one"
            )
    others = [each for each in others if folders.has_images(each, deep=True)]
    if others and len(splits) == 1:
        first = next(iter(splits.values()))[0]
        names = sorted(each.name for each in (*others, *flat, first))
        raise SourceError(
            f"{place}: can be read in two ways: {first.name}/ is a split (give {first} for its "
            f"{counted(len(folders.classes(first)), 'class')}), or {listed(names)} are {len(names)} classes (set "
            "`layout` to classes)"
        )
    notes = [f"{each}: has no class folders and is not used" for each in flat]
    if others:
        notes.append(f"{place}: not used, as no splits: {listed([f'{each.name}/' for each in others])}")
    paths = {name: places[0] for name, places in splits.items()}
    return Layout(folder, True, paths.get("train"), paths.get("val"), paths.get("test"), tuple(notes))


def _in_wrapper(folder: Path, folders: Folders) -> Layout | None:
    """The layout inside the only folder of ``folder``, if that holds splits; folders may wrap one another."""
    found = folders.classes(folder)
    if len(found) != 1:
        return None
    (only,) = found
    inside = _in_folder(folder, only, folders) or _in_wrapper(only, folders)
    if inside is not None:
        if folders.has_images(only):
            splits = listed([f"{each.name}/" for each in (inside.train, inside.val, inside.test) if each is not None])
            raise SourceError(
                f"{folder}: can be read in two ways: {only.name}/ holds {splits} (move the images beside them away), "
                "or it is one class (set `layout` to classes)"
            )
        return replace(inside, folder=folder)
    if folders.has_images(only):
        return None
    deeper = [each for each in folders.classes(only) if folders.has_images(each, deep=True)]
    if len(deeper) > 1:
        raise SourceError(
            f"{folder}: can be read in two ways: {only.name}/ holds {len(deeper)} classes (give {only}), or it is one "
            "class (set `layout` to classes)"
        )
    return None


def _entries(folder: Path) -> AbstractContextManager[Iterable[os.DirEntry[str] | StorePath]]:
    return nullcontext(folder.iterdir()) if isinstance(folder, StorePath) else os.scandir(folder)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is skipped."""
    return name.startswith(".") or name.lower() in LITTER


def is_sidecar(name: str) -> bool:
    """Whether a file of this name lies beside images and is not one (``SIDECARS``)."""
    lower = name.lower()
    return (os.path.splitext(lower)[1] or lower) in SIDECARS or name == CACHE_TAG  # noqa: PTH122


def _head(file: Path) -> bytes:
    """The first 4096 bytes of a file, or nothing if it cannot be read."""
    try:
        with file.open("rb") as opened:
            return opened.read(4096)
    except OSError:
        return b""
