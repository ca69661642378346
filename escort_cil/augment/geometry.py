"""Pillow's ``Image.transform`` on batches: uint8 (B, 3, H, W), each image with its own magnitude, float32 (B,).

As the paper's code does them: a shear is bicubic and about the upper left corner, the others take the nearest pixel,
and what comes from outside is grey (128).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from escort_cil.augment.operations import cut_off

FILL = 128


def shear_x(images: Tensor, shears: Tensor) -> Tensor:
    """Row y (of pixels' centres) is moved to the left by ``shear * y``."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device) + 0.5
    # Where each pixel's centre comes from. All pixels of a row lie equally between two pixels of the image: one
    # window of the row, and three pixels more, holds what they are made of.
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
    """Column x (of pixels' centres) is moved up by ``shear * x``."""
    return shear_x(images.transpose(2, 3), shears).transpose(2, 3).contiguous()


def translate_x(images: Tensor, fractions: Tensor) -> Tensor:
    """Moved to the left by a fraction of the width."""
    return _moved(images, fractions.double() * images.shape[-1], torch.zeros_like(fractions))


def translate_y(images: Tensor, fractions: Tensor) -> Tensor:
    """Moved up by a fraction of the height."""
    return _moved(images, torch.zeros_like(fractions), fractions.double() * images.shape[-2])


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turned about the centre, counter-clockwise."""
    height, width = images.shape[-2:]
    angle = -torch.deg2rad(degrees.double())
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = width / 2, height / 2
    return _nearest(images, (cos, sin, x - cos * x - sin * y), (-sin, cos, y + sin * x - cos * y))


def _moved(images: Tensor, left: Tensor, up: Tensor) -> Tensor:
    one, none = torch.ones_like(left), torch.zeros_like(left)
    return _nearest(images, (one, none, left), (none, one, up))


def _nearest(images: Tensor, xs: tuple[Tensor, Tensor, Tensor], ys: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The pixel at (xs[0] x + xs[1] y + xs[2], the same of ys) for the pixel whose centre is (x, y).

    In 16.16 fixed point as Pillow computes it, so that the same pixel is the nearest.
    """
    height, width = images.shape[-2:]
    x = _fixed_line(xs, height, width)
    y = _fixed_line(ys, height, width)
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
    # The fill is one more pixel behind the image's last.
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
