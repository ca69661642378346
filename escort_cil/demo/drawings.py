"""A small labelled data set of drawn pictures, for the demo, the tests and the documentation.

Twelve kinds of objects (``shapes``) in varying pose, size, colour and light, on cluttered backgrounds, as JPEG files of
varying size.
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from escort_cil.demo.shapes import SHAPES, Canvas, Rng, bright, near
from escort_codec.errors import OutputError, UsageError

SUPERSAMPLING: Final = 3
QUALITY: Final = 90


def draw_dataset(
    folder: str | Path, *, classes: int = 10, train: int = 24, test: int = 12, size: int = 128, seed: int = 0
) -> list[str]:
    """Draws ``folder/train/<class>/000.jpg`` ... and ``folder/test/<class>/000.jpg`` ...; returns the class names.

    ``classes`` is 1 to 12, ``train`` and ``test`` are pictures per class, ``size`` is the longest side in pixels (at
    least 16; each picture is a little smaller). A picture depends on its split, class, number, size and seed alone.
    Raises UsageError for numbers out of range and OutputError if a file cannot be written.
    """
    if not 1 <= classes <= len(SHAPES):
        raise UsageError(f"give 1 to {len(SHAPES)}", setting="classes", value=classes)
    if train < 0 or test < 0 or size < 16 or seed < 0:
        raise UsageError("`train`, `test` and `seed` must be at least 0, and `size` at least 16")
    names = list(SHAPES)[:classes]
    for split, count in (("train", train), ("test", test)):
        for name in names:
            target = Path(folder) / split / name
            try:
                target.mkdir(parents=True, exist_ok=True)
                for number in range(count):
                    data = _jpeg(draw_picture(name, split, number, size=size, seed=seed))
                    (target / f"{number:03d}.jpg").write_bytes(data)
            except OSError as exc:
                raise OutputError(f"{target}: cannot be written ({exc.strerror or exc})") from exc
    return names


def draw_picture(name: str, split: str, number: int, *, size: int = 128, seed: int = 0) -> NDArray[np.uint8]:
    """One picture of the class ``name``: uint8 RGB (H, W, 3), the longer side between 0.8 and 1 times ``size``."""
    rng = np.random.Generator(np.random.PCG64([seed, number, *(zlib.crc32(text.encode()) for text in (name, split))]))
    longer = round(size * rng.uniform(0.8, 1))
    shorter = round(longer * rng.uniform(0.75, 1))
    height, width = (longer, shorter) if rng.uniform() < 0.5 else (shorter, longer)
    background = _background(rng, height, width)
    rows, columns = SUPERSAMPLING * height, SUPERSAMPLING * width
    canvas = Canvas(rows, columns, _pose(rng, rows, columns))
    SHAPES[name](canvas, rng)
    # Black outside the object, so that a pixel's mean is already weighted by the object's cover.
    thing = cv2.resize(canvas.rgb, (width, height), interpolation=cv2.INTER_AREA) * _light(rng, height, width, 0.3)
    cover = cv2.resize(canvas.mask, (width, height), interpolation=cv2.INTER_AREA)
    free = 1 - cover[:, :, None].astype(np.float32) / 255
    picture = thing + free * background * _shadow(rng, cover)
    noisy = picture + rng.normal(0, rng.uniform(1, 4), picture.shape)
    drawn: NDArray[np.uint8] = np.clip(noisy + 0.5, 0, 255).astype(np.uint8)
    return drawn


def _pose(rng: Rng, rows: int, columns: int) -> NDArray[np.float64]:
    """The affine map (2, 3) from unit coordinates to pixels: scale, rotation, shear, mirroring, place."""
    scale = min(rows, columns) / 2 * rng.uniform(0.6, 0.95)
    turn, shear = rng.normal(0, 0.2), rng.normal(0, 0.08)
    stretch = rng.uniform(0.88, 1.12) * (1 if rng.uniform() < 0.5 else -1)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = scale * rotation @ np.array([[stretch, shear], [0, 1]])
    room = np.maximum(0, np.array([columns, rows]) / 2 - 0.9 * scale)
    centre = np.array([columns, rows]) / 2 + room * rng.uniform(-0.9, 0.9, 2)
    return np.concatenate([linear, centre[:, None]], axis=1)


def _background(rng: Rng, rows: int, columns: int) -> NDArray[np.float32]:
    """Sky and ground, or a wall, with a texture and clutter. float32 (rows, columns, 3)."""
    upper, lower = (np.array(near(rng, rng.uniform(), 0), float) * rng.uniform(0.6, 1.1) for _ in range(2))
    upper, lower = (0.55 * colour + 0.45 * colour.mean() + 25 for colour in (upper, lower))
    y = np.linspace(0, 1, rows)[:, None, None]
    sharp = 40.0 if rng.uniform() < 0.5 else 3.0  # a horizon, or a gradual change
    blend = 1 / (1 + np.exp(-sharp * (y - rng.uniform(0.4, 0.75))))
    plain = np.broadcast_to(upper * (1 - blend) + lower * blend, (rows, columns, 3)).astype(np.uint8).copy()
    for _ in range(int(rng.integers(4, 10))):
        colour = np.array(bright(rng)) * 0.5 + 0.5 * plain.mean(axis=(0, 1))
        x, y0 = rng.uniform(0, columns), rng.uniform(0, rows)
        reach = rng.uniform(0.04, 0.2) * min(rows, columns)
        corners = (rng.normal(0, reach, (int(rng.integers(3, 7)), 2)) + np.array([x, y0])).astype(np.int32)
        if rng.uniform() < 0.5:
            cv2.fillConvexPoly(plain, cv2.convexHull(corners), colour.tolist())
        else:
            cv2.polylines(plain, [corners], False, colour.tolist(), max(1, int(reach / 8)))
    coarse = rng.normal(0, rng.uniform(4, 14), (int(rng.integers(6, 24)), int(rng.integers(6, 24)), 1))
    texture = cv2.resize(coarse.astype(np.float32), (columns, rows), interpolation=cv2.INTER_CUBIC)
    textured: NDArray[np.float32] = (plain + texture[:, :, None]) * _light(rng, rows, columns, 0.2)
    return textured


def _light(rng: Rng, rows: int, columns: int, strength: float) -> NDArray[np.float32]:
    """A factor that changes linearly over the picture: float32 (rows, columns, 1)."""
    turn = rng.uniform(0, 2 * np.pi)
    y, x = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)
    factor: NDArray[np.float32] = (1 + strength * (np.cos(turn) * x + np.sin(turn) * y)).astype(np.float32)
    return factor[:, :, None]


def _shadow(rng: Rng, cover: NDArray[Any]) -> NDArray[np.float32]:
    """A soft, shifted shadow of the object: float32 (rows, columns, 1); 1 is no shadow."""
    reach = 0.05 * min(cover.shape)
    shift = np.array([[1, 0, rng.uniform(-1, 1) * reach], [0, 1, rng.uniform(0, 1) * reach]])
    moved = cv2.warpAffine(cover, shift, (cover.shape[1], cover.shape[0]))
    soft = cv2.GaussianBlur(moved.astype(np.float32) / 255, (0, 0), reach / 2)
    factor: NDArray[np.float32] = (1 - rng.uniform(0.1, 0.45) * soft).astype(np.float32)
    return factor[:, :, None]


def _jpeg(rgb: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
