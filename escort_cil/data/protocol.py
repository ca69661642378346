"""The protocol: which classes come when, and which images are theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from escort_codec.errors import ConfigError, SourceError
from escort_codec.source import SourceImage, has_split, scan

HOLDOUT_SEED = 0  # of the held-out part, the same for every class order, so that orders can be compared


def class_order(labels: Sequence[str], seed: int) -> tuple[str, ...]:
    """The labels in the order in which they are learnt: class number c is ``order[c]``.

    As PyCIL: the labels sorted, then ``np.random.seed(seed)`` and ``np.random.permutation``.
    """
    ordered = sorted(labels)
    return tuple(ordered[i] for i in np.random.RandomState(seed).permutation(len(ordered)))


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels of a class order's file, one a line; raises ConfigError where it cannot be read."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: the class order cannot be read: {exc}") from exc
    return tuple(line.strip() for line in lines if line.strip())


def check_class_order(order: Sequence[str], labels: Sequence[str], where: str) -> tuple[str, ...]:
    """``order`` where it names each of ``labels`` once; raises ConfigError."""
    for what, wrong in (
        ("names no class of the data", [label for label in order if label not in set(labels)]),
        ("is named twice", [label for i, label in enumerate(order) if label in order[:i]]),
        ("is a class of the data and is not named", [label for label in labels if label not in set(order)]),
    ):
        if wrong:
            raise ConfigError(f"{where}: {wrong[0]!r} {what}")
    return tuple(order)


def split_phases(classes: int, init_cls: int, increment: int) -> tuple[int, ...]:
    """Classes of each phase: ``init_cls``, then ``increment`` at a time, and what is left over in the last phase.

    Raises ConfigError for numbers that cannot be meant.
    """
    if not 1 <= init_cls <= classes:
        raise ConfigError(f"--init-cls {init_cls}: the data has {classes} classes; give 1 to {classes}")
    if increment < 1 and init_cls < classes:
        raise ConfigError(f"--increment {increment}: at least 1 is needed to reach all {classes} classes")
    sizes = [init_cls]
    while sum(sizes) < classes:
        sizes.append(min(increment, classes - sum(sizes)))
    return tuple(sizes)


@dataclass(frozen=True, slots=True)
class DataSet:
    """Training and test images by label, each sorted by name.

    ``held_out``: the test images come from the training images' folders, so that no two have one name; in folders of
    their own they may have. ``note`` says in a line how the test part was found.
    """

    folder: str
    train: Mapping[str, tuple[SourceImage, ...]]
    test: Mapping[str, tuple[SourceImage, ...]]
    held_out: bool
    note: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, sorted."""
        return tuple(sorted(self.train))


def read_data(folder: str, holdout: float = 0.2, known: Sequence[str] = ()) -> DataSet:
    """The images of ``folder``: ``train/`` and ``test/``, or class folders of which a part is held out for the test.

    The part is ``holdout`` of each class's images (at least one where there are two), drawn with a fixed seed. Of the
    classes ``known`` from a run before only test images are used. Raises SourceError where nothing can be used, a class
    has no training image, or no class is new.
    """
    root = Path(folder)
    if has_split(root, "train") or has_split(root, "test"):
        train, notes = _new(group_by_label(scan(root, "train")), known, root)
        test = group_by_label(scan(root, "test"))
        for label in test:
            if label not in train and label not in known:
                raise SourceError(f"{root}/test/{label}: there are no training images of this class")
        missing = [label for label in train if label not in test]
        missing += [label for label in known if label not in test]
        if missing:
            notes.append(f"no test images of {len(missing)} classes ({missing[0]} ...): no figure counts these")
        return DataSet(folder, train, test, False, "; ".join(notes))
    images_of, notes = _new(group_by_label(scan(root)), known, root)
    train, test = {}, {}
    for label, images in images_of.items():
        held = min(len(images) - 1, max(1, round(holdout * len(images))))
        drawn = set(np.random.RandomState(HOLDOUT_SEED).permutation(len(images))[:held].tolist())
        train[label] = tuple(image for i, image in enumerate(images) if i not in drawn)
        test[label] = tuple(image for i, image in enumerate(images) if i in drawn)
    count = sum(map(len, test.values()))
    if not count:
        raise SourceError(f"{root}: there is no test/ and one image a class: nothing can be held out for the test")
    notes.append(
        f"no test/ in {root}: {count} images, {100 * holdout:.0f} % of each class, are held out as the test set"
    )
    return DataSet(folder, train, test, True, "; ".join(notes))


def _new(
    images: dict[str, tuple[SourceImage, ...]], known: Sequence[str], root: Path
) -> tuple[dict[str, tuple[SourceImage, ...]], list[str]]:
    """The classes that are not ``known``, and what is to be said of the others."""
    new = {label: group for label, group in images.items() if label not in set(known)}
    if not new:
        raise SourceError(f"{root}: all its classes are known already: there is nothing new to learn")
    old = [label for label in images if label not in new]
    return new, [f"training images of {len(old)} known classes ({old[0]} ...) are not used"] if old else []


def group_by_label(images: Sequence[SourceImage]) -> dict[str, tuple[SourceImage, ...]]:
    """Images by label, in the order in which they come."""
    found: dict[str, list[SourceImage]] = {}
    for image in images:
        found.setdefault(image.label, []).append(image)
    return {label: tuple(group) for label, group in found.items()}
