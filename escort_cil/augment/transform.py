"""The two transforms: the paper's at 224 pixels ('large') and PyCIL's for CIFAR ('small')."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from escort_cil.augment import compiled
from escort_cil.augment.crop import ATTEMPTS, crop_boxes, crop_offsets, crop_padded, crop_resized
from escort_cil.augment.operations import brightness
from escort_cil.augment.policy import PolicyDraws, apply_policy, draw_policy
from escort_cil.augment.threads import in_pieces
from escort_cil.data.store import ImageStore
from escort_codec.registry import Registry


@dataclass(frozen=True)
class Transform:
    """What happens to an image between the store and the network, in this order.

    ``crop`` "padded" pads the stored square by ``padding`` zeros and takes ``size`` pixels at a random place;
    "resized" takes a random box of ``scale`` (fraction of the area) and ``ratio`` (width / height) of the original
    image and resizes it to ``size`` (torchvision's RandomResizedCrop). Then a horizontal flip with probability
    ``flip``, brightness times a factor of 1 - ``brightness`` .. 1 + ``brightness``, AutoAugment's ImageNet policy
    where ``auto_augment`` is set, and (x / 255 - mean) / std by channel.

    ``stored_side`` is the side of the squares in the training store. ``short_side`` is the shorter side before the
    centre crop in evaluation; None squashes the whole image to ``size``.
    """

    preset: str
    size: int
    stored_side: int
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

    def __post_init__(self) -> None:
        if self.size < 1 or self.stored_side < 1:
            raise ValueError(f"image size {self.size} and stored side {self.stored_side} must be at least 1 pixel")
        if self.crop == "padded" and self.stored_side + 2 * self.padding < self.size:
            raise ValueError(f"a crop of {self.size} pixels does not fit {self.stored_side} + 2 x {self.padding}")

    def training_store(self, *, cache_bytes: int | None = None, folder: Path | None = None) -> ImageStore:
        """An empty store for images that ``augment`` will read."""
        return ImageStore(self.stored_side, cache_bytes=cache_bytes, folder=folder)

    def evaluation_store(self, *, cache_bytes: int | None = None, folder: Path | None = None) -> ImageStore:
        """An empty store for images that ``normalise`` will read: they are as the network sees them."""
        return ImageStore(self.size, short_side=self.short_side, cache_bytes=cache_bytes, folder=folder)

    @property
    def one_store(self) -> bool:
        """Whether training and evaluation read the same stored image, so that one store can serve both."""
        return self.short_side is None and self.stored_side == self.size


def _large(size: int) -> Transform:
    """The paper's: random resized crop, flip, brightness, AutoAugment; evaluation resizes to 256 and crops 224."""
    side = round(size * 256 / 224)
    return Transform(
        preset="large",
        size=size,
        stored_side=side,
        short_side=side,
        crop="resized",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        auto_augment=True,
    )


def _small(size: int) -> Transform:
    """PyCIL's for CIFAR-100: crop of 32 from 32 + 2 x 4 zeros (in general size // 8), flip, brightness."""
    return Transform(
        preset="small",
        size=size,
        stored_side=size,
        short_side=None,
        crop="padded",
        padding=size // 8,
        mean=(0.5071, 0.4867, 0.4408),
        std=(0.2675, 0.2565, 0.2761),
    )


transforms: Registry[Callable[[int], Transform]] = Registry("transform preset")
transforms.add("large", _large)
transforms.add("small", _small)


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
    pixels: Tensor,
    aspects: Tensor,
    transform: Transform,
    generator: torch.Generator,
    *,
    part: slice | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Training images for the network.

    ``pixels`` is uint8 (B, 3, stored_side, stored_side) on any device and ``aspects`` (B,) the original images' width /
    height, as ``ImageStore.batch`` gives them. Returns float32 (B, 3, size, size) on the same device, normalised;
    into ``out`` where it is given. ``generator`` may be on another device: one on the CPU gives the same transforms
    on every device. The numbers that it is asked for depend on B alone. With ``part``, ``aspects`` are those of the
    whole batch and ``pixels`` only that part of it, which is transformed as it would be among the others.
    """
    draws = _draw(aspects, transform, generator, pixels.device)
    if part is not None:
        draws = draws.of(part)
    if out is None:
        out = pixels.new_empty((len(pixels), 3, transform.size, transform.size), dtype=torch.float32)
    results = out

    def work(piece: slice) -> None:
        images = _cropped(pixels[piece], draws.of(piece), transform)
        if draws.policy is not None:
            images = apply_policy(images, draws.policy[piece])
        normalise(images, transform, out=results[piece])

    in_pieces(work, out)
    return out


def _cropped(pixels: Tensor, draws: _Draws, transform: Transform) -> Tensor:
    """Cropped, flipped and lit: uint8 (B, 3, size, size)."""
    if transform.crop == "resized":
        return crop_resized(pixels, draws.places, draws.flips, draws.factors, transform.size)
    crops = crop_padded(pixels, draws.places, draws.flips, transform.padding, transform.size)
    return brightness(crops, draws.factors)


def normalise(pixels: Tensor, transform: Transform, *, out: Tensor | None = None) -> Tensor:
    """Evaluation images for the network: uint8 (B, 3, size, size) to float32 (x / 255 - mean) / std."""
    if out is None:
        out = torch.empty_like(pixels, dtype=torch.float32)
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (transform.mean, transform.std))
    factors, shifts = (v.to(out.device, torch.float32) for v in (1 / (255 * std), -mean / std))
    if compiled.suits(pixels) and out.is_contiguous():
        compiled.scale(pixels, factors, shifts, out)
        return out
    return torch.mul(pixels, factors.view(3, 1, 1), out=out).add_(shifts.view(3, 1, 1))


def _draw(aspects: Tensor, transform: Transform, generator: torch.Generator, device: torch.device) -> _Draws:
    batch = len(aspects)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device)

    if transform.crop == "padded":
        places = crop_offsets(uniform(batch, 2), transform.stored_side + 2 * transform.padding - transform.size)
    else:
        places = crop_boxes(
            uniform(batch, 2 * ATTEMPTS + 2), aspects.to(generator.device), transform.scale, transform.ratio
        )
    flips = uniform(batch) < transform.flip
    factors = 1 + transform.brightness * (2 * uniform(batch) - 1)
    policy = draw_policy(uniform(batch, 5)) if transform.auto_augment else None
    places, flips, factors = (v.to(device, non_blocking=True) for v in (places, flips, factors.clamp_min_(0)))
    return _Draws(places, flips, factors, policy)
