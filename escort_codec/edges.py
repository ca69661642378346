"""Image -> edge map: Canny, and the sizes of the paper's two presets.

Source: Duan et al., arXiv 2311.18266, and its published scripts. With the default settings the maps equal
``cv2.Canny(rgb, 100, 200)`` bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from escort_codec.coding import EdgeMap
from escort_codec.errors import UnknownNameError, UsageError
from escort_codec.recipe import HIRES, LOWRES, PRESETS, EdgeSettings

_MAX_AREA: Final = 786_432  # pixels, at resolutions up to 512: 1024 x 768, or 512 x 512 x 3
_MULTIPLE: Final = 64  # the latent's factor of 8 times the network's three halvings


def edge_map(
    rgb: NDArray[np.uint8], preset: str = HIRES, settings: EdgeSettings | None = None, side: int | None = None
) -> EdgeMap:
    """The edge map (bool) of an image: uint8 RGB (H, W, 3), H and W at least 1.

    ``hires``: the map has the size of the image. ``lowres``: the image is first resized to the size at which it will
    be generated, and the map has that size. ``settings``: Canny's thresholds and, beyond the paper, a Gaussian before
    Canny and the shortest contour that is kept (8-connected, in pixels of the map). With a ``side``, also beyond the
    paper, an image with a larger shorter side is first reduced to it, whatever the preset. Raises UsageError
    for another kind of array, UnknownNameError for an unknown preset.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise UsageError(f"an edge map needs a uint8 image (H, W, 3), not {rgb.dtype} {tuple(rgb.shape)}")
    settings = settings or EdgeSettings()
    if side is not None:
        rgb = reduced_image(rgb, side)
    elif check_preset(preset) == LOWRES:
        rgb = _generation_image(rgb)
    if settings.blur > 0:
        rgb = cv2.GaussianBlur(rgb, (0, 0), settings.blur).astype(np.uint8, copy=False)
    edges = cv2.Canny(rgb, settings.low, settings.high) > 0
    # Numbering the contours takes half of Canny's time, so it is left out where all are kept.
    return Contours.of(edges).at_least(settings.min_contour) if settings.min_contour > 1 else edges


@dataclass(frozen=True, slots=True)
class Contours:
    """The contours of an edge map ``edges`` (bool, H, W): its 8-connected parts, numbered from 1 in ``numbers``
    (int32, H, W); ``lengths`` (N + 1,) are their pixels, by number."""

    edges: EdgeMap
    numbers: NDArray[np.int32]
    lengths: NDArray[np.int32]

    @classmethod
    def of(cls, edges: EdgeMap) -> Contours:
        """The contours of a map."""
        _, numbers, stats, _ = cv2.connectedComponentsWithStats(edges.view(np.uint8), connectivity=8)
        return cls(edges, np.asarray(numbers, np.int32), stats[:, cv2.CC_STAT_AREA].astype(np.int32))

    def at_least(self, pixels: int) -> EdgeMap:
        """The map without contours of fewer pixels."""
        return self.edges & (self.lengths >= pixels)[self.numbers]


def reduced_image(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """An image (H, W, 3) reduced by area means to a shorter side of at most ``side`` pixels."""
    height, width = rgb.shape[:2]
    shorter = min(height, width)
    if shorter <= side:
        return rgb
    h, w = (max(1, (2 * length * side + shorter) // (2 * shorter)) for length in (height, width))
    return cv2.resize(rgb, (w, h), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


_STEPS: Final = ((0, 1), (1, 0), (1, 1), (1, -1))


def enlarged(edges: EdgeMap, size: tuple[int, int]) -> EdgeMap:
    """An edge map (H, W) drawn at ``size``, neither side smaller: lines of one pixel between neighbouring edge pixels.

    A diagonal line is not drawn if two straight ones connect the same pixels.
    """
    height, width = edges.shape
    H, W = size
    if (height, width) == size:
        return edges
    padded = np.pad(edges, 1)

    def moved(dy: int, dx: int) -> EdgeMap:
        return padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    lines = []
    for dy, dx in ((0, 0), *_STEPS):
        joined = edges & moved(dy, dx)
        if dy and dx:
            joined &= ~moved(0, dx) & ~moved(dy, 0)
        y, x = np.nonzero(joined)
        lines.append(np.stack([x, y, x + dx, y + dy], axis=1))
    # Centres of pixels, in 1/16 pixel, as OpenCV draws them.
    ends = (np.concatenate(lines).reshape(-1, 2, 2) + 0.5) * (W / width, H / height) - 0.5
    drawn = np.zeros(size, np.uint8)
    cv2.polylines(drawn, list(np.rint(ends * 16).astype(np.int32)), False, 1, 1, cv2.LINE_8, 4)
    return drawn > 0


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
