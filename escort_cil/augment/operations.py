"""Pillow's operations on batches: uint8 (B, 3, H, W), each image with its own magnitude, float32 (B,).

Each gives what Pillow gives, to the bit (tests compare them), and returns a new tensor. Geometry is as in the paper's
code: a shear is bicubic and about the upper left corner, the others take the nearest pixel, and pixels from outside the
image are grey.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from escort_cil.augment import cpu

FILL: Final = 128
"""The grey value of pixels from outside the image."""

# Colours.


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
    scale = torch.full_like(low, 255) / (high - low)  # number / tensor would round twice
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
    """How often each value occurs in each channel: int64 (B, 3, 256)."""
    if cpu.on_cpu(images):
        return cpu.histogram(images)
    return torch.bincount(_table_index(images), minlength=len(images) * 3 * 256).view(-1, 3, 256)


def _look_up(tables: Tensor, images: Tensor) -> Tensor:
    """Replaces the values of each channel by those of ``tables`` (B, 3 or 1, 256), cut off to integers."""
    tables = tables.to(torch.uint8).expand(-1, 3, -1)
    if cpu.on_cpu(images):
        return cpu.look_up(tables, images)
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


# Geometry.


def shear_x(images: Tensor, shears: Tensor) -> Tensor:
    """Row y (of pixels' centres) moves to the left by ``shear * y``."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device) + 0.5
    # Where each pixel's centre comes from. All pixels of a row lie at the same place between two pixels of the image,
    # so one window of the row, three pixels wider, has all that they are made of.
    shift = shears.double()[:, None] * rows
    start = torch.floor(shift)
    part = (shift - start)[:, None, :, None]
    window = start.long()[:, :, None] + torch.arange(-1, width + 2, device=images.device)
    window = window.clamp_(0, width - 1)[:, None].expand(-1, 3, -1, -1)
    pixels = torch.gather(images, 3, window).double()
    a, b, c, d = (pixels[..., i : i + width] for i in range(4))
    # Pillow's cubic: Keys' with a = -1.
    result = b + part * (c - a + part * (2 * (a - b) + c - d + part * (b - a + d - c)))
    source = shift[:, :, None] + (torch.arange(width, device=images.device) + 0.5)
    outside = ((source < 0) | (source >= width))[:, None]
    return cut_off(result).masked_fill_(outside, FILL)


def shear_y(images: Tensor, shears: Tensor) -> Tensor:
    """Column x (of pixels' centres) moves up by ``shear * x``."""
    return shear_x(images.transpose(2, 3), shears).transpose(2, 3).contiguous()


def translate_x(images: Tensor, fractions: Tensor) -> Tensor:
    """Moves to the left by a fraction of the width."""
    return _moved(images, fractions.double() * images.shape[-1], torch.zeros_like(fractions))


def translate_y(images: Tensor, fractions: Tensor) -> Tensor:
    """Moves up by a fraction of the height."""
    return _moved(images, torch.zeros_like(fractions), fractions.double() * images.shape[-2])


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotates about the centre, counter-clockwise."""
    height, width = images.shape[-2:]
    angle = -torch.deg2rad(degrees.double())
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = width / 2, height / 2
    return _nearest(images, (cos, sin, x - cos * x - sin * y), (-sin, cos, y + sin * x - cos * y))


def _moved(images: Tensor, left: Tensor, up: Tensor) -> Tensor:
    one, none = torch.ones_like(left), torch.zeros_like(left)
    return _nearest(images, (one, none, left), (none, one, up))


def _nearest(images: Tensor, xs: tuple[Tensor, Tensor, Tensor], ys: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The pixel at (xs[0] x + xs[1] y + xs[2], likewise with ys) for the pixel whose centre is (x, y).

    In 16.16 fixed point as in Pillow, so that the same pixel is the nearest.
    """
    height, width = images.shape[-2:]
    x = _fixed_line(xs, height, width)
    y = _fixed_line(ys, height, width)
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
    # The fill is one more pixel after the image's last.
    index = y.mul_(width).add_(x).masked_fill_(outside, height * width).flatten(1).long()
    pixels = F.pad(images.flatten(2), (0, 1), value=FILL)
    return torch.gather(pixels, 2, index[:, None].expand(-1, 3, -1)).view_as(images)


def _fixed_line(terms: tuple[Tensor, Tensor, Tensor], height: int, width: int) -> Tensor:
    """floor(a (x + 1/2) + b (y + 1/2) + c) for all pixels, int32 (B, H, W)."""
    a, b, c = terms
    start = c + a / 2 + b / 2
    a, b, start = (torch.floor(v.double() * 65536 + 0.5).to(torch.int32).view(-1, 1, 1) for v in (a, b, start))
    columns = torch.arange(width, device=a.device, dtype=torch.int32)
    rows = torch.arange(height, device=a.device, dtype=torch.int32)[:, None]
    return (a * columns + b * rows + start) >> 16
