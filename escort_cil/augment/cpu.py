"""Batches on a CPU: compiled loops instead of tensor operations, and pieces of a batch in threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import ModuleType
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from escort_codec.workers import compiling

Picture: TypeAlias = NDArray[np.uint8]
"""A picture: RGB, uint8 (H, W, 3), contiguous and writable."""

_PIECE_BYTES: Final = 12 << 20
"""Bytes of float32 in one piece: it stays in the cache, and the allocator reuses its memory instead of asking the
system for new pages."""


def on_cpu(images: Tensor) -> bool:
    """Whether the images are on the CPU, where the compiled loops work."""
    return images.device.type == "cpu"


def in_pieces(work: Callable[[slice], None], images: Tensor) -> None:
    """Calls ``work`` for slices that together cover ``images``; no slice may depend on another.

    A GPU takes all images at once. A CPU takes pieces in as many threads as torch uses, each with one torch thread:
    torch's own threads wait for each other at the end of each of a hundred small operations, longest if other programs
    run as well (measured: five to ten times the processor time).
    """
    count = len(images)
    if images.device.type != "cpu":
        if count:
            work(slice(0, count))
        return
    threads = torch.get_num_threads()
    step = max(1, min(_PIECE_BYTES // (4 * images[:1].numel() or 1), -(-count // threads)))
    pieces = [slice(i, min(i + step, count)) for i in range(0, count, step)]
    if threads == 1 or len(pieces) < 2:
        for piece in pieces:
            work(piece)
        return
    try:
        with ThreadPoolExecutor(threads, "augment", torch.set_num_threads, (1,)) as pool:
            for task in [pool.submit(work, piece) for piece in pieces]:
                task.result()
    finally:
        # The number is per thread, but it is also the default of threads that start later.
        torch.set_num_threads(threads)


@cache
def _kernels() -> ModuleType:
    with compiling("the augmentation"):
        from escort_cil.augment import kernels
    return kernels


def crop_resized(picture: Picture, box: Sequence[float], flip: bool, factor: float, out: Tensor) -> None:
    """Fills ``out``, uint8 (3, size, size), with a box (left, top, width, height; fractions) of a picture: see
    ``crops.crop_pictures``."""
    height, width = picture.shape[:2]
    left, top, across, down = (v * extent for v, extent in zip(box, (width, height, width, height), strict=True))
    _kernels().crop_resized(picture.reshape(height, -1), left, top, across, down, flip, factor, out.numpy())


def histogram(images: Tensor) -> Tensor:
    """How often each value occurs in each channel: int64 (B, 3, 256)."""
    counts = torch.zeros(len(images) * 3, 256, dtype=torch.int64)
    _kernels().histogram(images.reshape(len(counts), -1).contiguous().numpy(), counts.numpy())
    return counts.view(-1, 3, 256)


def look_up(tables: Tensor, images: Tensor) -> Tensor:
    """Replaces the values of uint8 (B, 3, H, W) by those of uint8 tables (B, 3, 256)."""
    rows = images.reshape(len(images) * 3, -1).contiguous()
    out = torch.empty_like(rows)
    _kernels().look_up(tables.reshape(-1, 256).contiguous().numpy(), rows.numpy(), out.numpy())
    return out.view_as(images)


def scale(images: Tensor, factors: Tensor, shifts: Tensor, out: Tensor) -> None:
    """Fills ``out``, float32 (B, 3, H, W), contiguous: uint8 ``images`` times ``factors`` (3,) plus ``shifts`` (3,)."""
    values, results = (v.flatten(0, 1).flatten(1) for v in (images.contiguous(), out))
    weights = (v.repeat(len(images)) for v in (factors, shifts))
    _kernels().scale(*(v.numpy() for v in (values, *weights, results)))
