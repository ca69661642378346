"""Measures of fidelity for edge maps, pictures and features. Needs only numpy, OpenCV and numba."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from escort_codec.coding.base import EdgeMap
from escort_codec.errors import UsageError
from escort_codec.workers import compiling

TOLERANCE: Final = 2.0
"""The most pixels between an edge pixel and its match."""

MAX_TOLERANCE: Final = 8.0


@dataclass(frozen=True, slots=True)
class EdgeScore:
    """How well an edge map agrees with another: shares of 1. ``f`` is the harmonic mean of the two."""

    precision: float
    recall: float

    @property
    def f(self) -> float:
        """2 P R / (P + R); 0 if both are 0."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def edge_score(kept: EdgeMap, full: EdgeMap, tolerance: float = TOLERANCE) -> EdgeScore:
    """Precision and recall of the map ``kept`` against ``full``, both bool (H, W).

    Each pixel is matched with at most one pixel of the other map, at most ``tolerance`` (0 to 8) pixels away, such that
    as many as possible are matched: the matching of the Berkeley segmentation benchmark (Martin, Fowlkes and Malik,
    PAMI 2004; its ``correspondPixels``), whose price of an unmatched pixel is far above any distance. Lines should be
    one pixel wide in both, as Canny draws them. An empty ``kept`` has a precision of 1, an empty ``full`` a recall of
    1. Raises UsageError for maps of different shapes.
    """
    if kept.shape != full.shape or kept.ndim != 2 or kept.dtype != np.bool_ or full.dtype != np.bool_:
        raise UsageError(f"edge maps are compared at one size, bool (H, W), not {kept.shape} and {full.shape}")
    if not 0 <= tolerance <= MAX_TOLERANCE:
        raise UsageError(f"give 0 to {MAX_TOLERANCE:g} pixels", setting="tolerance", value=tolerance)
    kernels = _kernels()
    steps = kernels.OFFSETS[np.square(kernels.OFFSETS).sum(axis=1) <= tolerance * tolerance + 1e-9]
    found = kernels.matched(np.ascontiguousarray(kept), np.ascontiguousarray(full), np.ascontiguousarray(steps))
    stored, wanted = int(kept.sum()), int(full.sum())
    return EdgeScore(found / stored if stored else 1.0, found / wanted if wanted else 1.0)


def prepare() -> None:
    """Compiles the kernel or loads it from the cache. Call it once before threads start."""
    _kernels()


@functools.cache
def _kernels() -> ModuleType:
    with compiling("the matching of edge pixels"):
        from escort_codec import measure_kernels
    return measure_kernels


def psnr(shown: NDArray[np.uint8], original: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 images of one shape; infinite if they are equal."""
    _check_pair(shown, original)
    error = float(np.square(shown.astype(np.float64) - original).mean())
    return 10 * math.log10(255 * 255 / error) if error else math.inf


_WINDOW: Final = 11
_SIGMA: Final = 1.5


def ssim(shown: NDArray[np.uint8], original: NDArray[np.uint8]) -> float:
    """Structural similarity of two uint8 images (H, W) or (H, W, 3), the mean over channels: at most 1.

    Wang et al., IEEE TIP 2004: a Gaussian window of 11 pixels with sigma 1.5, K1 .01, K2 .03, and the mean where the
    whole window lies inside the image. Of an image with a side below 11, the mean of all pixels with borders
    reflected.
    """
    _check_pair(shown, original)
    x, y = shown.astype(np.float64), original.astype(np.float64)

    def mean(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        blurred = cv2.GaussianBlur(plane, (_WINDOW, _WINDOW), _SIGMA, borderType=cv2.BORDER_REFLECT_101)
        return np.asarray(blurred, np.float64)

    mean_x, mean_y = mean(x), mean(y)
    variance = mean(x * x) - mean_x * mean_x + mean(y * y) - mean_y * mean_y
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    values = above / ((mean_x * mean_x + mean_y * mean_y + c1) * (variance + c2))
    edge = _WINDOW // 2 if min(values.shape[:2]) >= _WINDOW else 0
    inside = values[edge : values.shape[0] - edge, edge : values.shape[1] - edge]
    return float(inside.mean())


def _check_pair(shown: NDArray[np.uint8], original: NDArray[np.uint8]) -> None:
    if shown.shape != original.shape or shown.dtype != np.uint8 or original.dtype != np.uint8 or not shown.size:
        raise UsageError(
            f"images are compared as uint8 at one size, not {shown.dtype} {shown.shape} and {original.dtype} "
            f"{original.shape}"
        )


def kid(shown: NDArray[np.float32], original: NDArray[np.float32]) -> float:
    """Kernel distance of two sets of features (N, D) and (M, D), both of at least two images.

    The unbiased squared maximum mean discrepancy under the kernel (x·y / D + 1)³ (Bińkowski et al., ICLR 2018), over
    all pairs: no blocks are drawn. 0 for equal distributions; it may be a little below. Raises UsageError for other
    shapes.
    """
    if shown.ndim != 2 or original.ndim != 2 or shown.shape[1:] != original.shape[1:]:
        raise UsageError(f"features are (N, D), not {shown.shape} and {original.shape}")
    if min(len(shown), len(original)) < 2:
        raise UsageError("a kernel distance needs two images of each set")
    x, y = shown.astype(np.float64), original.astype(np.float64)

    def kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((a @ b.T / a.shape[1] + 1) ** 3, np.float64)

    def within(a: NDArray[np.float64]) -> float:
        values = kernel(a, a)
        return float((values.sum() - np.trace(values)) / (len(a) * (len(a) - 1)))

    return within(x) + within(y) - 2 * float(kernel(x, y).mean())


def class_kid(shown: NDArray[np.float32], original: NDArray[np.float32], labels: Sequence[str]) -> float:
    """The mean over classes of ``kid``, of images whose features (N, D) and labels (N,) agree in order.

    Classes of one image are left out; NaN if there are no others.
    """
    numbers = np.unique(np.asarray(labels), return_inverse=True)[1]
    values = [
        kid(shown[numbers == number], original[numbers == number])
        for number in range(int(numbers.max(initial=-1)) + 1)
        if (numbers == number).sum() > 1
    ]
    return float(np.mean(values)) if values else math.nan
