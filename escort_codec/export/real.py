"""Real exemplars as files: only images of a known format that match what the exemplar declares.

The file is not trusted, and a real exemplar is bytes that are written to the disk. So its extension
follows from its bytes, never from its name, and bytes that are not an image are not written at all.
"""

from __future__ import annotations

import io
import re
from typing import Final

from escort_codec.errors import EscortError
from escort_codec.exemplar import Exemplar
from escort_codec.names import SUFFIXES
from escort_codec.source import image_size
from escort_codec.words import listed

_SIGNATURES: Final = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("WEBP", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("BMP", re.compile(rb"BM")),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]")),
    ("AVIF", re.compile(rb"....ftyp(avi[fs]|mif1|msf1)", re.DOTALL)),
    ("JPEG2000", re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51")),
    ("PPM", re.compile(rb"P([1-6]|[fF]\s)")),
)
"""How a file of each format begins (spec section "Image files")."""


def suffixes_of(exemplar: Exemplar) -> tuple[str, ...]:
    """The extensions that a real exemplar's file may have, the usual one first; found by its first bytes.

    Raises EscortError if they are not those of an image.
    """
    for name, signature in _SIGNATURES:
        if signature.match(exemplar.image[:16]):
            return SUFFIXES[name]
    raise EscortError(f"{exemplar.key}: is not an image of a known format ({listed(list(SUFFIXES), 9)})")


def check_real(exemplar: Exemplar) -> None:
    """Raises EscortError unless a real exemplar is an image of its declared size, in the format of its signature.

    Only the head of the image is read, so that no image larger than declared is decoded.
    """
    from PIL import Image

    suffixes = suffixes_of(exemplar)
    height, width = image_size(exemplar.image, name=exemplar.key)
    with Image.open(io.BytesIO(exemplar.image), formats=tuple(SUFFIXES)) as image:
        found = SUFFIXES["JPEG" if image.format == "MPO" else str(image.format)]
    if found != suffixes:
        raise EscortError(f"{exemplar.key}: begins like a {suffixes[0]} file, but is a {found[0]} file")
    if (height, width) != exemplar.size:
        declared = f"{exemplar.size[1]} x {exemplar.size[0]}"
        raise EscortError(f"{exemplar.key}: declares {declared} pixels, but its file has {width} x {height}")
