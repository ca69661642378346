"""Which of a data folder's folders are splits and which are classes.

    DATA/<class>/...                      class folders
    DATA/train/<class>/...                splits: train or training; val, valid, validation or dev; test or testing,
    DATA/test/<class>/...                 in any letter case
    DATA/<one folder>/train/<class>/...   the same inside a single folder, as archives have it

What can be read in two ways is refused with both readings. ``layout="classes"`` takes every folder as a class, whatever
its name.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from escort_codec.errors import SourceError

SPLITS: Final = {
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

_RUN_FILES: Final = (("config.json", "metrics.jsonl"), ("config.json", "log.txt"), ("config.json", "memory.escx"))
MANIFEST: Final = "manifest.jsonl"


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders that hold class folders, by split: ``train``, ``val``, ``test``; None if there is no such split.

    Without splits ``train`` is the folder of all classes and ``split`` is False. ``notes`` tell what is not used.
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
                + (f" (there are {there})" if there else "")
            )
        return Path(found)

    def describe(self, classes: int, images: int) -> str:
        """``train/ (20 classes, 800 images), test/``; the counts are those of the training part."""
        counts = f"({classes} {'class' if classes == 1 else 'classes'}, {images} image{'' if images == 1 else 's'})"
        if not self.split:
            return f"class folders {counts}"
        places = [self._shown(self.train) + f" {counts}"] if self.train is not None else []
        if self.held_apart is not None:
            places.append(self._shown(self.held_apart))
        return ", ".join(places)

    def _shown(self, place: Path | None) -> str:
        assert place is not None
        return f"{place.relative_to(self.folder).as_posix()}/"


def find_layout(folder: Path, layout: str = "auto") -> Layout:
    """The layout of a data folder. Raises SourceError if there is none, or two readings."""
    if not folder.exists():
        raise SourceError(f"{folder}: there is no such folder")
    if not folder.is_dir():
        raise SourceError(f"{folder}: is not a folder")
    if layout == "classes":
        return Layout(folder, split=False, train=folder)
    return _in_folder(folder, folder) or _in_wrapper(folder) or Layout(folder, split=False, train=folder)


def _in_folder(folder: Path, place: Path) -> Layout | None:
    """The splits in ``place``, or None if it has none. A folder with images directly in it is a class, not a split."""
    folders = class_folders(place)
    found: dict[str, list[Path]] = {name: [] for name in SPLITS}
    others: list[Path] = []
    for each in folders:
        name = next((name for name, names in SPLITS.items() if each.name.lower() in names), None)
        if name is None:
            others.append(each)
        elif class_folders(each):
            found[name].append(each)
        elif has_files(each):
            others.append(each)
    splits = {name: places for name, places in found.items() if places}
    if not splits:
        return None
    for name, places in splits.items():
        if len(places) > 1:
            raise SourceError(
                f"{place}: {places[0].name}/ and {places[1].name}/ can both be the {name} split: rename or move one"
            )
    flat = [each for each in others if any(each.name.lower() in names for names in SPLITS.values())]
    others = [each for each in others if each not in flat and has_files(each, deep=True)]
    if others and len(splits) == 1:
        first = next(iter(splits.values()))[0]
        names = sorted(each.name for each in (*others, *flat, first))
        raise SourceError(
            f"{place}: can be read in two ways: {first.name}/ is a split (give {first} for its "
            f"{len(class_folders(first))} classes), or {_listed(names)} are {len(names)} classes (set `layout` to "
            "classes)"
        )
    notes = [f"{each}: has no class folders and is not used" for each in flat]
    if others:
        notes.append(f"{place}: {_listed([f'{each.name}/' for each in others])} is not a split and is not used")
    paths = {name: places[0] for name, places in splits.items()}
    return Layout(folder, True, paths.get("train"), paths.get("val"), paths.get("test"), tuple(notes))


def _in_wrapper(folder: Path) -> Layout | None:
    """The layout inside the only folder of ``folder``, if that holds splits; folders may wrap one another."""
    folders = class_folders(folder)
    if len(folders) != 1 or has_files(folders[0]):
        return None
    (only,) = folders
    inside = _in_folder(folder, only) or _in_wrapper(only)
    if inside is not None:
        return replace(inside, folder=folder)
    deeper = [each for each in class_folders(only) if has_files(each, deep=True)]
    if len(deeper) > 1:
        raise SourceError(
            f"{folder}: can be read in two ways: {only.name}/ holds {len(deeper)} classes (give {only}), or it is one "
            "class (set `layout` to classes)"
        )
    return None


def class_folders(root: Path) -> list[Path]:
    """The folders directly in ``root`` that can be classes, sorted by name: no hidden ones, no litter, none of ours."""
    return [path for path in _entries(root, folders=True) if not _is_ours(path)]


def has_files(folder: Path, *, deep: bool = False) -> bool:
    """Whether a folder has a visible file directly in it, or with ``deep`` anywhere below."""
    if _entries(folder, folders=False):
        return True
    return deep and any(has_files(path, deep=True) for path in _entries(folder, folders=True) if not path.is_symlink())


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over."""
    return name.startswith(".") or name.lower() in LITTER


def _entries(root: Path, *, folders: bool) -> list[Path]:
    try:
        with os.scandir(root) as entries:
            names = sorted(e.name for e in entries if e.is_dir() == folders and not is_hidden(e.name))
    except OSError as exc:
        raise SourceError(f"{root}: cannot be listed: {exc.strerror}") from exc
    return [root / name for name in names]


def _is_ours(folder: Path) -> bool:
    """Whether a folder is a run, holds runs, or was written by ``escort decode``."""
    return _is_decoded(folder) or _holds_runs(folder, depth=2)


def _is_decoded(folder: Path) -> bool:
    try:
        with (folder / MANIFEST).open("rb") as file:
            return b'"exemplar"' in file.read(4096)
    except OSError:
        return False


def _holds_runs(folder: Path, depth: int) -> bool:
    if any(all((folder / name).is_file() for name in names) for names in _RUN_FILES):
        return True
    return depth > 0 and any(_holds_runs(path, depth - 1) for path in _entries(folder, folders=True))


def _listed(names: Sequence[str]) -> str:
    """``a, b and 3 more``."""
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
