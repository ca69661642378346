"""The transforms: the paper's at 224 pixels ("large") and PyCIL's for CIFAR ("small"), applied to batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import torch
from torch import Tensor

from escort_cil.augment import cpu
from escort_cil.augment.cpu import Picture
from escort_cil.augment.crops import ATTEMPTS, crop_boxes, crop_offsets, crop_padded, crop_pictures
from escort_cil.augment.operations import brightness
from escort_cil.augment.policy import PolicyDraws, apply_policy, draw_policy
from escort_codec.recipe import WHITE, Colour
from escort_codec.registry import Registry

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Transform:
    """The steps between the store and the network, in this order.

    ``crop`` "padded" pads a square of ``size`` by ``padding`` zeros and takes ``size`` pixels at a random place;
    "resized" takes a random box of ``scale`` (fraction of the area) and ``ratio`` (width / height) of a picture of any
    size and resizes it to ``size`` (torchvision's RandomResizedCrop). Then a horizontal flip with probability
    ``flip``, brightness times a factor of 1 - ``brightness`` .. 1 + ``brightness``, AutoAugment's ImageNet policy
    if ``auto_augment`` is set, and (x / 255 - mean) / std by channel.

    ``short_side`` is the shorter side before the centre crop in evaluation; None squashes the whole image to ``size``.
    ``background`` is the colour under transparent pixels of an image file.
    """

    preset: str
    size: int
    short_side: int | None
    crop: Literal["padded", "resized"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    padding: int = 0
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    brightness: float = 63 / 255
    auto_augment: bool = False
    background: Colour = WHITE

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"image size {self.size} must be at least 1 pixel")

    @property
    def one_store(self) -> bool:
        """Whether training and evaluation read the same stored image, so that one store can serve both."""
        return self.short_side is None and self.crop == "padded"

    @property
    def most_pixels(self) -> int:
        """Pixels of a picture above which no "resized" crop gains detail: the narrowest box then has ``size``
        pixels."""
        return math.ceil(self.size**2 / (self.scale[0] * min(self.ratio[0], 1 / self.ratio[1])))


def _large(size: int) -> Transform:
    """The paper's: random resized crop, flip, brightness, AutoAugment; evaluation resizes to 256 and crops 224."""
    return Transform(
        preset="large",
        size=size,
        short_side=round(size * 256 / 224),
        crop="resized",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        auto_augment=True,
    )


def _small(size: int) -> Transform:
    """PyCIL's for CIFAR-100: crop of 32 from 32 + 2 x 4 zeros (in general size // 8), flip, brightness."""
    return Transform(
        preset="small",
        size=size,
        short_side=None,
        crop="padded",
        padding=size // 8,
        mean=(0.5071, 0.4867, 0.4408),
        std=(0.2675, 0.2565, 0.2761),
    )


def _cifar10(size: int) -> Transform:
    """PyCIL's for CIFAR-10: ``small`` with that data set's mean and deviation."""
    return replace(_small(size), preset="cifar10", mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))


transforms: Registry[Callable[[int], Transform]] = Registry("transform preset")
transforms.add("large", _large)
transforms.add("small", _small)
transforms.add("cifar10", _cifar10)


@dataclass(frozen=True)
class _Draws:
    """The random numbers of one batch of B images, on the batch's device."""

    places: Tensor  # "padded": int64 (B, 2) offsets; "resized": float32 (B, 4) boxes
    flips: Tensor  # bool (B,)
    factors: Tensor  # float32 (B,)
    policy: PolicyDraws | None

    def of(self, part: slice) -> _Draws:
        """The draws of some of the images."""
        policy = None if self.policy is None else self.policy[part]
        return _Draws(self.places[part], self.flips[part], self.factors[part], policy)


def augment(
    pixels: Tensor | Sequence[Picture],
    aspects: Tensor,
    transform: Transform,
    generator: torch.Generator,
    *,
    part: slice | None = None,
    out: Tensor | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Training images for the network.

    ``pixels`` are, for "padded" crops, uint8 (B, 3, size, size) on any device; for "resized" ones B pictures, uint8 (H,
    W, 3), which are cropped on the CPU and then moved to ``device`` (None: the CPU). ``aspects`` (B,) are the original
    images' width / height, as a store's ``batch`` gives them. Returns float32 (B, 3, size, size) there, normalised, in
    ``out`` if given. ``generator`` may be on another device: one on the CPU gives the same transforms on every device.
    The number of draws depends only on B. With ``part``, ``aspects`` are those of the whole batch and ``pixels`` only
    that part of it, which is transformed as it would be with the others.
    """
    on_device = pixels.device if isinstance(pixels, Tensor) else device or torch.device("cpu")
    draws = _draw(aspects, transform, generator, pixels.device if isinstance(pixels, Tensor) else torch.device("cpu"))
    if part is not None:
        draws = draws.of(part)
    if out is None:
        out = torch.empty((len(pixels), 3, transform.size, transform.size), device=on_device)
    results, given, cropped = out, pixels, False
    if not isinstance(given, Tensor) and on_device.type != "cpu":
        given, cropped = _crops_for(on_device, given, draws, transform), True

    def work(piece: slice) -> None:
        images = given[piece] if cropped else _cropped(given[piece], draws.of(piece), transform)
        assert isinstance(images, Tensor)
        if draws.policy is not None:
            images = apply_policy(images, draws.policy[piece])
        normalise(images, transform, out=results[piece])

    cpu.in_pieces(work, out)
    return out


def _crops_for(device: torch.device, pictures: Sequence[Picture], draws: _Draws, transform: Transform) -> Tensor:
    """The crops of pictures, made on the CPU and copied to a GPU asynchronously: uint8 (B, 3, size, size)."""
    size = transform.size
    crops = torch.empty((len(pictures), 3, size, size), dtype=torch.uint8, pin_memory=device.type == "cuda")

    def work(piece: slice) -> None:
        mine = draws.of(piece)
        crop_pictures(pictures[piece], mine.places, mine.flips, mine.factors, size, out=crops[piece])

    cpu.in_pieces(work, crops)
    return crops.to(device, non_blocking=True)


def _cropped(pixels: Tensor | Sequence[Picture], draws: _Draws, transform: Transform) -> Tensor:
    """Cropped, flipped and brightened: uint8 (B, 3, size, size)."""
    if not isinstance(pixels, Tensor):
        return crop_pictures(pixels, draws.places, draws.flips, draws.factors, transform.size)
    crops = crop_padded(pixels, draws.places, draws.flips, transform.padding, transform.size)
    return brightness(crops, draws.factors)


def normalise(pixels: Tensor, transform: Transform, *, out: Tensor | None = None) -> Tensor:
    """Evaluation images for the network: uint8 (B, 3, size, size) to float32 (x / 255 - mean) / std."""
    if out is None:
        out = torch.empty_like(pixels, dtype=torch.float32)
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (transform.mean, transform.std))
    factors, shifts = (v.to(out.device, torch.float32) for v in (1 / (255 * std), -mean / std))
    if cpu.on_cpu(pixels) and out.is_contiguous():
        cpu.scale(pixels, factors, shifts, out)
        return out
    return torch.mul(pixels, factors.view(3, 1, 1), out=out).add_(shifts.view(3, 1, 1))


def _draw(aspects: Tensor, transform: Transform, generator: torch.Generator, device: torch.device) -> _Draws:
    batch = len(aspects)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device)

    if transform.crop == "padded":
        places = crop_offsets(uniform(batch, 2), 2 * transform.padding)
    else:
        places = crop_boxes(
            uniform(batch, 2 * ATTEMPTS + 2), aspects.to(generator.device), transform.scale, transform.ratio
        )
    flips = uniform(batch) < transform.flip
    factors = 1 + transform.brightness * (2 * uniform(batch) - 1)
    policy = draw_policy(uniform(batch, 5)) if transform.auto_augment else None
    places, flips, factors = (v.to(device, non_blocking=True) for v in (places, flips, factors.clamp_min_(0)))
    return _Draws(places, flips, factors, policy)
