"""What is kept of an image: its file, a reduced WebP copy, or a prompt; and in which mixture."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from escort_codec.errors import ConfigError
from escort_codec.exemplar import Exemplar
from escort_codec.hint import thumbnail_shape
from escort_codec.source import SourceImage, image_size

if TYPE_CHECKING:
    from PIL import Image

WEBP_QUALITY = 20


@dataclass(frozen=True, slots=True)
class RealKind:
    """What a real exemplar is: the image file as it is, or with ``side`` (the longer side in pixels) a WebP copy."""

    side: int | None = None
    quality: int = WEBP_QUALITY

    @classmethod
    def parse(cls, text: str) -> RealKind:
        """``original``, ``webp:SIDE`` or ``webp:SIDE:QUALITY``; raises ConfigError."""
        if text == "original":
            return cls()
        match = re.fullmatch(r"webp:([0-9]{1,5})(?::([0-9]{1,3}))?", text)
        if not match or not 1 <= int(match[1]) <= 16383 or int(match[2] or 0) > 100:
            raise ConfigError(f"--real {text!r}: write original, webp:SIDE or webp:SIDE:QUALITY, such as webp:64:20")
        return cls(int(match[1]), int(match[2] or WEBP_QUALITY))

    def reduced(self, picture: Image.Image) -> bytes:
        """A picture (Pillow, mode RGB) as a lossy WebP file whose longer side is at most ``side``."""
        from PIL import Image

        assert self.side is not None
        height, width = thumbnail_shape((picture.height, picture.width), self.side)
        small = picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
        small.info = {}  # a colour profile is not kept
        file = io.BytesIO()
        small.save(file, "WEBP", quality=self.quality, method=4)
        return file.getvalue()

    def exemplar(self, image: SourceImage, data: bytes) -> Exemplar:
        """The image as a real exemplar that holds the image file ``data``. Raises ImageError."""
        return Exemplar.from_image(
            data,
            label=image.label,
            name=image.name,
            size=image_size(data, name=str(image.path)),
            prompt=image.caption,
        )


@dataclass(frozen=True, slots=True)
class Mix:
    """The mixture of real exemplars and prompts: shares of the bytes (they add up to 1), or counts a class."""

    real: float
    prompt: float
    counts: bool = False

    @classmethod
    def parse(cls, text: str) -> Mix:
        """``real=0.3,prompt=0.7`` (shares), ``real=18,prompt=48`` (counts), or one of them alone."""
        values: dict[str, str] = {}
        for part in text.split(","):
            key, _, value = part.strip().partition("=")
            if key not in ("real", "prompt") or key in values or not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
                raise ConfigError(f"--mix {text!r}: write shares, real=0.3,prompt=0.7, or counts, real=18,prompt=48")
            values[key] = value
        real, prompt = (float(values.get(key, "0")) for key in ("real", "prompt"))
        if abs(real + prompt - 1) < 1e-9:
            return cls(real, prompt)
        if real + prompt == 0 or any("." in value for value in values.values()):
            raise ConfigError(f"--mix {text!r}: shares must add up to 1, counts are whole numbers")
        return cls(real, prompt, counts=True)
