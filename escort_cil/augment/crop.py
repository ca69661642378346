"""Random crops of a batch: each image its own box."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ATTEMPTS = 10  # torchvision's: boxes that are tried before the centre is taken


def crop_offsets(draws: Tensor, slack: int) -> Tensor:
    """Offsets (top, left) in 0..slack, int64, from ``draws`` uniform in [0, 1)."""
    return (draws * (slack + 1)).long().clamp_(max=slack)


def crop_padded(images: Tensor, offsets: Tensor, flips: Tensor, padding: int, size: int) -> Tensor:
    """Crops of ``size`` pixels at ``offsets`` (B, 2) from uint8 images padded by zeros, mirrored where ``flips``."""
    padded = F.pad(images, (padding,) * 4)
    width = padded.shape[-1]
    step = torch.arange(size, device=images.device)
    rows = offsets[:, :1] + step
    columns = offsets[:, 1:] + torch.where(flips[:, None], step.flip(0), step)
    index = (rows[:, :, None] * width + columns[:, None, :]).view(-1, 1, size * size)
    return torch.gather(padded.flatten(2), 2, index.expand(-1, 3, -1)).view(-1, 3, size, size)


def crop_boxes(draws: Tensor, aspects: Tensor, scale: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """Boxes (left, top, width, height), float32 (B, 4), as fractions of images of ``aspects`` w/h (B,).

    torchvision's RandomResizedCrop: the area is uniform in ``scale``, width / height log-uniform in ``ratio``; of ten
    tries the first that lies within the image is taken, else the largest centred box of an allowed ratio.
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


def crop_resized(images: Tensor, boxes: Tensor, flips: Tensor, size: int) -> Tensor:
    """The ``boxes`` (B, 4) of uint8 images, resized to ``size`` pixels, mirrored where ``flips``.

    Bilinear, as Pillow does it where it enlarges; the stored square is at most 8/7 of ``size`` in the presets, so that
    its antialiasing hardly differs either. Returns float32 of integers in 0..255.
    """
    steps = (torch.arange(size, device=images.device, dtype=torch.float32) + 0.5) / size
    columns = torch.where(flips[:, None], 1 - steps, steps)
    # grid_sample's coordinates: -1 and 1 are the image's outer borders.
    x = (boxes[:, 0:1] + boxes[:, 2:3] * columns) * 2 - 1
    y = (boxes[:, 1:2] + boxes[:, 3:4] * steps) * 2 - 1
    shape = (len(images), size, size)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], -1)
    sampled = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.add_(0.5).floor_()
