"""A data folder -> its images with class, name and caption, in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from escort_codec.errors import SourceError
from escort_codec.names import MANIFEST
from escort_codec.source.captions import METADATA, Captions
from escort_codec.source.layout import Folders, Layout, find_layout, is_sidecar
from escort_codec.words import counted, listed


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
    """What a data folder holds: its layout, the images of one split sorted by key, and notes for the user.

    ``root`` is the folder of the split's classes.
    """

    layout: Layout
    root: Path
    images: tuple[SourceImage, ...]
    notes: tuple[str, ...]

    def describe(self) -> str:
        """One line: the layout that was recognised, with the numbers of classes and images."""
        classes = len({image.label for image in self.images})
        return f"layout: {self.layout.describe(self.root, classes, len(self.images))}"


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
    folders = Folders()
    try:
        return _scan(place, split, find_layout(place, layout, folders), folders)
    except OSError as exc:
        raise SourceError(f"{exc.filename or folder}: cannot be read: {exc.strerror}") from exc


def _scan(folder: Path, split: str, layout: Layout, folders: Folders) -> Scan:
    root = layout.root(split)
    labels = folders.classes(root)
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
        for files in _file_groups(label, folders):
            texts = captions.beside(file for file in files if file.suffix.lower() == ".txt")
            for path in files:
                if is_sidecar(path.name):
                    sidecars += path.suffix.lower() != ".txt" and path.name not in (*METADATA, MANIFEST)
                    continue
                name = path.relative_to(label).as_posix()
                images.append(SourceImage(path, label.name, name, captions.of(path, texts)))
        if len(images) == before:
            empty.append(label.name)
    if not images:
        raise SourceError(f"{root}: its class folders hold no images")
    notes = [*layout.notes, *captions.notes(len(images))]
    if empty:
        notes.append(f"{counted(len(empty), 'class folder')} without images, left out: {listed(empty, 1)}")
    if sidecars:
        notes.append(f"not used: {counted(sidecars, 'other file')} beside the images")
    if loose := sum(not is_sidecar(file.name) for file in folders.listed(root)[1]):
        notes.append(f"{root}: not used: {counted(loose, 'file')} outside the class folders")
    return Scan(layout, root, tuple(sorted(images, key=lambda image: image.key)), tuple(notes))


def _file_groups(folder: Path, folders: Folders) -> Iterator[list[Path]]:
    """The visible files of ``folder`` and of each folder below it, sorted.

    Links to folders are not followed: they may be rings.
    """
    inside, files = folders.listed(folder)
    yield files
    for each in inside:
        if not each.is_symlink():
            yield from _file_groups(each, folders)
