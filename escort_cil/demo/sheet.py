"""A contact sheet: rows of pictures under columns' heads, with a caption below each picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image, ImageFont

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

Pixels = NDArray[np.uint8] | NDArray[np.bool_]
Colour = tuple[int, int, int, int]

_GAP: Final = 8
_LEADING: Final = 4
"""Pixels between a text and what follows below it."""
_LABEL: Final = 0.75
"""The longest row label, in cells; a longer one is cut."""


@dataclass(frozen=True, slots=True)
class SheetCell:
    """A picture, uint8 (H, W, 3), or an edge map, bool (H, W), and the line below it."""

    picture: Pixels
    caption: str = ""


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One row: its label and its cells."""

    label: str
    cells: Sequence[SheetCell]


@dataclass(frozen=True, slots=True)
class SheetStyle:
    """The sheet's look: ``cell`` is a cell's longer side and ``text`` the letters' height in pixels; colours are RGBA,
    0 to 255."""

    cell: int = 160
    text: int = 13
    paper: Colour = (250, 250, 248, 255)
    ink: Colour = (40, 40, 40, 255)
    faint: Colour = (105, 105, 105, 255)


def contact_sheet(
    rows: Sequence[SheetRow], titles: Sequence[tuple[str, str]], style: SheetStyle = SheetStyle()
) -> Image.Image:
    """The sheet, mode RGBA: every picture scaled to fit its cell, with its aspect ratio.

    ``titles`` are the columns' heads, in two lines each. A row may have fewer cells, and is as high as its highest
    picture. The same input gives the same pixels under the same Pillow.
    """
    from PIL import Image, ImageDraw, ImageFont

    font, small = ImageFont.load_default(style.text), ImageFont.load_default(style.text - 1)
    labels = [_shortened(row.label, font, _LABEL * style.cell) for row in rows]
    left = max((round(font.getlength(label)) for label in labels), default=0) + 2 * _GAP
    line = style.text + _LEADING
    pictures = [[fitted(cell.picture, style.cell) for cell in row.cells] for row in rows]
    heights = [max((picture.height for picture in row), default=0) for row in pictures]
    step, top = style.cell + _GAP, 2 * line + 2 * _GAP
    height = top + sum(heights) + len(rows) * (line + _GAP + _LEADING)
    sheet = Image.new("RGBA", (left + len(titles) * step, height), style.paper)
    draw = ImageDraw.Draw(sheet)
    for column, (head, below) in enumerate(titles):
        middle = left + column * step + style.cell // 2
        draw.text((middle, _GAP + line // 2), _latin(head), style.ink, font, anchor="mm")
        draw.text((middle, _GAP + line + line // 2), _latin(below), style.faint, small, anchor="mm")
    y = top
    for label, row, images, tall in zip(labels, rows, pictures, heights, strict=True):
        draw.text((left - _GAP, y + tall // 2), label, style.ink, font, anchor="rm")
        for column, (cell, image) in enumerate(zip(row.cells, images, strict=True)):
            x = left + column * step
            sheet.paste(image, (x + (style.cell - image.width) // 2, y + (tall - image.height) // 2))
            at = x + style.cell // 2, y + tall + _LEADING + line // 2
            draw.text(at, _latin(cell.caption), style.faint, small, anchor="mm")
        y += tall + line + _GAP + _LEADING
    return sheet


def fitted(picture: Pixels, side: int) -> Image.Image:
    """A picture scaled so that its longer side is ``side``, mode RGB; edges are dark on light.

    A picture is enlarged smoothly, as a network sees it; an edge map keeps its pixels, and its lines stay dark where it
    is reduced.
    """
    from PIL import Image

    is_map = picture.dtype == np.bool_
    if is_map:
        picture = _drawn(picture, side)
    image = Image.fromarray(picture).convert("RGB")
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    how = Image.Resampling.NEAREST if is_map and scale >= 2 else Image.Resampling.LANCZOS
    return image.resize(size, how)


def _drawn(edges: NDArray[np.uint8] | NDArray[np.bool_], side: int) -> NDArray[np.uint8]:
    """An edge map as dark lines, uint8 (H, W), reduced by a whole factor to about ``side`` if it is longer.

    A line that crosses a block is as dark as before: its share of the block is one in ``factor``.
    """
    factor = max(1, round(max(edges.shape) / side))
    padded = np.pad(edges, [(0, -length % factor) for length in edges.shape], mode="edge")
    height, width = (length // factor for length in padded.shape)
    share = padded.reshape(height, factor, width, factor).mean(axis=(1, 3))
    drawn: NDArray[np.uint8] = np.round(255 * (1 - np.minimum(1, factor * share))).astype(np.uint8)
    return drawn


def _shortened(label: str, font: Font, most: float) -> str:
    """The label, cut so that it is at most ``most`` pixels wide."""
    label = _latin(label)
    if font.getlength(label) <= most:
        return label
    while len(label) > 1 and font.getlength(f"{label}...") > most:
        label = label[:-1]
    return f"{label}..."


def _latin(text: str) -> str:
    """``text`` with the letters of Pillow's own font, which is Latin only."""
    return text if text.isascii() else text.encode("ascii", "replace").decode()
