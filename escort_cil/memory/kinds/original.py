"""Image files as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from escort_cil.memory.kinds.base import ExemplarKind
from escort_codec.encode.copies import OriginalFile
from escort_codec.exemplar import Exemplar
from escort_codec.source import SourceImage

if TYPE_CHECKING:
    from PIL import Image

    from escort_cil.memory.prompts import Prompts


@dataclass(frozen=True, slots=True)
class Original(ExemplarKind):
    """The image file's own bytes."""

    name = "original"
    stored = "real"
    decodes = False

    def make(self, image: SourceImage, picture: Image.Image | None, prompts: Prompts) -> Exemplar:
        """A real exemplar that holds the file."""
        return OriginalFile().make(image, None)
