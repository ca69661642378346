"""A data folder -> its images with class, name and caption, in a fixed order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from escort_codec.errors import SourceError
from escort_codec.limits import MAX_PROMPT, label_fault, name_fault, text_fault
from escort_codec.names import MANIFEST
from escort_codec.source.captions import METADATA, Captions
from escort_codec.source.image import image_size
from escort_codec.source.layout import Folders, Layout, find_layout, is_sidecar
from escort_codec.source.remote import READERS, StorePath, source_path
from escort_codec.words import counted, listed
from escort_codec.workers import in_groups, in_order

AHEAD_BYTES: Final = 128 << 20
"""The most bytes of images in a store that are read ahead; a larger image is read alone."""


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
    """All files that should be images in the class folders of a split, with their captions. ``folder`` may be a URL.

    ``layout`` is "auto" (``source.layout``) or "classes". Hidden files, litter and files beside images (``SIDECARS``)
    are left out. Raises SourceError if there is nothing to use: no folder, no class folders, no image, no permission;
    and if the layout can be read in two ways.
    """
    place = source_path(folder)
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


def read_ahead(images: Iterable[SourceImage]) -> Iterator[SourceImage]:
    """The same images; of those in a store the bytes of the next ones are read at the same time, in bounded memory."""
    waiting: deque[tuple[SourceImage, Future[Path]]] = deque()
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="read")
    size = 0

    def first() -> SourceImage:
        nonlocal size
        image, future = waiting.popleft()
        size -= _size(image)
        try:
            return replace(image, path=future.result())
        except OSError:
            return image  # the next read raises the reason

    try:
        for image in images:
            if not isinstance(image.path, StorePath):
                yield image
                continue
            while waiting and (len(waiting) >= 2 * READERS or size + _size(image) > AHEAD_BYTES):
                yield first()
            size += _size(image)
            waiting.append((image, pool.submit(image.path.fetched)))
        while waiting:
            yield first()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def image_fault(image: SourceImage) -> str | None:
    """Why an image cannot be an exemplar because of its names or caption, or None: the caps of the format."""
    fault = label_fault(image.label) or name_fault(image.name)
    fault = fault or (text_fault("caption", image.caption, MAX_PROMPT) if image.caption is not None else None)
    return f"{str(image.path)!r}: {fault}" if fault else None


def check_heads(images: Sequence[SourceImage], max_pixels: int, workers: int | None) -> None:
    """Raises the ImageError of the first file that is not an image or too large, before any work is lost.

    Reads only the heads of the files; other damage is found when a file is decoded. Files in a store are not read
    twice: they are checked when they are decoded.
    """

    def check(group: Sequence[SourceImage]) -> None:
        for image in group:
            if not isinstance(image.path, StorePath):
                image_size(image.path, max_pixels=max_pixels)

    for _ in in_order(in_groups(images, 64), check, workers):
        pass


def _size(image: SourceImage) -> int:
    return image.path.size if isinstance(image.path, StorePath) else 0


def _file_groups(folder: Path, folders: Folders) -> Iterator[list[Path]]:
    """The visible files of ``folder`` and of each folder below it, sorted.

    Links to folders are not followed: they may form cycles.
    """
    inside, files = folders.listed(folder)
    yield files
    for each in inside:
        if not each.is_symlink():
            yield from _file_groups(each, folders)
