"""The way to the compiled loops for tensors on the CPU."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from escort_codec.compiling import compiling


def suits(images: Tensor) -> bool:
    """Whether these images are worked on by the compiled loops: those on the CPU."""
    return images.device.type == "cpu"


@cache
def _kernels() -> ModuleType:
    with compiling("the augmentation"):
        from escort_cil.augment import kernels
    return kernels


def crop_resized(
    images: Tensor, vertical: tuple[Tensor, ...], horizontal: tuple[Tensor, ...], factors: Tensor, size: int
) -> Tensor:
    """See ``crop.crop_resized``; ``vertical`` and ``horizontal`` are what ``crop.between`` gives, (B, size) each."""
    out = images.new_empty((len(images), 3, size, size))
    _kernels().crop_resized(*(v.contiguous().numpy() for v in (images, *vertical, *horizontal, factors, out)))
    return out


def histogram(images: Tensor) -> Tensor:
    """How often each value is in each channel: int64 (B, 3, 256)."""
    counts = torch.zeros(len(images) * 3, 256, dtype=torch.int64)
    _kernels().histogram(images.reshape(len(counts), -1).contiguous().numpy(), counts.numpy())
    return counts.view(-1, 3, 256)


def look_up(tables: Tensor, images: Tensor) -> Tensor:
    """The values of uint8 (B, 3, H, W) replaced by what uint8 tables (B, 3, 256) say."""
    rows = images.reshape(len(images) * 3, -1).contiguous()
    out = torch.empty_like(rows)
    _kernels().look_up(tables.reshape(-1, 256).contiguous().numpy(), rows.numpy(), out.numpy())
    return out.view_as(images)


def scale(images: Tensor, factors: Tensor, shifts: Tensor, out: Tensor) -> None:
    """Fills ``out``, float32 (B, 3, H, W), contiguous: uint8 ``images`` times ``factors`` (3,) plus ``shifts`` (3,)."""
    values, results = (v.flatten(0, 1).flatten(1) for v in (images.contiguous(), out))
    weights = (v.repeat(len(images)) for v in (factors, shifts))
    _kernels().scale(*(v.numpy() for v in (values, *weights, results)))
