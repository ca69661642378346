"""Pillow's image operations on batches of uint8 (B, 3, H, W), each image with its own magnitude (B,)."""

from __future__ import annotations

from torch import Tensor


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Pillow's ``ImageEnhance.Brightness``: x * factor, cut off to an integer in 0..255.

    Takes uint8 or float32 with such values; returns a new float32 tensor of integers.
    """
    return (images * factors.view(-1, 1, 1, 1)).clamp_(0, 255).floor_()
