"""The two transforms: the paper's at 224 pixels ("large") and PyCIL's for CIFAR ("small"). Random crops of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from escort_cil.augment import cpu
from escort_cil.augment.operations import brightness
from escort_cil.augment.policy import PolicyDraws, apply_policy, draw_policy
from escort_codec.recipe import WHITE, Colour
from escort_codec.registry import Registry

ATTEMPTS: Final = 10
"""torchvision's: boxes that are tried before the centre is taken."""


@dataclass(frozen=True)
class Transform:
    """The steps between the store and the network, in this order.

    ``crop`` "padded" pads the stored square by ``padding`` zeros and takes ``size`` pixels at a random place;
    "resized" takes a random box of ``scale`` (fraction of the area) and ``ratio`` (width / height) of the original
    image and resizes it to ``size`` (torchvision's RandomResizedCrop). Then a horizontal flip with probability
    ``flip``, brightness times a factor of 1 - ``brightness`` .. 1 + ``brightness``, AutoAugment's ImageNet policy
    if ``auto_augment`` is set, and (x / 255 - mean) / std by channel.

    ``stored_side`` is the side of the squares in the training store. ``short_side`` is the shorter side before the
    centre crop in evaluation; None squashes the whole image to ``size``. ``background`` is the colour under transparent
    pixels of an image file.
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
    background: Colour = WHITE

    def __post_init__(self) -> None:
        if self.size < 1 or self.stored_side < 1:
            raise ValueError(f"image size {self.size} and stored side {self.stored_side} must be at least 1 pixel")
        if self.crop == "padded" and self.stored_side + 2 * self.padding < self.size:
            raise ValueError(f"a crop of {self.size} pixels does not fit {self.stored_side} + 2 x {self.padding}")

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
    height, as ``ImageStore.batch`` gives them. Returns float32 (B, 3, size, size) on the same device, normalised,
    in ``out`` if given. ``generator`` may be on another device: one on the CPU gives the same transforms on every
    device. How many numbers are drawn depends on B alone. With ``part``, ``aspects`` are those of the whole batch and
    ``pixels`` only that part of it, which is transformed as it would be with the others.
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

    cpu.in_pieces(work, out)
    return out


def _cropped(pixels: Tensor, draws: _Draws, transform: Transform) -> Tensor:
    """Cropped, flipped and brightened: uint8 (B, 3, size, size)."""
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
    if cpu.on_cpu(pixels) and out.is_contiguous():
        cpu.scale(pixels, factors, shifts, out)
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


def crop_offsets(draws: Tensor, slack: int) -> Tensor:
    """Offsets (top, left) in 0..slack, int64, from ``draws`` uniform in [0, 1)."""
    return (draws * (slack + 1)).long().clamp_(max=slack)


def crop_padded(images: Tensor, offsets: Tensor, flips: Tensor, padding: int, size: int) -> Tensor:
    """Crops of ``size`` pixels at ``offsets`` (B, 2) from uint8 images padded by zeros, mirrored if ``flips`` (B,)."""
    padded = F.pad(images, (padding,) * 4)
    width = padded.shape[-1]
    step = torch.arange(size, device=images.device)
    rows = offsets[:, :1] + step
    columns = offsets[:, 1:] + torch.where(flips[:, None], step.flip(0), step)
    index = (rows[:, :, None] * width + columns[:, None, :]).view(-1, 1, size * size)
    return torch.gather(padded.flatten(2), 2, index.expand(-1, 3, -1)).view(-1, 3, size, size)


def crop_boxes(draws: Tensor, aspects: Tensor, scale: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """Boxes (left, top, width, height), float32 (B, 4), as fractions of images of ``aspects`` w/h (B,).

    torchvision's RandomResizedCrop: the area is uniform in ``scale``, width / height log-uniform in ``ratio``; of
    ``ATTEMPTS`` tries the first within the image is taken, else the largest centred box of an allowed ratio.
    ``draws`` (B, 2 * ATTEMPTS + 2) are uniform in [0, 1). Places are real numbers here, not whole pixels.
    """
    aspects = aspects[:, None]
    areas = scale[0] + (scale[1] - scale[0]) * draws[:, :ATTEMPTS]
    low, high = math.log(ratio[0]), math.log(ratio[1])
    ratios = torch.exp(low + (high - low) * draws[:, ATTEMPTS : 2 * ATTEMPTS])
    widths = torch.sqrt(areas * ratios / aspects)
    heights = torch.sqrt(areas / ratios * aspects)
    fits = (widths <= 1) & (heights <= 1)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)  # the first of equals
    found = fits.any(1, keepdim=True)
    allowed = aspects.clamp(*ratio)
    width = torch.where(found, widths.gather(1, first), (allowed / aspects).clamp_max(1))
    height = torch.where(found, heights.gather(1, first), (aspects / allowed).clamp_max(1))
    place = torch.where(found, draws[:, 2 * ATTEMPTS :], 0.5)
    size = torch.cat([width, height], 1)
    return torch.cat([place * (1 - size), size], 1)


def crop_resized(images: Tensor, boxes: Tensor, flips: Tensor, factors: Tensor, size: int) -> Tensor:
    """The ``boxes`` (B, 4) of uint8 images, resized to ``size``, mirrored if ``flips``, times ``factors`` (B,).

    Bilinear, as Pillow enlarges. It reduces with antialiasing, but by at most 8/7 in the presets, where both are nearly
    the same. Then ``operations.brightness``. Returns uint8 (B, 3, size, size).
    """
    steps = (torch.arange(size, device=images.device) + 0.5) / size
    columns = torch.where(flips[:, None], 1 - steps, steps)
    vertical = _between(boxes[:, 1:2] + boxes[:, 3:4] * steps, images.shape[2])
    horizontal = _between(boxes[:, 0:1] + boxes[:, 2:3] * columns, images.shape[3])
    if cpu.on_cpu(images):
        return cpu.crop_resized(images, vertical, horizontal, factors, size)

    # Rows first, as whole rows of all channels of all images; then the columns of each image.
    batch, channels, height, width = images.shape
    top, bottom, down = vertical
    left, right, along = horizontal
    rows = images.reshape(-1, width)
    first = torch.arange(0, len(rows), height, device=images.device).view(batch, channels, 1)
    upper = rows.index_select(0, (first + top[:, None]).flatten()).float()
    lower = rows.index_select(0, (first + bottom[:, None]).flatten()).float()
    weights = down[:, None].expand(-1, channels, -1).reshape(-1, 1)
    resized = upper.lerp_(lower, weights).view(batch, channels, size, width)
    shape = (batch, channels, size, size)
    before = torch.gather(resized, 3, left[:, None, None].expand(shape))
    after = torch.gather(resized, 3, right[:, None, None].expand(shape))
    return brightness(before.lerp_(after, along[:, None, None]).add_(0.5).floor_(), factors)


def _between(places: Tensor, extent: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels around ``places`` (fractions of ``extent`` pixels), and the weight of the second."""
    pixels = (places * extent - 0.5).clamp_(0, extent - 1)
    first = pixels.long()
    return first, (first + 1).clamp_(max=extent - 1), pixels - first
