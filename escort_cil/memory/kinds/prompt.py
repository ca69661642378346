"""Prompts: an edge map with a text and, by default, a colour hint."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from escort_cil.memory.kinds.base import ExemplarKind
from escort_codec.encode.folder import LEAST
from escort_codec.errors import ConfigError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import EncodeOptions
from escort_codec.settings import convert, settings_of
from escort_codec.source import SourceImage

if TYPE_CHECKING:
    from PIL import Image

    from escort_cil.memory.prompts import Prompts


@dataclass(frozen=True, slots=True)
class Prompt(ExemplarKind):
    """A prompt, encoded as the run's settings or its file of prompts say; or the best one in ``most_bytes``
    (``escort_codec.encode.rate``), whatever the file has."""

    most_bytes: int | None = None

    name = "prompt"
    stored = "prompt"
    units = 1 / 24
    regenerated = True
    is_copy = True

    @classmethod
    def parse(cls, options: str) -> Self:
        """Options are "" or a number of bytes with the suffix B."""
        if not options:
            return cls()
        match = re.fullmatch(r"([0-9]{1,8})B", options)
        try:
            if match is None:
                raise UsageError("write prompt, or prompt:BYTES, such as prompt:400B")
            return cls(convert(settings_of(EncodeOptions)["bytes_per_exemplar"], int(match[1])))
        except UsageError as exc:
            message = exc.message if match is None else f"give prompts at least {LEAST} bytes"
            raise ConfigError(message, setting="keep") from exc

    def __str__(self) -> str:
        return self.name if self.most_bytes is None else f"{self.name}:{self.most_bytes}B"

    def find(self, image: SourceImage, prompts: Prompts) -> Exemplar | None:
        """The image's prompt in the run's file of prompts, or None."""
        return prompts.find(image) if self.most_bytes is None else None

    def make(self, image: SourceImage, picture: Image.Image | None, prompts: Prompts) -> Exemplar:
        """A prompt exemplar."""
        assert picture is not None
        return prompts.encode(image, picture, self.most_bytes)
