"""Image -> edge map: Canny, and the sizes of the paper's two presets.

Source: Duan et al., arXiv 2311.18266, and its published scripts. With the default settings the maps equal
``cv2.Canny(rgb, 100, 200)`` bit for bit.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from escort_codec.coding import EdgeMap
from escort_codec.errors import UnknownNameError, UsageError
from escort_codec.recipe import HIRES, LOWRES, PRESETS, EdgeSettings

_MAX_AREA: Final = 786_432  # pixels, at resolutions up to 512: 1024 x 768, or 512 x 512 x 3
_MULTIPLE: Final = 64  # the latent's factor of 8 times the network's three halvings


def edge_map(rgb: NDArray[np.uint8], preset: str = HIRES, settings: EdgeSettings | None = None) -> EdgeMap:
    """The edge map (bool) of an image: uint8 RGB (H, W, 3), H and W at least 1.

    ``hires``: the map has the size of the image. ``lowres``: the image is first resized to the size at which it will
    be generated, and the map has that size. ``settings``: Canny's thresholds and, beyond the paper, a Gaussian before
    Canny and the shortest contour that is kept (8-connected, in pixels of the map). Raises UsageError for another kind
    of array, UnknownNameError for an unknown preset.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise UsageError(f"an edge map needs a uint8 image (H, W, 3), not {rgb.dtype} {tuple(rgb.shape)}")
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
    """The image at the size of ``lowres``: enlarged by Lanczos over 8 x 8 pixels, reduced by area."""
    height, width = rgb.shape[:2]
    H, W = generation_size((height, width), LOWRES)
    how = cv2.INTER_LANCZOS4 if height * width <= H * W else cv2.INTER_AREA
    return cv2.resize(rgb, (W, H), interpolation=how).astype(np.uint8, copy=False)


def check_preset(preset: str) -> str:
    """Returns ``preset``. Raises UnknownNameError if there is no such preset."""
    if preset not in PRESETS:
        raise UnknownNameError(f"no preset is called {preset!r} (there are: {', '.join(PRESETS)})")
    return preset


def short_side(size: tuple[int, int], preset: str) -> int:
    """The shorter side in pixels at which a (height, width) image is generated."""
    return 512 if check_preset(preset) == HIRES or min(size) >= 512 else 256


def generation_size(size: tuple[int, int], preset: str, resolution: int | None = None) -> tuple[int, int]:
    """(H, W) at which an image of ``size`` (height, width), both >= 1, is generated: multiples of 64.

    The shorter side becomes 512 (``lowres``: 256 for images below 512), or ``resolution``. Both sides are halved while
    the area is above 1024 x 768, then rounded to the nearest multiple of 64 (halves to the even multiple, as numpy
    rounds). Beyond the paper's scripts: above a resolution of 512 the allowed area grows with its square
    (3 * resolution ** 2), no side is below 64, and the longer side of an extremely long image is cut to the area.
    """
    short = resolution or short_side(size, preset)
    scale = short / min(size)
    area = max(_MAX_AREA, 3 * short * short)
    height, width = size[0] * scale, size[1] * scale
    while height * width > area:
        height, width = height / 2, width / 2
    longest = area // _MULTIPLE // _MULTIPLE
    H, W = (min(max(1, int(np.round(side / _MULTIPLE))), longest) * _MULTIPLE for side in (height, width))
    return H, W
