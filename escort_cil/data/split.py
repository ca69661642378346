"""The split of each class into training images and held-out test images: drawn once, and recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from escort_codec.errors import TrainingError
from escort_codec.source import SourceImage
from escort_codec.words import counted, listed

HOLDOUT_SEED: Final = 0  # the same for every class order, so that orders can be compared

Images: TypeAlias = Mapping[str, tuple[SourceImage, ...]]
"""Images by class."""


@dataclass(frozen=True, slots=True)
class Split:
    """The names of one class's training images and of its held-out images, each sorted."""

    train: tuple[str, ...]
    test: tuple[str, ...]


Splits: TypeAlias = Mapping[str, Split]
"""The split of each class of a data folder, as a run draws and records it."""


def draw_split(images: Sequence[SourceImage], holdout: float) -> Split:
    """Holds out the share ``holdout`` of a class's images, at least one of two, drawn with a fixed seed."""
    held = min(len(images) - 1, max(1, round(holdout * len(images))))
    drawn = set(np.random.RandomState(HOLDOUT_SEED).permutation(len(images))[:held].tolist())
    names = [image.name for image in images]
    return Split(
        tuple(name for i, name in enumerate(names) if i not in drawn),
        tuple(name for i, name in enumerate(names) if i in drawn),
    )


def apply_splits(images_of: Images, splits: Splits) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The training and the test images of the classes in ``splits``, and notes about images that were added or
    removed."""
    train: dict[str, tuple[SourceImage, ...]] = {}
    test: dict[str, tuple[SourceImage, ...]] = {}
    added: list[str] = []
    missing = 0
    for label, split in splits.items():
        by_name = {image.name: image for image in images_of.get(label, ())}
        train[label] = tuple(by_name[name] for name in split.train if name in by_name)
        test[label] = tuple(by_name[name] for name in split.test if name in by_name)
        added += [by_name[name].key for name in sorted(by_name.keys() - {*split.train, *split.test})]
        missing += len(split.test) - len(test[label])
    notes = []
    if added:
        notes.append(f"not used: {counted(len(added), 'image')} added since the run began: {listed(added)}")
    if missing:
        notes.append(f"{counted(missing, 'held-out image')} of the run {'is' if missing == 1 else 'are'} missing")
    return train, test, notes


def splits_to_map(splits: Splits) -> dict[str, Any]:
    """For JSON: ``{"cat": {"train": ["1.jpg", ...], "test": [...]}, ...}``."""
    return {label: {"train": list(split.train), "test": list(split.test)} for label, split in splits.items()}


def splits_from_map(values: Any, what: str) -> Splits:
    """The inverse of ``splits_to_map``; raises TrainingError, whose message begins with ``what``, for anything else."""
    if not isinstance(values, dict):
        raise TrainingError(f"{what}: is not a record of held-out images")
    splits = {}
    for label, each in values.items():
        if not isinstance(each, dict) or set(each) != {"train", "test"} or not all(map(_is_names, each.values())):
            raise TrainingError(f"{what}: class {label!r} has no lists of names")
        splits[label] = Split(tuple(each["train"]), tuple(each["test"]))
    return splits


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
