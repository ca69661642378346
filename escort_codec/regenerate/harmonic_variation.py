"""What a seed varies in the harmonic regenerator's images: light, colour, grain of the hint, and a smooth warp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from escort_codec.coding import EdgeMap
from escort_codec.hint import thumbnail_shape
from escort_codec.regenerate.base import RGBImage

Number = TypeVar("Number", np.uint8, np.float32)

MODES: Final = 4  # cosine modes per direction: the constant and three waves
WARP: Final = 0.012  # root mean square displacement, as a part of the image's longer side
LIGHT: Final = 8.0  # root mean square of the light's changes over the picture, in grey levels
GRAIN: Final = (1.5, 0.75, 0.75)  # standard deviation of the hint's grain: luma and the two chromas, in grey levels
STRIP: Final = 1 << 20  # pixels warped at once; limits the memory of the maps
REMAP_SIDE: Final = 32_000  # cv2.remap's coordinates are 16 bit

TO_YCC: Final = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)  # JFIF


@dataclass(frozen=True, slots=True)
class Variation:
    """The variation of one seed. Luma and chroma in grey levels (0..255), ``hue`` in radians."""

    luma_gain: float
    luma_offset: float
    chroma_gain: float
    chroma_offset: tuple[float, float]
    hue: float
    warp: NDArray[np.float32]
    """Amplitudes (2, MODES, MODES) of the displacement in y and x, as parts of the longer side."""
    light: NDArray[np.float32]
    """Amplitudes (MODES, MODES) of the change of luma over the picture."""
    generator: np.random.Generator
    """Draws the hint's grain; used once."""

    @classmethod
    def of(cls, seed: int) -> Variation:
        """The variation of a seed (at least 0); it depends on the seed alone."""
        generator = np.random.Generator(np.random.PCG64(seed))
        gain, saturation = generator.uniform(0.85, 1.15), generator.uniform(0.7, 1.35)
        offset, blue, red = generator.normal(0, (10, 4, 4))
        hue = generator.uniform(0, 2 * np.pi)
        moved, light = WARP * _waves(generator, 2), LIGHT * _waves(generator, 1)[0]
        return cls(gain, offset, saturation, (blue, red), hue, moved, light, generator)

    def recolour(self, hint: RGBImage, *, plain: bool) -> NDArray[np.float32]:
        """The hint, uint8 RGB (h, w, 3), in this seed's light and colours: float32 luma, Cb, Cr, in grey levels.

        ``plain``: the hint is ``plain_hint``'s shading, and takes a colour from the seed's hue.
        """
        ycc: NDArray[np.float32] = np.einsum("yxc,kc->yxk", hint.astype(np.float32), TO_YCC)
        ycc[:, :, 0] = 128 + self.luma_gain * (ycc[:, :, 0] - 128) + self.luma_offset
        ycc[:, :, 1:] = self.chroma_gain * ycc[:, :, 1:] + np.array(self.chroma_offset, np.float32)
        if plain:
            ycc[:, :, 1:] += np.array([32 * np.sin(self.hue), 32 * np.cos(self.hue)], np.float32)
        rows, columns = (_modes(length, length)[0] for length in ycc.shape[:2])
        ycc[:, :, 0] += _field(rows, self.light, columns)
        ycc += self.generator.standard_normal(ycc.shape, np.float32) * np.array(GRAIN, np.float32)
        return ycc


def plain_hint(edges: EdgeMap) -> RGBImage:
    """A substitute for a missing hint: grey, darker where edges are dense; uint8 RGB, longer side 32."""
    height, width = thumbnail_shape((edges.shape[0], edges.shape[1]), 32)
    density = cv2.resize(edges.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    shade = (205 - 150 * np.sqrt(cv2.GaussianBlur(density, (3, 3), 0))).astype(np.uint8)
    return np.repeat(shade[:, :, None], 3, axis=2)


def warp(pixels: RGBImage, size: tuple[int, int], variation: Variation) -> RGBImage:
    """``pixels`` (H, W, 3) at ``size`` and displaced: uint8 RGB (*size, 3). Sides above 32,000 are only resized."""
    height, width = size
    if height < pixels.shape[0] or width < pixels.shape[1]:
        pixels = resized(pixels, size, cv2.INTER_AREA)
    if max(*size, *pixels.shape) > REMAP_SIDE:
        return resized(pixels, size, cv2.INTER_CUBIC)
    longer = max(pixels.shape)
    columns, x = _modes(width, pixels.shape[1])
    out: RGBImage = np.empty((height, width, 3), np.uint8)
    rows = max(1, STRIP // width)
    all_rows, all_y = _modes(height, pixels.shape[0])
    for top in range(0, height, rows):
        strip, y = all_rows[top : top + rows], all_y[top : top + rows]
        moved = [_field(strip, longer * waves, columns) for waves in variation.warp]
        # A single row or column is not displaced.
        map_y = y[:, None] + (moved[0] if height > 1 else 0 * moved[0])
        map_x = x[None, :] + (moved[1] if width > 1 else 0 * moved[1])
        out[top : top + rows] = cv2.remap(pixels, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return out


def resized(image: NDArray[Number], shape: tuple[int, int], how: int) -> NDArray[Number]:
    """An image (h, w, C) at ``shape``, C-contiguous; ``how`` is OpenCV's interpolation."""
    if image.shape[:2] == shape:
        return np.ascontiguousarray(image)
    return cast("NDArray[Number]", cv2.resize(image, (shape[1], shape[0]), interpolation=how))


def _waves(generator: np.random.Generator, fields: int) -> NDArray[np.float32]:
    """Random amplitudes (fields, MODES, MODES) of cosine modes, without the constant, smaller for shorter waves; the
    sum of all fields' mean squares is 1."""
    order = np.add.outer(np.arange(MODES), np.arange(MODES))
    waves = generator.normal(0, 1, (fields, MODES, MODES)) * (order > 0) / np.maximum(order, 1)
    half = np.where(np.arange(MODES) > 0, 0.5, 1.0)  # a cosine's mean square
    scaled: NDArray[np.float32] = (waves / np.sqrt(np.sum(waves**2 * np.outer(half, half)))).astype(np.float32)
    return scaled


def _field(rows: NDArray[np.float32], waves: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """rows @ waves @ columns.T in a fixed order of summation: a BLAS may change it with the number of threads."""
    factors = np.einsum("ym,mn->ny", rows, waves)
    field: NDArray[np.float32] = factors[0][:, None] * columns[:, 0]
    for factor, column in zip(factors[1:], columns.T[1:], strict=True):
        field += factor[:, None] * column
    return field


def _modes(length: int, source: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The cosine modes (length, MODES) at the pixels' centres, and the centres in the source's pixels (length,)."""
    centre = (np.arange(length) + 0.5) / length
    waves = np.cos(np.pi * np.outer(centre, np.arange(MODES)))
    return waves.astype(np.float32), (centre * source - 0.5).astype(np.float32)
