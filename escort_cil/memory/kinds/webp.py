"""Reduced images as lossy WebP files."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from escort_cil.memory.kinds.base import ExemplarKind
from escort_cil.memory.kinds.original import real_exemplar
from escort_codec.errors import ConfigError
from escort_codec.exemplar import Exemplar
from escort_codec.hint import thumbnail_shape
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
    MAX_SIDE: ClassVar[int] = 16383  # the format's

    @classmethod
    def parse(cls, options: str) -> Self:
        """``SIDE`` or ``SIDE:QUALITY``."""
        match = re.fullmatch(r"([0-9]{1,5})(?::([0-9]{1,3}))?", options)
        if not match or not 1 <= int(match[1]) <= cls.MAX_SIDE or int(match[2] or 0) > 100:
            raise ConfigError("write webp:SIDE or webp:SIDE:QUALITY, such as webp:64:20", setting="keep")
        return cls(int(match[1])) if match[2] is None else cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"webp:{self.side}:{self.quality}"

    def make(self, image: SourceImage, picture: Image.Image | None, prompts: Prompts) -> Exemplar:
        """A real exemplar that holds the reduced picture."""
        assert picture is not None
        return real_exemplar(image, self.reduced(picture))

    def reduced(self, picture: Image.Image) -> bytes:
        """A picture (Pillow, mode RGB) as the WebP file."""
        from PIL import Image

        height, width = thumbnail_shape((picture.height, picture.width), self.side)
        small = picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
        small.info = {}  # a colour profile is not kept
        file = io.BytesIO()
        small.save(file, "WEBP", quality=self.quality, method=4)
        return file.getvalue()
