"""Image -> edge map: Canny as in the paper's two presets.

Source: Duan et al., arXiv 2311.18266, and its published scripts. With the default settings the maps equal
``cv2.Canny(rgb, 100, 200)`` bit for bit.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from escort_codec.coding import EdgeMap
from escort_codec.errors import UsageError
from escort_codec.exemplar import EdgeSettings
from escort_codec.presets import LOWRES, check_preset, generation_size


def edge_map(rgb: NDArray[np.uint8], preset: str = "hires", settings: EdgeSettings | None = None) -> EdgeMap:
    """The edge map (bool) of an image: uint8 RGB (H, W, 3), H and W at least 1.

    ``hires``: at the image's own size. ``lowres``: the image is first resized to the size at which it will be
    generated, and the map is of that size. ``settings``: Canny's thresholds, and what the paper does not do, a
    Gaussian before and the shortest contour kept (8-connected, in pixels of the map).
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise UsageError(f"an edge map is made of a uint8 image (H, W, 3), not of {rgb.dtype} {tuple(rgb.shape)}")
    settings = settings or EdgeSettings()
    if check_preset(preset) == LOWRES:
        rgb = _generation_image(rgb)
    if settings.blur > 0:
        rgb = cv2.GaussianBlur(rgb, (0, 0), settings.blur).astype(np.uint8, copy=False)
    edges = cv2.Canny(rgb, settings.low, settings.high)
    if settings.min_contour > 1:
        _, numbers, stats, _ = cv2.connectedComponentsWithStats(edges, connectivity=8)
        short = stats[:, cv2.CC_STAT_AREA] < settings.min_contour
        edges[short[numbers]] = 0
    return edges > 0


def _generation_image(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image at the size of ``lowres``: Lanczos over 8 x 8 pixels where it grows, else area."""
    height, width = rgb.shape[:2]
    H, W = generation_size((height, width), LOWRES)
    how = cv2.INTER_LANCZOS4 if height * width <= H * W else cv2.INTER_AREA
    return cv2.resize(rgb, (W, H), interpolation=how).astype(np.uint8, copy=False)
