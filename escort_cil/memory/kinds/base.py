"""What a kind of exemplar is, and the registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias

from escort_codec.errors import ConfigError
from escort_codec.exemplar import Exemplar
from escort_codec.exemplar import Kind as StoredKind
from escort_codec.registry import Registry
from escort_codec.source import SourceImage

if TYPE_CHECKING:
    from PIL import Image

EncodePrompt: TypeAlias = Callable[[SourceImage, "Image.Image"], Exemplar]
"""Makes a prompt exemplar of an image and its decoded picture (Pillow, mode RGB)."""


class ExemplarKind(ABC):
    """One way to remember an image. Frozen; ``str`` gives what ``keep`` says, such as ``webp:64:20``.

    ``stored`` is the exemplar's kind in the file, ``units`` its size in the paper's count. ``decodes``: it is made of
    the decoded picture, not of the file. ``regenerated``: training sees images that a regenerator makes of it, not
    itself. ``is_copy``: it differs from the original image, so that data augmentation can show it in the image's place.
    """

    name: ClassVar[str]
    stored: ClassVar[StoredKind]
    units: ClassVar[float] = 1.0
    decodes: ClassVar[bool] = True
    regenerated: ClassVar[bool] = False
    is_copy: ClassVar[bool] = False

    @classmethod
    def parse(cls, options: str) -> Self:
        """The kind with the ``options`` behind its name, "64:20" of "webp:64:20". Raises ConfigError."""
        if options:
            raise ConfigError(f"{cls.name} takes no options", setting="keep", value=f"{cls.name}:{options}")
        return cls()

    def __str__(self) -> str:
        return self.name

    @abstractmethod
    def make(self, image: SourceImage, picture: Image.Image | None, encode_prompt: EncodePrompt) -> Exemplar:
        """The exemplar of an image; ``picture`` is given if the kind ``decodes``. May be called by many threads.

        Raises ImageError.
        """


kinds: Registry[type[ExemplarKind]] = Registry("kind of exemplar")
