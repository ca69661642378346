"""Presets by the data set's name, or else by the size of the images: image size, transform, AutoAugment, stem.

Epochs, learning rates and milestones belong to the method: PyCIL and the paper use the same ones for every data set.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from escort_codec.errors import ImageError
from escort_codec.registry import Registry

if TYPE_CHECKING:
    from escort_cil.run.settings import TrainConfig
    from escort_codec.source import SourceImage

OFF: Final = "off"
IMAGENET: Final = "imagenet"
AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class DatasetPreset:
    """The settings for a data set. ``autoaugment`` is "off" or "imagenet", ``stem`` a name in ``networks.STEMS``."""

    image_size: int
    transform: str
    autoaugment: str
    stem: str


datasets: Registry[DatasetPreset] = Registry("data set")
# PyCIL's: its CIFAR and ImageNet transforms, without AutoAugment.
datasets.add("cifar10", DatasetPreset(32, "cifar10", OFF, "cifar"))
datasets.add("cifar100", DatasetPreset(32, "small", OFF, "cifar"))
datasets.add("imagenet100", DatasetPreset(224, "large", OFF, IMAGENET))
datasets.add("imagenet1000", DatasetPreset(224, "large", OFF, IMAGENET))
# Usual for 64 pixels; PyCIL has no such data set.
datasets.add("tinyimagenet", DatasetPreset(64, "small", OFF, "cifar"))
# The paper's.
datasets.add("caltech256", DatasetPreset(224, "large", IMAGENET, IMAGENET))
datasets.add("food101", DatasetPreset(224, "large", IMAGENET, IMAGENET))
datasets.add("places100", DatasetPreset(224, "large", IMAGENET, IMAGENET))

SIZES: Final = ((40, 32), (96, 64))
"""(images' shorter side up to, the network's image size); larger images have ``LARGE_SIZE``."""

LARGE_SIZE: Final = 224
LARGE_SIDE: Final = 128  # pixels of the network's images from which the protocol for large images is the default
SAMPLED: Final = 64  # images whose size is read


def preset_for(name: str) -> DatasetPreset | None:
    """The preset of a data set's name, ignoring case, ``-``, ``_`` and spaces; None if unknown."""
    plain = "".join(letter for letter in name.lower() if letter not in "-_ ")
    return datasets.get(plain) if plain in datasets else None


def preset_by_size(side: int) -> DatasetPreset:
    """The preset for images of ``side`` pixels."""
    if side >= LARGE_SIDE:
        return DatasetPreset(side, "large", IMAGENET, IMAGENET)
    return DatasetPreset(side, "small", OFF, "cifar" if side <= SIZES[0][0] else "pycil")


def side_of(images: Sequence[SourceImage]) -> int | None:
    """The median shorter side of a sample of the images, in pixels; None if none can be read."""
    from escort_codec.source import image_size

    sides = []
    for image in images[:: max(1, len(images) // SAMPLED)]:
        with suppress(ImageError):
            sides.append(min(image_size(image.path)))
    return round(statistics.median(sides)) if sides else None


def size_for(side: int) -> int:
    """The network's image size for images whose shorter side has ``side`` pixels."""
    return next((size for most, size in SIZES if side <= most), LARGE_SIZE)


def filled(config: TrainConfig, images: Iterable[SourceImage] = ()) -> tuple[TrainConfig, Mapping[str, str]]:
    """The configuration with image size, transform, AutoAugment and stem filled in, and the source of each.

    The preset of the data set decides, else the image size; without one, the size of the ``images``.
    Raises UnknownNameError for an unknown backbone.
    """
    from escort_cil.networks import backbone_kind, is_pretrained

    found: dict[str, str] = {}
    if is_pretrained(config.backbone):
        config, found = _pretrained(config)
    preset, by = preset_for(config.dataset), f"preset {config.dataset}"
    size = config.image_size
    if size is None and preset is None:
        side = side_of(list(images))
        size = LARGE_SIZE if side is None else size_for(side)
        found["image_size"] = "default" if side is None else f"the images' shorter side, {side} pixels"
    if preset is None:
        assert size is not None
        preset, by = preset_by_size(size), f"preset for {size} pixels"
    values: dict[str, str | int] = {
        "image_size": preset.image_size if size is None else size,
        "transform": config.transform or preset.transform,
        "stem": config.stem,
    }
    large = values["transform"] == "large"
    if config.autoaugment is None:
        # The preset's, if it has this transform; the large transform alone is the paper's.
        same = values["transform"] == preset.transform
        values["autoaugment"] = preset.autoaugment if same else IMAGENET if large else OFF
        found["autoaugment"] = by if same else f"transform {values['transform']}"
    if config.stem == AUTO:
        own = backbone_kind(config.backbone)
        values["stem"] = own.stem or (preset.stem if own.stems else AUTO)
        found["stem"] = by if not own.stem and own.stems else f"backbone {config.backbone}"
    if size is None:
        found.setdefault("image_size", by)
    if not config.transform:
        found["transform"] = by
    return replace(config, **values), found  # type: ignore[arg-type]


def _pretrained(config: TrainConfig) -> tuple[TrainConfig, dict[str, str]]:
    """The configuration with the description and image size of its pretrained backbone, and the source of each."""
    from escort_cil.networks.pretrained import check_description, describe

    found: dict[str, str] = {}
    about, by = config.backbone_config, f"backbone {config.backbone}"
    if about:
        check_description(about, config.backbone)
    else:
        about, found["backbone_config"] = describe(config.backbone), by
    size = config.image_size
    if size is None:
        size, found["image_size"] = int(about["size"]), by
    return replace(config, backbone_config=about, image_size=size), found
