"""The objects of ``drawings``: a canvas in unit coordinates, and one function per kind.

An object lies in [-1, 1] x [-1, 1], y downwards. Each function varies proportions, parts and colours. All kinds use the
same colours, so only shape and texture tell them apart.
"""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Callable, Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
Points = NDArray[np.float64]
Rng = np.random.Generator

DARK: Final[Colour] = (35, 32, 38)
WHITE: Final[Colour] = (240, 238, 230)


class Canvas:
    """Draws into ``rgb`` and ``mask`` (uint8 (H, W, 3) and (H, W)) through a 2 x 3 affine map of unit coordinates."""

    def __init__(self, height: int, width: int, affine: NDArray[np.float64]) -> None:
        self.rgb = np.zeros((height, width, 3), np.uint8)
        self.mask = np.zeros((height, width), np.uint8)
        self._affine = affine

    def polygon(self, points: Sequence[tuple[float, float]] | Points, colour: Colour) -> None:
        """A filled polygon."""
        corners = np.asarray(points, float) @ self._affine[:, :2].T + self._affine[:, 2]
        pixels = [np.round(corners).astype(np.int32)]
        cv2.fillPoly(self.rgb, pixels, colour)
        cv2.fillPoly(self.mask, pixels, (255,))

    def ellipse(
        self, x: float, y: float, a: float, b: float, colour: Colour, turn: float = 0, start: float = 0, end: float = 1
    ) -> None:
        """A filled ellipse of half axes a, b, turned by ``turn`` radians; a sector from ``start`` to ``end`` turns."""
        t = 2 * np.pi * np.linspace(start, end, 40)
        u, v = a * np.cos(t), b * np.sin(t)
        self.polygon(
            np.stack([x + u * np.cos(turn) - v * np.sin(turn), y + u * np.sin(turn) + v * np.cos(turn)], 1), colour
        )

    def line(self, points: Sequence[tuple[float, float]] | Points, width: float, colour: Colour) -> None:
        """A line through points, with round ends."""
        path = np.asarray(points, float)
        for (x0, y0), (x1, y1) in itertools.pairwise(path):
            length = max(1e-9, float(np.hypot(x1 - x0, y1 - y0)))
            dx, dy = (y0 - y1) / length * width / 2, (x1 - x0) / length * width / 2
            self.polygon([(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)], colour)
        for x, y in path:
            self.ellipse(float(x), float(y), width / 2, width / 2, colour)


def bright(rng: Rng) -> Colour:
    """Any strong colour."""
    return _hsv(rng.uniform(), rng.uniform(0.6, 0.95), rng.uniform(0.65, 0.98))


def near(rng: Rng, hue: float, spread: float = 0.04) -> Colour:
    """A colour about ``hue`` (0..1: red, yellow, green, blue, back to red)."""
    return _hsv(hue + rng.uniform(-spread, spread), rng.uniform(0.45, 0.9), rng.uniform(0.4, 0.85))


def scaled(colour: Colour, factor: float) -> Colour:
    """Lighter or darker."""
    r, g, b = (int(min(255, c * factor)) for c in colour)
    return r, g, b


def _hsv(h: float, s: float, v: float) -> Colour:
    r, g, b = colorsys.hsv_to_rgb(h % 1, s, v)
    return int(255 * r), int(255 * g), int(255 * b)


def balloon(c: Canvas, rng: Rng) -> None:
    """A balloon with a string and a highlight."""
    colour, tall = bright(rng), rng.uniform(0.6, 0.75)
    sway = rng.uniform(-0.3, 0.3)
    t = np.linspace(0, 1, 12)
    c.line(np.stack([sway * np.sin(4 * t) * t, 0.4 + 0.6 * t], 1), 0.03, DARK)
    c.ellipse(0, -0.3, rng.uniform(0.48, 0.6), tall, colour)
    c.polygon([(0, tall - 0.34), (-0.1, tall - 0.18), (0.1, tall - 0.18)], scaled(colour, 0.8))
    c.ellipse(-0.2, -0.55, 0.09, 0.2, scaled(colour, 1.5), 0.5)


def butterfly(c: Canvas, rng: Rng) -> None:
    """Four spotted wings, mirrored."""
    upper, lower, spots = bright(rng), bright(rng), DARK if rng.uniform() < 0.5 else WHITE
    wide, turn, size = rng.uniform(0.42, 0.55), rng.uniform(0.4, 0.8), rng.uniform(0.08, 0.14)
    for side in (-1, 1):
        c.ellipse(side * 0.42, -0.35, wide, 0.34, upper, -side * turn)
        c.ellipse(side * 0.34, 0.36, 0.36, 0.28, lower, side * turn)
        c.ellipse(side * 0.55, -0.42, size, size, spots)
        c.ellipse(side * 0.38, 0.4, size, size, spots)
        c.line([(0, -0.5), (side * 0.22, -0.9)], 0.03, DARK)
    c.ellipse(0, 0, 0.08, 0.6, DARK)


def cactus(c: Canvas, rng: Rng) -> None:
    """A ribbed trunk with one or two arms in a pot."""
    green, pot = near(rng, 0.36, 0.06), near(rng, 0.06)
    c.line([(0, 0.5), (0, -0.75)], 0.44, green)
    for side in (-1, 1):
        if side > 0 or rng.uniform() < 0.75:
            y, up = rng.uniform(-0.25, 0.25), rng.uniform(0.35, 0.6)
            c.line([(0, y), (side * 0.55, y), (side * 0.55, y - up)], 0.22, scaled(green, 0.9))
    for x in (-0.12, 0, 0.12):
        c.line([(x, 0.5), (x, -0.8)], 0.03, scaled(green, 0.6))
    c.polygon([(-0.42, 0.45), (0.42, 0.45), (0.32, 0.98), (-0.32, 0.98)], pot)
    c.polygon([(-0.48, 0.42), (0.48, 0.42), (0.48, 0.56), (-0.48, 0.56)], scaled(pot, 1.2))


def clock(c: Canvas, rng: Rng) -> None:
    """A round clock at any hour."""
    rim = bright(rng) if rng.uniform() < 0.6 else DARK
    c.ellipse(0, 0, 0.9, 0.9, rim)
    c.ellipse(0, 0, 0.74, 0.74, WHITE)
    for hour in range(12):
        s, k = np.sin(np.pi * hour / 6), np.cos(np.pi * hour / 6)
        inner = 0.54 if hour % 3 == 0 else 0.62
        c.line([(inner * s, inner * k), (0.68 * s, 0.68 * k)], 0.05, DARK)
    for length, width in ((0.4, 0.08), (0.58, 0.05)):
        turn = rng.uniform(0, 2 * np.pi)
        c.line([(0, 0), (length * np.sin(turn), length * np.cos(turn))], width, DARK)


def fish(c: Canvas, rng: Rng) -> None:
    """A striped fish."""
    colour, stripe = bright(rng), bright(rng)
    tall = rng.uniform(0.36, 0.5)
    c.polygon([(0.5, 0), (0.98, -0.42), (0.85, 0), (0.98, 0.42)], stripe)
    c.polygon([(-0.2, -tall + 0.1), (0.1, -tall - 0.28), (0.4, -tall + 0.2)], scaled(stripe, 0.9))
    c.ellipse(-0.1, 0, 0.75, tall, colour)
    for x in np.linspace(-0.3, 0.4, int(rng.integers(2, 5))):
        reach = tall * np.sqrt(max(0.0, 1 - ((x + 0.1) / 0.75) ** 2)) * 0.95
        c.line([(x, -reach), (x + 0.05, 0), (x, reach)], 0.08, stripe)
    c.ellipse(-0.58, -0.1, 0.09, 0.09, WHITE)
    c.ellipse(-0.6, -0.1, 0.05, 0.05, DARK)


def flower(c: Canvas, rng: Rng) -> None:
    """Petals about a centre on a stem with leaves."""
    petal, green = bright(rng), near(rng, 0.33)
    n, bend = int(rng.integers(5, 10)), rng.uniform(-0.2, 0.2)
    c.line([(0, -0.3), (bend, 0.4), (0, 1)], 0.07, green)
    c.ellipse(0.25, 0.6, 0.26, 0.09, green, -0.6)
    c.ellipse(-0.25, 0.7, 0.26, 0.09, green, 0.6)
    for k in range(n):
        t = 2 * np.pi * k / n
        c.ellipse(
            0.36 * np.cos(t), -0.38 + 0.36 * np.sin(t), 0.3, 0.9 / n, scaled(petal, 1 if k % 2 else 0.82), float(t)
        )
    c.ellipse(0, -0.38, 0.17, 0.17, near(rng, 0.12))


def house(c: Canvas, rng: Rng) -> None:
    """A brick house with windows, a door, a roof and a chimney."""
    wall, roof, door = bright(rng), near(rng, 0.02, 0.08), bright(rng)
    top = rng.uniform(-0.25, 0)
    c.polygon([(0.35, -0.85), (0.55, -0.85), (0.55, -0.2), (0.35, -0.2)], scaled(roof, 0.7))
    c.polygon([(-0.75, top), (0.75, top), (0.75, 0.9), (-0.75, 0.9)], wall)
    for row, y in enumerate(np.arange(top + 0.12, 0.9, 0.12)):
        c.line([(-0.74, y), (0.74, y)], 0.02, scaled(wall, 0.75))
        for x in np.arange(-0.7 + 0.15 * (row % 2), 0.7, 0.3):
            c.line([(x, y), (x, y + 0.1)], 0.02, scaled(wall, 0.75))
    c.polygon([(-0.92, top), (0, rng.uniform(-0.95, -0.7)), (0.92, top)], roof)
    c.polygon([(-0.14, 0.35), (0.14, 0.35), (0.14, 0.9), (-0.14, 0.9)], door)
    for x in (-0.45, 0.45):
        c.polygon([(x - 0.17, 0.12), (x + 0.17, 0.12), (x + 0.17, 0.45), (x - 0.17, 0.45)], WHITE)
        c.polygon([(x - 0.13, 0.16), (x + 0.13, 0.16), (x + 0.13, 0.41), (x - 0.13, 0.41)], (90, 130, 170))


def ladybird(c: Canvas, rng: Rng) -> None:
    """A spotted beetle with six legs."""
    colour = bright(rng)
    for side in (-1, 1):
        for y in (-0.3, 0.1, 0.45):
            c.line([(0, y), (side * 0.85, y + rng.uniform(-0.1, 0.15))], 0.06, DARK)
        c.line([(0, -0.7), (side * 0.3, -0.98)], 0.04, DARK)
    c.ellipse(0, -0.6, 0.32, 0.26, DARK)
    c.ellipse(0, 0.1, 0.62, 0.7, colour)
    c.line([(0, -0.58), (0, 0.78)], 0.05, DARK)
    for _ in range(int(rng.integers(2, 5))):
        x, y, r = rng.uniform(0.18, 0.4), rng.uniform(-0.3, 0.5), rng.uniform(0.08, 0.14)
        c.ellipse(x, y, r, r, DARK)
        c.ellipse(-x, y, r, r, DARK)


def mushroom(c: Canvas, rng: Rng) -> None:
    """A dotted cap on a pale stem."""
    cap, wide = bright(rng), rng.uniform(0.14, 0.24)
    c.polygon([(-wide, 0), (wide, 0), (wide + 0.08, 0.95), (-wide - 0.08, 0.95)], (225, 212, 186))
    c.line([(-wide - 0.06, 0.3), (wide + 0.06, 0.3)], 0.08, (196, 182, 155))
    c.ellipse(0, 0.1, 0.85, rng.uniform(0.7, 1.0), cap, 0, 0.5, 1)
    for _ in range(int(rng.integers(4, 8))):
        t, r = rng.uniform(0.58, 0.92), rng.uniform(0.2, 0.75)
        c.ellipse(0.8 * r * np.cos(2 * np.pi * t), 0.02 + 0.7 * r * np.sin(2 * np.pi * t), 0.09, 0.07, WHITE)


def sailboat(c: Canvas, rng: Rng) -> None:
    """A hull with two sails, one of them striped."""
    hull, sail, stripe = bright(rng), bright(rng), bright(rng)
    top = rng.uniform(-0.98, -0.8)
    c.line([(0, top), (0, 0.5)], 0.06, (110, 80, 50))
    c.polygon([(0.06, top + 0.05), (0.7, 0.35), (0.06, 0.35)], WHITE if rng.uniform() < 0.5 else sail)
    c.polygon([(-0.06, top + 0.2), (-0.55, 0.35), (-0.06, 0.35)], sail)
    for y in (-0.2, 0.1):
        reach = 0.5 * (y - top - 0.2) / (0.15 - top)
        c.line([(-0.08, y), (-max(0.1, reach), y)], 0.07, stripe)
    c.polygon([(-0.9, 0.45), (0.9, 0.45), (0.55, 0.92), (-0.6, 0.92)], hull)
    c.line([(-0.84, 0.53), (0.84, 0.53)], 0.05, WHITE)


def tree(c: Canvas, rng: Rng) -> None:
    """A fir of three or four tiers."""
    green = near(rng, 0.36, 0.1)
    tiers = int(rng.integers(3, 5))
    c.polygon([(-0.1, 0.6), (0.1, 0.6), (0.12, 1), (-0.12, 1)], near(rng, 0.07))
    for k in range(tiers):
        wide, y = 0.75 - 0.14 * k, 0.7 - 1.5 * k / tiers
        c.polygon([(-wide, y), (0, y - 0.75), (wide, y)], scaled(green, 0.8 + 0.13 * k))
        for x in np.linspace(-wide * 0.8, wide * 0.8, 5):
            c.ellipse(float(x), y, wide / 6, 0.05, scaled(green, 0.7 + 0.13 * k))


def umbrella(c: Canvas, rng: Rng) -> None:
    """A canopy of coloured panels with a hooked handle."""
    panels = (bright(rng), bright(rng))
    t = np.pi * np.linspace(0, 1, 12)
    c.line([(0, -0.7), (0, 0.75)], 0.06, DARK)
    c.line(np.stack([0.14 - 0.14 * np.cos(t), 0.75 + 0.16 * np.sin(t)], 1), 0.07, (110, 70, 40))
    n, tall = int(rng.integers(4, 8)), rng.uniform(0.75, 0.95)
    for k in range(n):
        c.polygon(_panel(k / n, (k + 1) / n, tall), panels[k % 2])
    for k in range(n):
        x = 0.9 * (2 * (k + 0.5) / n - 1)
        c.ellipse(x, 0.05, 0.9 / n, 0.1, scaled(panels[k % 2], 0.8), 0, 0.5, 1)
    c.line([(0, 0.05 - tall), (0, -0.05 - tall)], 0.05, DARK)


def _panel(start: float, end: float, tall: float) -> Points:
    """An umbrella's panel: from the tip along two ribs to the rim."""
    t = np.linspace(0, np.pi / 2, 12)
    left = np.stack([0.9 * (2 * start - 1) * np.sin(t), 0.05 - tall * np.cos(t)], 1)
    right = np.stack([0.9 * (2 * end - 1) * np.sin(t), 0.05 - tall * np.cos(t)], 1)
    return np.concatenate([left, right[::-1]])


SHAPES: Final[dict[str, Callable[[Canvas, Rng], None]]] = {
    shape.__name__: shape
    for shape in (balloon, butterfly, cactus, clock, fish, flower, house, ladybird, mushroom, sailboat, tree, umbrella)
}
