"""Reduced images as learned pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from escort_cil.memory.kinds.base import ExemplarKind, parsed
from escort_codec.encode.copies import LatentCopy
from escort_codec.exemplar import Exemplar
from escort_codec.source import SourceImage

if TYPE_CHECKING:
    from PIL import Image

    from escort_cil.memory.prompts import Prompts


@dataclass(frozen=True, slots=True)
class Latent(ExemplarKind):
    """A learned picture, as ``copy`` says. Training sees it with every latent at its cell's centre."""

    copy: LatentCopy

    name = "latent"
    stored = "latent"
    is_copy = True

    @classmethod
    def parse(cls, options: str) -> Self:
        """``SIDE``, ``SIDE:QUALITY`` or ``SIDE:BYTES`` with a B behind it."""
        return cls(parsed(LatentCopy, options))

    def __str__(self) -> str:
        return str(self.copy)

    def make(self, image: SourceImage, picture: Image.Image | None, prompts: Prompts) -> Exemplar:
        """A latent exemplar."""
        return self.copy.make(image, picture)
