"""Reduced images as lossy WebP files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from escort_cil.memory.kinds.base import ExemplarKind, parsed
from escort_codec.copies import WebPCopy
from escort_codec.exemplar import Exemplar
from escort_codec.source import SourceImage

if TYPE_CHECKING:
    from PIL import Image

    from escort_cil.memory.prompts import Prompts


@dataclass(frozen=True, slots=True)
class WebP(ExemplarKind):
    """A WebP file whose longer side is at most ``side`` pixels; ``quality`` is WebP's, 0 to 100."""

    side: int
    quality: int = 20

    name = "webp"
    stored = "real"
    is_copy = True

    @classmethod
    def parse(cls, options: str) -> Self:
        """``SIDE`` or ``SIDE:QUALITY``."""
        copy = parsed(WebPCopy, options)
        return cls(copy.side, copy.quality)

    def __str__(self) -> str:
        return str(self._copy)

    @property
    def _copy(self) -> WebPCopy:
        return WebPCopy(self.side, self.quality)

    def make(self, image: SourceImage, picture: Image.Image | None, prompts: Prompts) -> Exemplar:
        """A real exemplar that holds the reduced picture."""
        return self._copy.make(image, picture)

    def reduced(self, picture: Image.Image) -> bytes:
        """A picture (Pillow, mode RGB) as the WebP file."""
        return self._copy.reduced(picture)
