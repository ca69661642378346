"""The kinds that keep a copy of an image: its file, a WebP file, a learned picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

from escort_cil.memory.kinds.base import ExemplarKind
from escort_codec.encode.copies import Copy, LatentCopy, OriginalFile, WebPCopy
from escort_codec.errors import ConfigError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.source import SourceImage

if TYPE_CHECKING:
    from PIL import Image

    from escort_cil.memory.prompts import Prompts


@dataclass(frozen=True, slots=True)
class CopyKind(ExemplarKind):
    """A kind whose exemplars are made by ``copy``, an object of ``copy_class``."""

    copy: Copy

    copy_class: ClassVar[type[Copy]]

    @classmethod
    def parse(cls, options: str) -> Self:
        """The kind with the options of its copy. Raises ConfigError."""
        try:
            return cls(cls.copy_class.parse(options))
        except UsageError as exc:
            raise ConfigError(exc.message, setting="keep") from exc

    def __str__(self) -> str:
        return str(self.copy)

    def make(self, image: SourceImage, picture: Image.Image | None, prompts: Prompts) -> Exemplar:
        """See the base class."""
        return self.copy.make(image, picture)


@dataclass(frozen=True, slots=True)
class Original(CopyKind):
    """The image file's own bytes."""

    copy: Copy = field(default_factory=OriginalFile)

    name = "original"
    stored = "real"
    decodes = False
    copy_class = OriginalFile


class WebP(CopyKind):
    """A reduced image as a lossy WebP file."""

    name = "webp"
    stored = "real"
    is_copy = True
    copy_class = WebPCopy


class Latent(CopyKind):
    """A learned picture. Training sees it with every latent at its cell's centre."""

    name = "latent"
    stored = "latent"
    is_copy = True
    copy_class = LatentCopy
