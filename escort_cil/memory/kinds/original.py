"""Image files as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from escort_cil.memory.kinds.base import ExemplarKind
from escort_codec.exemplar import Exemplar
from escort_codec.source import SourceImage, image_size, read_file

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
        return real_exemplar(image, read_file(image.path))


def real_exemplar(image: SourceImage, data: bytes) -> Exemplar:
    """A real exemplar of an image that holds the image file ``data``. Raises ImageError."""
    size = image_size(data, name=str(image.path))
    return Exemplar.from_image(data, label=image.label, name=image.name, size=size, prompt=image.caption)
