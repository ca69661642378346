"""A contact sheet: rows of pictures side by side, with titles, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

_GAP: Final = 8
_PAPER: Final = (250, 250, 248)
_INK: Final = (40, 40, 40)


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One row: its label and its pictures, each uint8 (H, W, 3), or bool or uint8 (H, W)."""

    label: str
    pictures: Sequence[NDArray[np.uint8] | NDArray[np.bool_]]


def contact_sheet(rows: Sequence[SheetRow], titles: Sequence[str], *, cell: int = 192) -> Image.Image:
    """The sheet as an RGB image: every picture fitted into ``cell`` x ``cell`` pixels, its aspect ratio kept.

    ``titles`` head the columns; a row may have fewer pictures than there are titles.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(14)
    left = _GAP + max((int(font.getlength(_ascii(row.label))) for row in rows), default=0) + _GAP
    top = 2 * _GAP + 14
    width = left + len(titles) * (cell + _GAP)
    height = top + len(rows) * (cell + _GAP)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        x = left + column * (cell + _GAP) + cell // 2
        draw.text((x, top // 2), _ascii(title), _INK, font, anchor="mm")
    for number, row in enumerate(rows):
        y = top + number * (cell + _GAP)
        draw.text((left - _GAP, y + cell // 2), _ascii(row.label), _INK, font, anchor="rm")
        for column, picture in enumerate(row.pictures):
            image = _as_image(picture)
            # Enlarging with hard pixels shows small pictures as they are.
            scale = min(cell / image.width, cell / image.height)
            how = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
            fitted = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), how)
            x = left + column * (cell + _GAP)
            sheet.paste(fitted, (x + (cell - fitted.width) // 2, y + (cell - fitted.height) // 2))
    return sheet


def _as_image(picture: NDArray[np.uint8] | NDArray[np.bool_]) -> Image.Image:
    from PIL import Image

    if picture.dtype == np.bool_:  # edges dark on light, as a drawing
        picture = np.where(picture, 0, 255).astype(np.uint8)
    return Image.fromarray(picture).convert("RGB")


def _ascii(text: str) -> str:
    """Pillow's own font has Latin letters only."""
    return text if text.isascii() else text.encode("ascii", "replace").decode()
