"""Random crops: slices of padded squares, and boxes of pictures of any size, resized."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from escort_cil.augment import cpu
from escort_cil.augment.cpu import Picture

ATTEMPTS: Final = 10
"""torchvision's: boxes that are tried before the centre is taken."""


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


def crop_pictures(
    pictures: Sequence[Picture], boxes: Tensor, flips: Tensor, factors: Tensor, size: int, *, out: Tensor | None = None
) -> Tensor:
    """The ``boxes`` (B, 4) of pictures, resized to ``size``, mirrored if ``flips``, times ``factors`` (B,).

    A picture is uint8 (H, W, 3); all tensors are on the CPU. Bilinear as Pillow's ``resize`` with a box: it reduces
    with antialiasing. Then ``operations.brightness``. Returns uint8 (B, 3, size, size), in ``out`` if given.
    """
    if out is None:
        out = torch.empty((len(pictures), 3, size, size), dtype=torch.uint8)
    places = zip(boxes.tolist(), flips.tolist(), factors.tolist(), out, strict=True)
    for picture, (box, flip, factor, crop) in zip(pictures, places, strict=True):
        cpu.crop_resized(picture, box, flip, factor, crop)
    return out
