"""Pillow's colour operations on batches: uint8 (B, 3, H, W), each image with its own magnitude, float32 (B,).

Each gives what Pillow gives, to the bit (tests compare them); they return new tensors. kornia's operations work on
floats in 0..1 and round, equalise and sharpen differently, and its equalisation goes image by image.
"""

from __future__ import annotations

import torch
from torch import Tensor


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """``ImageEnhance.Brightness``: blends with black. 0 is black, 1 changes nothing."""
    return lit(images, factors).to(torch.uint8)


def lit(images: Tensor, factors: Tensor) -> Tensor:
    """``brightness`` of uint8 or of float32 integers, as float32."""
    return (images * factors.view(-1, 1, 1, 1)).clamp_(0, 255).floor_()


def color(images: Tensor, factors: Tensor) -> Tensor:
    """``ImageEnhance.Color``: blends with the grey image."""
    return _blend(_grey(images), images, factors)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """``ImageEnhance.Contrast``: blends with the image's mean grey, rounded to an integer."""
    mean = _grey(images).mean((1, 2, 3), dtype=torch.float64)
    return _blend((mean + 0.5).floor_().float().view(-1, 1, 1, 1), images, factors)


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """``ImageEnhance.Sharpness``: blends with the image smoothed by (1 1 1, 1 5 1, 1 1 1) / 13; the border stays."""
    smooth = images.float()
    if min(images.shape[-2:]) > 2:
        rows = smooth[:, :, :-2] + smooth[:, :, 1:-1] + smooth[:, :, 2:]
        total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * smooth[:, :, 1:-1, 1:-1]
        smooth[:, :, 1:-1, 1:-1] = (total / 13 + 0.5).floor_()
    return _blend(smooth, images, factors)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """``ImageOps.posterize``: keeps the uppermost ``bits`` (0..8) of each value."""
    mask = 256 - torch.exp2(8 - bits.round())
    return images & mask.to(torch.uint8).view(-1, 1, 1, 1)


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """``ImageOps.solarize``: inverts the values at or above the threshold (0..256)."""
    least = thresholds.ceil().to(torch.int16).view(-1, 1, 1, 1)
    return torch.where(images >= least, ~images, images)


def invert(images: Tensor, magnitudes: Tensor) -> Tensor:
    """``ImageOps.invert``; has no magnitude."""
    return ~images


def autocontrast(images: Tensor, magnitudes: Tensor) -> Tensor:
    """``ImageOps.autocontrast``: stretches each channel to 0..255; has no magnitude. A flat channel stays."""
    low, high = (v.double().unsqueeze(-1) for v in images.flatten(2).aminmax(dim=2))
    values = torch.arange(256, device=images.device, dtype=torch.float64).expand(*low.shape[:2], 256)
    scale = torch.full_like(low, 255) / (high - low)  # a number / a tensor would be rounded twice
    table = torch.where(high > low, (values * scale - low * scale).clamp_(0, 255), values)
    return _look_up(table, images)


def equalize(images: Tensor, magnitudes: Tensor) -> Tensor:
    """``ImageOps.equalize``: gives each channel a flat histogram; has no magnitude. A channel of one value stays."""
    batch, channels = images.shape[:2]
    place = torch.arange(batch * channels, device=images.device).view(batch, channels, 1) * 256
    histogram = torch.bincount((images.flatten(2) + place).flatten(), minlength=batch * channels * 256)
    histogram = histogram.view(batch, channels, 256)
    values = torch.arange(256, device=images.device).expand_as(histogram)
    highest = torch.where(histogram > 0, values, 0).amax(2, keepdim=True)
    step = (histogram.sum(2, keepdim=True) - histogram.gather(2, highest)) // 255
    below = histogram.cumsum(2) - histogram
    table = torch.where(step > 0, ((below + step // 2) // step.clamp_min(1)).clamp_(max=255), values)
    return _look_up(table, images)


def _look_up(table: Tensor, images: Tensor) -> Tensor:
    """Replaces the values of each channel by ``table`` (B, 3, 256), cut off to integers."""
    return torch.gather(table.to(torch.uint8), 2, images.flatten(2).long()).view_as(images)


def _grey(images: Tensor) -> Tensor:
    """Pillow's "L": (19595 R + 38470 G + 7471 B + 2^15) / 2^16, cut off. All of it is exact in float32."""
    red, green, blue = images.float().unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 32768) / 65536).floor_().unsqueeze(1)


def _blend(others: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    """``Image.blend``: other + factor * (image - other), cut off to an integer in 0..255."""
    blended = (images - others).mul_(factors.view(-1, 1, 1, 1)).add_(others)
    return blended.clamp_(0, 255).to(torch.uint8)
