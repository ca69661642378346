"""Decodes image files, bytes and arrays to pictures, and resizes pictures to squares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from escort_codec.errors import ImageError
from escort_codec.exemplar import Exemplar
from escort_codec.latent.picture import decode_latent
from escort_codec.recipe import WHITE, Colour
from escort_codec.source import load_image, read_file
from escort_codec.workers import DECODED, single_threaded_opencv, usable_cores

Source: TypeAlias = Path | bytes | NDArray[np.uint8]
"""An image file, an image file's bytes, or RGB uint8 (H, W, 3)."""


class LearnedPicture(bytes):
    """The bytes of a learned picture, to tell them from those of an image file."""


def stored_source(exemplar: Exemplar) -> bytes:
    """The source to decode of an exemplar that is not regenerated: its image file or its learned picture."""
    return LearnedPicture(exemplar.payload) if exemplar.kind == "latent" else exemplar.image


T = TypeVar("T")

LONGEST: Final = 16  # ratio of the sides above which a picture is cropped before it is resized


@dataclass(frozen=True, slots=True)
class Square:
    """How a picture becomes a square of ``side`` pixels.

    ``short_side`` None squashes the whole picture into the square; a number resizes the shorter side to it (as
    torchvision's ``Resize``, Pillow's antialiased bilinear filter) and keeps the centre square.
    """

    side: int
    short_side: int | None = None

    def __post_init__(self) -> None:
        if self.side < 1:
            raise ValueError(f"side is {self.side}; it must be at least 1 pixel")
        if self.short_side is not None and self.short_side < self.side:
            raise ValueError(
                f"short_side is {self.short_side}; a centre crop of {self.side} pixels needs at least that"
            )

    def of(self, picture: Image.Image) -> tuple[NDArray[np.uint8], float]:
        """The square, planar uint8 (3, side, side), and the aspect ratio w/h of what it shows."""
        width, height = picture.size
        if self.short_side is None:
            return _planar(_resized(picture, (self.side, self.side))), width / height
        short = min(width, height)
        size = (self.short_side * width // short, self.short_side * height // short)
        if max(size) > LONGEST * self.short_side:  # a strip: the resized picture would take gigabytes
            return self.strip(picture), 1.0
        left, top = (round((extent - self.side) / 2) for extent in size)
        pixels = np.asarray(_resized(picture, size))[top : top + self.side, left : left + self.side]
        return _planar(pixels), 1.0

    def strip(self, picture: Image.Image) -> NDArray[np.uint8]:
        """The centre square of a long picture: cropped first, then resized."""
        assert self.short_side is not None
        half = min(picture.size) * self.side / self.short_side / 2
        x, y = picture.width / 2, picture.height / 2
        box = (x - half, y - half, x + half, y + half)
        return _planar(picture.resize((self.side, self.side), Image.Resampling.BILINEAR, box))


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BILINEAR)


def _planar(pixels: Image.Image | NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.asarray(pixels).transpose(2, 0, 1))


def decode_all(
    sources: Sequence[Source],
    derive: Callable[[int, Image.Image], T],
    *,
    names: Sequence[str] | None = None,
    workers: int | None = None,
    read: Callable[[int, bytes], None] = lambda i, data: None,
    background: Colour = WHITE,
) -> list[T]:
    """Decodes images in ``workers`` threads (None: one per core); returns what ``derive`` makes of each.

    ``derive`` gets the index of a source and its picture (Pillow, mode RGB), in one of these threads; ``read`` gets the
    bytes of a file. ``background`` is the colour under transparent pixels. ``names`` are for messages about images that
    are not files. If an image is bad, raises the ImageError of the first one when all threads have ended; what
    ``derive`` raises is raised as well. The pixels
    that all threads hold at once are bounded in bytes.
    """

    def work(i: int) -> T:
        source = sources[i]
        name = names[i] if names else f"image {i} of {len(sources)}"
        if isinstance(source, Path):
            name, source = str(source), read_file(source)
            read(i, source)
        if isinstance(source, LearnedPicture):
            source = decode_latent(source)
        if not isinstance(source, bytes):
            return derive(i, _picture(source, name))
        with DECODED.holding() as reserve:
            return derive(i, load_image(source, name=name, background=background, reserve=reserve))

    with (
        single_threaded_opencv(),
        ThreadPoolExecutor(workers or usable_cores(), thread_name_prefix="decode") as pool,
    ):
        tasks = [pool.submit(work, i) for i in range(len(sources))]
        try:
            return [task.result() for task in tasks]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _picture(rgb: NDArray[np.uint8], name: str) -> Image.Image:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
        raise ImageError(f"{name}: an image is uint8 (H, W, 3), this is {rgb.dtype} {rgb.shape}")
    return Image.fromarray(rgb)
