"""Pillow's colour operations on batches: uint8 (B, 3, H, W), each image with its own magnitude, float32 (B,).

Each gives what Pillow gives, to the bit (tests compare them), and returns a new tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from escort_cil.augment import compiled


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """``ImageEnhance.Brightness``: blends with black. 0 is black, 1 changes nothing."""
    return cut_off(images * factors.view(-1, 1, 1, 1))


def cut_off(values: Tensor) -> Tensor:
    """Float32 cut off to integers in 0..255, by way of int16: that takes a CPU a fifth of the time."""
    return values.clamp_(0, 255).to(torch.int16).to(torch.uint8)


def color(images: Tensor, factors: Tensor) -> Tensor:
    """``ImageEnhance.Color``: blends with the grey image."""
    return _blend(_grey(images), images, factors)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """``ImageEnhance.Contrast``: blends with the image's mean grey, rounded to an integer."""
    mean = (_grey(images).mean((1, 2, 3), dtype=torch.float64) + 0.5).floor_().float().view(-1, 1, 1)
    values = torch.arange(256, device=images.device, dtype=torch.float32)
    table = (values - mean).mul_(factors.view(-1, 1, 1)).add_(mean).clamp_(0, 255)
    return _look_up(table, images)


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
    values = torch.arange(256, device=images.device)
    return _look_up(torch.where(values < thresholds.view(-1, 1, 1), values, 255 - values), images)


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
    histogram = _histogram(images)
    values = torch.arange(256, device=images.device).expand_as(histogram)
    highest = torch.where(histogram > 0, values, 0).amax(2, keepdim=True)
    step = (histogram.sum(2, keepdim=True) - histogram.gather(2, highest)) // 255
    below = histogram.cumsum(2) - histogram
    table = torch.where(step > 0, ((below + step // 2) // step.clamp_min(1)).clamp_(max=255), values)
    return _look_up(table, images)


def _histogram(images: Tensor) -> Tensor:
    """How often each value is in each channel: int64 (B, 3, 256)."""
    if compiled.suits(images):
        return compiled.histogram(images)
    return torch.bincount(_table_index(images), minlength=len(images) * 3 * 256).view(-1, 3, 256)


def _look_up(tables: Tensor, images: Tensor) -> Tensor:
    """Replaces the values of each channel by those of ``tables`` (B, 3 or 1, 256), cut off to integers."""
    tables = tables.to(torch.uint8).expand(-1, 3, -1)
    if compiled.suits(images):
        return compiled.look_up(tables, images)
    return tables.flatten().index_select(0, _table_index(images)).view_as(images)


def _table_index(images: Tensor) -> Tensor:
    """Each value's place, int32 (B * 3 * H * W,), in a flat table of 256 values for each channel of each image."""
    first = torch.arange(0, len(images) * 3 * 256, 256, device=images.device, dtype=torch.int32)
    return (images.flatten(2) + first.view(-1, 3, 1)).flatten()


def _grey(images: Tensor) -> Tensor:
    """Pillow's "L": (19595 R + 38470 G + 7471 B + 2^15) / 2^16, cut off. All of it is exact in float32."""
    red, green, blue = images.float().unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 32768) / 65536).floor_().unsqueeze(1)


def _blend(others: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    """``Image.blend``: other + factor * (image - other), cut off to an integer in 0..255."""
    return cut_off(images.float().sub_(others).mul_(factors.view(-1, 1, 1, 1)).add_(others))
