"""A data folder -> its images with class, name and caption, in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from escort_codec.errors import SourceError
from escort_codec.source.captions import METADATA, Captions
from escort_codec.source.layout import MANIFEST, Layout, class_folders, find_layout, has_files, is_hidden

SIDECARS: Final = frozenset(
    (
        *(".txt", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".md", ".html", ".pdf", ".log", ".ini"),
        *(".db", ".info", ".npy", ".npz", ".mat", ".pkl", ".md5", ".sha256", ".xmp", ".aae", ".lnk", ".url", ".escx"),
    )
)
"""Endings (lower case) of files that lie beside images and are not images."""


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image file of a data folder. ``name`` is its path relative to the class folder, with '/'."""

    path: Path
    label: str
    name: str
    caption: str | None = None

    @property
    def key(self) -> str:
        """``label/name``."""
        return f"{self.label}/{self.name}"


@dataclass(frozen=True, slots=True)
class Scan:
    """What a data folder holds: its layout, the images of one split sorted by key, and notes for the user."""

    layout: Layout
    images: tuple[SourceImage, ...]
    notes: tuple[str, ...]

    def describe(self) -> str:
        """One line: the layout that was recognised, with the numbers of classes and images."""
        return f"layout: {self.layout.describe(len({image.label for image in self.images}), len(self.images))}"


def scan(folder: str | os.PathLike[str], split: str = "train", layout: str = "auto") -> list[SourceImage]:
    """The images of a data folder's split, sorted by key: ``scan_folder`` without its notes."""
    return list(scan_folder(folder, split, layout).images)


def scan_folder(folder: str | os.PathLike[str], split: str = "train", layout: str = "auto") -> Scan:
    """All files that should be images in the class folders of a split, with their captions.

    ``layout`` is "auto" (``source.layout``) or "classes". Hidden files, litter and files beside images (``SIDECARS``)
    are left out. Raises SourceError if there is nothing to use: no folder, no class folders, no image, no permission;
    and if the layout can be read in two ways.
    """
    place = Path(folder)
    try:
        return _scan(place, split, find_layout(place, layout))
    except OSError as exc:
        raise SourceError(f"{exc.filename or folder}: cannot be read: {exc.strerror}") from exc


def _scan(folder: Path, split: str, layout: Layout) -> Scan:
    root = layout.root(split)
    labels = class_folders(root)
    if not labels:
        raise SourceError(f"{root}: has no class folders (expected {root}/<class>/<image>)")
    captions = Captions(root)
    for place in dict.fromkeys((folder, root.parent, root, *labels)):
        captions.read(place, root)
    images: list[SourceImage] = []
    empty: list[str] = []
    sidecars = 0
    for label in labels:
        before = len(images)
        for files in _file_groups(label):
            beside = {path.stem: path for path in files if path.suffix.lower() == ".txt"}
            for path in files:
                if path.suffix.lower() in SIDECARS:
                    sidecars += path.suffix.lower() != ".txt" and path.name not in (*METADATA, MANIFEST)
                    continue
                caption = captions.of(path, beside)
                images.append(SourceImage(path, label.name, path.relative_to(label).as_posix(), caption))
        if len(images) == before:
            empty.append(label.name)
    if not images:
        raise SourceError(f"{root}: its class folders hold no images")
    notes = [*layout.notes, *captions.notes(len(images))]
    if empty:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        notes.append(f"{len(empty)} class folders hold no images and are no classes: {empty[0]}{more}")
    if sidecars:
        notes.append(f"{sidecars} other files beside the images are not used")
    if has_files(root) and (loose := _loose(root)):
        notes.append(f"{root}: {loose} files outside the class folders are not used")
    return Scan(layout, tuple(sorted(images, key=lambda image: image.key)), tuple(notes))


def _loose(root: Path) -> int:
    with os.scandir(root) as entries:
        return sum(
            not (entry.is_dir() or is_hidden(entry.name) or Path(entry.name).suffix.lower() in SIDECARS)
            for entry in entries
        )


def _file_groups(folder: Path) -> Iterator[list[Path]]:
    """The visible files of ``folder`` and of each folder below it, sorted.

    Links to folders are not followed: they may be rings.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry for entry in found if not is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as exc:
        raise SourceError(f"{folder}: cannot be listed: {exc.strerror}") from exc
    yield [folder / entry.name for entry in entries if not entry.is_dir()]
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _file_groups(folder / entry.name)
