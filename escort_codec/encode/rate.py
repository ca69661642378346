"""Rate control: the best version of an image within a number of bytes, found by coding it a few times.

For a **prompt** it chooses scale, blur, thresholds and shortest contour; the bytes that the map does not need go to the
hint. It looks for the largest whole map that fits, then for larger maps without their short contours, and takes the one
with the best F measure against the long contours of the full map. For a **picture** (WebP, learned) it chooses side and
quality: at each of a few sides the best quality that fits, and of these the one with the best SSIM.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from escort_codec.coding import EdgeMap
from escort_codec.edges import Contours, edge_map, enlarged, reduced_image
from escort_codec.errors import LimitError
from escort_codec.exemplar import smallest
from escort_codec.measure import edge_score, ssim
from escort_codec.recipe import EdgeSettings

if TYPE_CHECKING:
    from PIL import Image

LONG: Final = 21
"""Pixels of the shortest contour of the full map that counts in the F measure: shorter ones are texture."""
FULL_SIDE: Final = 512
"""Shorter side of the full map of larger images, as they are regenerated."""
HINT_SHARE: Final = 0.25
"""The least share of the bytes that the hint gets."""
WHOLE_TRIES: Final = 3
STRIPPED: Final = ((1.2, EdgeSettings()), (1.25, EdgeSettings(low=75, high=150, blur=0.7)))
"""Larger maps to try without their short contours: their scale relative to the whole map, and settings."""
STRIP_TRIES: Final = 3
FULL_ENOUGH: Final = 0.97
"""The share of the bytes that ends a search."""
MOST_CONTOUR: Final = 0xFFFF
SEEN_SIDE: Final = 128
"""Pixels of the longer side at which pictures are compared."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A model of a codec's sizes for first guesses: ``bytes`` at 16 pixels and a medium ``quality`` grow with the
    ``power`` of the side, and by the logarithm ``growth`` per step of quality. ``best`` is the highest quality; fewer
    than ``least`` bytes cannot hold a picture. The search tries ``sides``, relative to the predicted side, with
    ``tries`` codings each. Every file has ``head`` more bytes."""

    bytes: float
    power: float
    quality: int
    growth: float
    best: int
    least: int
    sides: tuple[float, ...] = (0.8, 1.0, 1.25)
    tries: int = 4
    head: int = 0

    def side(self, most_bytes: float) -> float:
        """The predicted side."""
        return float(16 * max(1e-3, (most_bytes - self.head) / self.bytes) ** (1 / self.power))


VP8: Final = Scale(58, 1.28, 12, 0.03, 100, 32)
WEBP: Final = Scale(58, 1.28, 12, 0.03, 100, 80, head=32)
LATENT: Final = Scale(16, 1.4, 36, 0.045, 63, 12, (0.9, 1.15), 3)
LATENT_HINT: Final = Scale(26, 1.5, 48, 0.045, 63, 12, tries=3)


@dataclass(frozen=True, slots=True)
class FittedMap:
    """An edge map of ``bytes`` bytes, its settings, and its F measure (``measure.edge_score``) against the contours of
    the full map that have at least ``LONG`` pixels."""

    edges: EdgeMap
    settings: EdgeSettings
    bytes: int
    fidelity: float


@dataclass(frozen=True, slots=True)
class FittedPicture:
    """A coded picture and its SSIM against the image, both at ``SEEN_SIDE``."""

    data: bytes
    fidelity: float


Coder = Callable[[int, int], bytes]
"""(side in pixels, quality) -> the coded picture."""


def fit_map(rgb: NDArray[np.uint8], most_bytes: int, coding: str) -> FittedMap:
    """The best edge map of an image, uint8 RGB (H, W, 3), in ``most_bytes`` under ``coding``.

    Takes at most 9 codings. The map is empty if no contour fits.
    """
    return _MapSearch(rgb, most_bytes, coding).best()


class _MapSearch:
    """The search for one image's map."""

    def __init__(self, rgb: NDArray[np.uint8], most_bytes: int, coding: str) -> None:
        self.rgb = rgb
        self.most = most_bytes
        self.coding = coding
        self.wanted = _wanted(rgb)
        self.largest = min(self.wanted.shape)

    def best(self) -> FittedMap:
        """The map with the best F measure; a tie goes to the smallest."""
        side, whole, cost = self._whole()
        found = [] if whole is None else [whole]
        if whole is None or side < self.largest:
            for scale, settings in STRIPPED:
                found.append(self._stripped(min(self.largest, round(side * scale)), settings, cost))
        return max(found, key=lambda each: (each.fidelity, -each.bytes))

    def _whole(self) -> tuple[int, FittedMap | None, float]:
        """The side of the largest whole map that fits, the map, and its bytes per edge pixel.

        If none fits: the smallest side tried, None, and its bytes per edge pixel.
        """
        side = self._clipped(44 * (self.most / 100) ** 0.55)
        tried: dict[int, tuple[int, EdgeMap]] = {}
        while side not in tried and len(tried) < WHOLE_TRIES:
            edges = edge_map(self.rgb, side=side)
            size = self._size(edges)
            tried[side] = size, edges
            if size <= self.most and (size > FULL_ENOUGH * self.most or side == self.largest):
                break
            side = self._clipped(0.98 * side * (self.most / max(4, size)) ** 0.7)
        fitting = [each for each, (size, _) in tried.items() if size <= self.most]
        side = max(fitting) if fitting else min(tried)
        size, edges = tried[side]
        whole = self._scored(edges, EdgeSettings(), size) if fitting else None
        return side, whole, size / max(1, int(edges.sum()))

    def _stripped(self, side: int, settings: EdgeSettings, cost: float) -> FittedMap:
        """The map of a side with as many of its longest contours as fit; ``cost`` is a first guess of bytes per edge
        pixel."""
        contours = Contours.of(edge_map(self.rgb, settings=settings, side=side))
        lengths = np.sort(contours.lengths[1:])[::-1]
        steps = np.unique(lengths)[::-1]
        pixels = np.cumsum(lengths)[np.searchsorted(-lengths, -steps, side="right") - 1]  # edge pixels at each step
        fits, fails = -1, len(steps)
        best = np.zeros_like(contours.edges), MOST_CONTOUR, self._size(np.zeros_like(contours.edges))
        for _ in range(STRIP_TRIES):
            guess = int(np.searchsorted(pixels, self.most / max(1e-6, cost), side="right")) - 1
            step = min(max(guess, fits + 1), fails - 1)
            if step <= fits:
                break
            least = min(int(steps[step]), MOST_CONTOUR)
            edges = contours.at_least(least)
            size = self._size(edges)
            if size <= self.most:
                fits, best = step, (edges, least, size)
                if size > FULL_ENOUGH * self.most:
                    break
            else:
                fails = step
            cost = size / max(1, int(pixels[step]))
        edges, least, size = best
        return self._scored(edges, replace(settings, min_contour=least), size)

    def _clipped(self, side: float) -> int:
        return int(max(1, min(self.largest, round(side))))

    def _size(self, edges: EdgeMap) -> int:
        return len(smallest(edges, self.coding)[1])

    def _scored(self, edges: EdgeMap, settings: EdgeSettings, size: int) -> FittedMap:
        return FittedMap(edges, settings, size, _score(edges, self.wanted))


def fit_quality(code: Coder, most_bytes: int, side: int, scale: Scale, tries: int) -> bytes | None:
    """The picture of a side with the highest quality that fits, found in ``tries`` codings, or None."""
    low, high, quality, best = -1, scale.best + 1, scale.quality, None
    below = above = 0.0  # logarithms of the bytes at ``low`` and ``high``
    for _ in range(tries):
        data = code(side, quality)
        size = math.log(max(1, len(data)) / most_bytes)
        if size <= 0:
            low, below, best = quality, size, data
        else:
            high, above = quality, size
        if high - low <= 1 or (best is not None and len(best) > FULL_ENOUGH * most_bytes):
            break
        if best is not None and above:
            step = low + (high - low) * -below / (above - below)
        else:
            step = quality - size / scale.growth
        quality = min(max(math.floor(step), low + 1), high - 1)
    return best


def fit_hint(code: Coder, most_bytes: int, longest: int, scale: Scale) -> bytes | None:
    """The hint of an image with the longer side ``longest``, in at most 7 codings; None if none fits."""
    if most_bytes < scale.least:
        return None
    side = max(1, min(longest, round(scale.side(most_bytes))))
    if (found := fit_quality(code, most_bytes, side, scale, scale.tries)) is not None:
        return found
    # The tries may all have come out just above: a somewhat smaller picture is far better than the worst quality.
    for share, quality in ((0.75, scale.quality), (0.5, scale.quality), (0.5, 0)):
        if len(smaller := code(max(1, int(side * share)), quality)) <= most_bytes:
            return smaller
    return None


def fit_picture(
    code: Coder,
    decode: Callable[[bytes], NDArray[np.uint8]],
    picture: Image.Image,
    most_bytes: int,
    scale: Scale,
    side: int | None = None,
) -> FittedPicture:
    """The coded picture with the best SSIM, of ``side`` pixels or of any side.

    Takes about 12 codings at most. ``decode`` turns the bytes into uint8 RGB (h, w, 3). If nothing fits, the side is
    halved until something does. Raises LimitError if one pixel does not fit.
    """
    longest, usual = max(picture.size), scale.side(most_bytes)
    sides = [side] if side is not None else [max(1, min(longest, round(usual * each))) for each in scale.sides]
    rgb = np.asarray(picture)
    found = []
    for each in dict.fromkeys(sides):
        data = fit_quality(code, most_bytes, each, scale, scale.tries if side is None else 2 * scale.tries)
        if data is not None:
            found.append(FittedPicture(data, picture_fidelity(decode(data), rgb)))
    smaller = min(min(sides), longest)
    while not found:
        if len(data := code(smaller, 0)) <= most_bytes:
            found.append(FittedPicture(data, picture_fidelity(decode(data), rgb)))
        elif smaller == 1:
            raise LimitError(f"one pixel takes {len(data)} bytes, above {most_bytes}")
        smaller = max(1, smaller // 2)
    return max(found, key=lambda each: each.fidelity)


def map_fidelity(edges: EdgeMap, rgb: NDArray[np.uint8]) -> float:
    """The F measure of a prompt's edge map, drawn at the image's size, against the image's full map; 0 if it is empty.

    The full map is the paper's, without contours below ``LONG`` pixels (unless all are shorter). Images with a shorter
    side above ``FULL_SIDE`` are first reduced to it. A larger edge map is reduced as well: a pixel is an edge if one of
    the pixels that it covers is.
    """
    wanted = _wanted(rgb)
    return _score(edges, wanted)


def picture_fidelity(shown: NDArray[np.uint8], rgb: NDArray[np.uint8]) -> float:
    """SSIM of a picture, uint8 RGB, against the image (H, W, 3), both at a longer side of ``SEEN_SIDE`` pixels."""
    height, width = rgb.shape[:2]
    scale = min(1.0, SEEN_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = cv2.INTER_CUBIC if shown.shape[1] < size[0] else cv2.INTER_AREA
    seen = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return ssim(np.asarray(cv2.resize(shown, size, interpolation=how), np.uint8), np.asarray(seen, np.uint8))


def _wanted(rgb: NDArray[np.uint8]) -> EdgeMap:
    full = Contours.of(edge_map(reduced_image(rgb, FULL_SIDE)))
    long = full.at_least(LONG)
    return long if long.any() else full.edges


def _score(edges: EdgeMap, wanted: EdgeMap) -> float:
    if not edges.any():
        return 0.0
    height, width = wanted.shape
    if edges.shape[0] > height or edges.shape[1] > width:
        covered = cv2.resize(edges.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        return edge_score(np.asarray(covered > 0), wanted).f
    return edge_score(enlarged(edges, wanted.shape), wanted).f
