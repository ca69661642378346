"""The protocol: the classes of each phase, and their images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from escort_cil.data.split import Splits, apply_splits, draw_split
from escort_codec.errors import ConfigError, SourceError
from escort_codec.source import SourceImage, scan, scan_folder
from escort_codec.store.urls import Url, place
from escort_codec.untrusted import read_file
from escort_codec.words import counted, listed

MAX_ORDER = 1 << 28  # bytes of a file with a class order


def class_order(labels: Sequence[str], seed: int) -> tuple[str, ...]:
    """The labels in the order in which they are learnt: class number c is ``order[c]``.

    As in PyCIL: the labels sorted, then ``np.random.seed(seed)`` and ``np.random.permutation``.
    """
    ordered = sorted(labels)
    return tuple(ordered[i] for i in np.random.RandomState(seed).permutation(len(ordered)))


def numbers_note(labels: Sequence[str], seed: int) -> tuple[str, ...]:
    """A line about the class order if classes are named by numbers and sort differently as texts; else nothing.

    PyCIL sorts the classes of CIFAR as numbers, and those of ImageNet by folder names, as here.
    """
    if not all(label.isdecimal() for label in labels) or sorted(labels) == sorted(labels, key=int):
        return ()
    return (
        f"classes are named by numbers and sorted as texts ({', '.join(sorted(labels)[:3])}, ...), as ImageFolder "
        f"does; PyCIL sorts CIFAR's as numbers, so its seed {seed} gives another order: `class_order` can set it",
    )


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels in a file, one per line; raises ConfigError if it cannot be read."""
    try:
        lines = read_file(path, ConfigError, most=MAX_ORDER, follow=True).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: the class order is not UTF-8 text") from exc
    return tuple(line.removesuffix("\r") for line in lines if line.strip())


def check_class_order(order: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    """``order`` if it names each of ``labels`` once; raises ConfigError.

    Spaces around a name are ignored, unless a class has that name with the spaces.
    """
    known = set(labels)
    order = [label if label in known else label.strip() for label in order]
    for what, wrong in (
        ("is not a class of the data", [label for label in order if label not in known]),
        ("is named twice", [label for i, label in enumerate(order) if label in order[:i]]),
        ("is a class of the data and is missing", [label for label in labels if label not in set(order)]),
    ):
        if wrong:
            raise ConfigError(f"{wrong[0]!r} {what}", setting="class_order")
    return tuple(order)


def split_phases(classes: int, init_cls: int, increment: int) -> tuple[int, ...]:
    """The number of classes of each phase: ``init_cls``, then ``increment`` each, and the rest in the last phase.

    Raises ConfigError.
    """
    if not 1 <= init_cls <= classes:
        raise ConfigError(f"the data has {classes} classes: give 1 to {classes}", setting="init_cls", value=init_cls)
    if increment < 1 and init_cls < classes:
        raise ConfigError(f"at least 1 is needed to reach all {classes} classes", setting="increment", value=increment)
    sizes = [init_cls]
    while sum(sizes) < classes:
        sizes.append(min(increment, classes - sum(sizes)))
    return tuple(sizes)


@dataclass(frozen=True, slots=True)
class DataSet:
    """Training and test images by label, each sorted by name.

    ``splits`` records the held-out images if training and test images share folders (then no two share a name); it is
    None if test images have folders of their own. ``layout`` is a line about the folder's layout; ``notes`` are lines
    about unused files and the source of the test images, ``changes`` about images that were added or removed since the
    run that recorded ``splits``.
    """

    folder: str
    train: Mapping[str, tuple[SourceImage, ...]]
    test: Mapping[str, tuple[SourceImage, ...]]
    splits: Splits | None
    layout: str = ""
    notes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, sorted."""
        return tuple(sorted(self.train))

    @property
    def held_out(self) -> bool:
        """Whether the test images are held out of the training images' folders."""
        return self.splits is not None

    def without(self, images: Collection[SourceImage]) -> DataSet:
        """The data without some images. Raises SourceError if a class has no training image left."""
        paths = {image.path for image in images}
        train, test = (
            {label: tuple(image for image in group if image.path not in paths) for label, group in each.items()}
            for each in (self.train, self.test)
        )
        if empty := [label for label, group in train.items() if not group]:
            raise SourceError(f"{self.folder}: no training image is left of {listed(empty)}")
        return replace(self, train=train, test=test)


def read_data(
    folder: str,
    holdout: float = 0.2,
    known: Sequence[str] = (),
    layout: str = "auto",
    recorded: Splits | None = None,
) -> DataSet:
    """The images of ``folder``: ``train/`` and ``test/``, or class folders of which a part is held out for the test.

    ``val/`` serves as the test set if there is no ``test/``; ``layout`` as for ``source.scan_folder``.

    The held-out part is ``holdout`` of each class's images (at least one of two), drawn with a fixed seed, or what an
    earlier run on this folder ``recorded``: an image that was trained on never becomes a test image. Of classes that
    are ``known`` from an earlier run only test images are used. Raises SourceError if there is nothing to use, a class
    has no training image, or no class is new.
    """
    if isinstance(place(folder), Url):
        raise SourceError(f"{folder}: training reads its images many times: copy the folder to this machine first")
    root = Path(folder)
    found = scan_folder(root, "train", layout)
    apart = found.layout.held_apart
    images_of = group_by_label(found.images)
    if apart is not None:
        train, notes = _new(images_of, known, root)
        test = group_by_label(scan(root, apart.name, layout))
        for label in test:
            if label not in train and label not in known:
                raise SourceError(f"{apart / label}: there are no training images of this class")
        missing = [label for label in (*train, *known) if label not in test]
        if missing:
            notes.append(f"{counted(len(missing), 'class')} without test images, not in the figures: {listed(missing)}")
        return DataSet(folder, train, test, None, found.describe(), (*found.notes, *notes))
    new, notes = _new(images_of, known, root)
    recorded = {label: split for label, split in (recorded or {}).items() if label in new or label in known}
    splits = {label: recorded.get(label) or draw_split(new[label], holdout) for label in sorted({*new, *recorded})}
    train, test, changes = apply_splits(images_of, splits)
    if empty := [label for label in new if not train[label]]:
        raise SourceError(f"{root}: the training images of {listed(empty)} are missing")
    count = sum(map(len, test.values()))
    if not count:
        raise SourceError(f"{root}: there is no test/, and with one image per class nothing can be held out for it")
    share = "as the run recorded" if recorded else f"{100 * holdout:.0f} % of each class"
    notes.append(f"no test/ in {root}: {counted(count, 'image')}, {share}, are held out as the test set")
    if single := [label for label in new if not test[label]]:
        notes.append(f"{counted(len(single), 'class')} with one image, not in the figures: {listed(single)}")
    train = {label: group for label, group in train.items() if label in new}
    return DataSet(folder, train, test, splits, found.describe(), (*found.notes, *notes), tuple(changes))


def _new(
    images: dict[str, tuple[SourceImage, ...]], known: Sequence[str], root: Path
) -> tuple[dict[str, tuple[SourceImage, ...]], list[str]]:
    """The classes that are not ``known``, and notes about the others."""
    new = {label: group for label, group in images.items() if label not in set(known)}
    if not new:
        raise SourceError(f"{root}: all its classes are known: there is nothing new to learn")
    old = [label for label in images if label not in new]
    return new, [f"not used: training images of {counted(len(old), 'known class')}: {listed(old)}"] if old else []


def group_by_label(images: Sequence[SourceImage]) -> dict[str, tuple[SourceImage, ...]]:
    """Images by label, in their order."""
    found: dict[str, list[SourceImage]] = {}
    for image in images:
        found.setdefault(image.label, []).append(image)
    return {label: tuple(group) for label, group in found.items()}
