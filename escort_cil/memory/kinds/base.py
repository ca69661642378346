"""What a kind of exemplar is, and the registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self

from escort_codec.errors import ConfigError
from escort_codec.exemplar import Exemplar
from escort_codec.exemplar import Kind as StoredKind
from escort_codec.registry import Registry
from escort_codec.source import SourceImage

if TYPE_CHECKING:
    from PIL import Image

    from escort_cil.memory.prompts import Prompts


class ExemplarKind(ABC):
    """One way to remember an image. Frozen; ``str`` gives what ``keep`` says, such as ``webp:64:20``.

    ``stored`` is the exemplar's kind in the file, ``units`` its size in the paper's count. ``decodes``: it is made
    from the decoded picture, not from the file. ``regenerated``: training sees images that a regenerator makes of it,
    one per seed. ``is_copy``: it differs from the original image, so that it (or the images made of it) can serve as
    data augmentation.
    """

    name: ClassVar[str]
    stored: ClassVar[StoredKind]
    units: ClassVar[float] = 1.0
    decodes: ClassVar[bool] = True
    regenerated: ClassVar[bool] = False
    is_copy: ClassVar[bool] = False

    @classmethod
    def parse(cls, options: str) -> Self:
        """The kind with the ``options`` after its name, "64:20" in "webp:64:20". Raises ConfigError."""
        if options:
            raise ConfigError(f"{cls.name} takes no options", setting="keep", value=f"{cls.name}:{options}")
        return cls()

    def __str__(self) -> str:
        return self.name

    def find(self, image: SourceImage, prompts: Prompts) -> Exemplar | None:
        """The image's exemplar if the run's file of prompts has it, else None."""
        return None

    @abstractmethod
    def make(self, image: SourceImage, picture: Image.Image | None, prompts: Prompts) -> Exemplar:
        """A new exemplar of an image; ``picture`` (Pillow, mode RGB) is given if the kind ``decodes``.

        Many threads may call it. Raises ImageError.
        """


kinds: Registry[type[ExemplarKind]] = Registry("kind of exemplar")


def is_regenerated(exemplar: Exemplar) -> bool:
    """Whether training sees images that a regenerator makes of the exemplar, not the exemplar itself."""
    return any(kind.regenerated for kind in kinds if kind.stored == exemplar.kind)
