"""Random crops of a batch: each image its own box."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from escort_cil.augment import compiled
from escort_cil.augment.operations import brightness

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


def crop_resized(images: Tensor, boxes: Tensor, flips: Tensor, factors: Tensor, size: int) -> Tensor:
    """The ``boxes`` (B, 4) of uint8 images, resized to ``size``, mirrored where ``flips``, times ``factors`` (B,).

    Bilinear, as Pillow does it where it enlarges; the stored square is at most 8/7 of ``size`` in the presets, so that
    its antialiasing hardly differs either. Then ``operations.brightness``. Returns uint8 (B, 3, size, size).
    """
    steps = (torch.arange(size, device=images.device) + 0.5) / size
    columns = torch.where(flips[:, None], 1 - steps, steps)
    vertical = between(boxes[:, 1:2] + boxes[:, 3:4] * steps, images.shape[2])
    horizontal = between(boxes[:, 0:1] + boxes[:, 2:3] * columns, images.shape[3])
    if compiled.suits(images):
        return compiled.crop_resized(images, vertical, horizontal, factors, size)

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


def between(places: Tensor, extent: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels around ``places`` (fractions of ``extent`` pixels), and the second one's weight."""
    pixels = (places * extent - 0.5).clamp_(0, extent - 1)
    first = pixels.long()
    return first, (first + 1).clamp_(max=extent - 1), pixels - first
