"""Reduced images as lossy WebP files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from escort_cil.memory.kinds.base import ExemplarKind, parsed
from escort_codec.encode.copies import WebPCopy
from escort_codec.exemplar import Exemplar
from escort_codec.source import SourceImage

if TYPE_CHECKING:
    from PIL import Image

    from escort_cil.memory.prompts import Prompts


@dataclass(frozen=True, slots=True)
class WebP(ExemplarKind):
    """A WebP file, as ``copy`` says."""

    copy: WebPCopy

    name = "webp"
    stored = "real"
    is_copy = True

    @classmethod
    def parse(cls, options: str) -> Self:
        """``SIDE``, ``SIDE:QUALITY``, ``BYTES`` or ``SIDE:BYTES``, bytes with a B behind them."""
        return cls(parsed(WebPCopy, options))

    def __str__(self) -> str:
        return str(self.copy)

    def make(self, image: SourceImage, picture: Image.Image | None, prompts: Prompts) -> Exemplar:
        """A real exemplar that holds the reduced picture."""
        return self.copy.make(image, picture)
