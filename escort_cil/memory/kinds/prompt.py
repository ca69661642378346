"""Prompts: an edge map with a text and, by default, a colour hint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from escort_cil.memory.kinds.base import ExemplarKind
from escort_codec.exemplar import Exemplar
from escort_codec.source import SourceImage

if TYPE_CHECKING:
    from PIL import Image

    from escort_cil.memory.prompts import Prompts


@dataclass(frozen=True, slots=True)
class Prompt(ExemplarKind):
    """A prompt, encoded as the run's settings or its file of prompts say."""

    name = "prompt"
    stored = "prompt"
    units = 1 / 24
    regenerated = True
    is_copy = True

    def find(self, image: SourceImage, prompts: Prompts) -> Exemplar | None:
        """The image's prompt in the run's file of prompts, or None."""
        return prompts.find(image)

    def make(self, image: SourceImage, picture: Image.Image | None, prompts: Prompts) -> Exemplar:
        """A prompt exemplar."""
        assert picture is not None
        return prompts.encode(image, picture)
