"""Ways to keep an image in a number of bytes: the kinds of exemplar, and the image formats that Pillow writes."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from escort_cil.memory.keep import Keep
from escort_cil.memory.prompts import Prompts
from escort_codec.encode.rate import Scale, fit_picture
from escort_codec.errors import EscortError, RegenerationError
from escort_codec.exemplar import Exemplar
from escort_codec.hint import thumbnail_shape
from escort_codec.regenerate.base import Job, Regenerator, RGBImage
from escort_codec.registry import Registry
from escort_codec.source import SourceImage, load_rgb

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class Photograph:
    """One image of the data: where it is from, and its pixels (Pillow, mode RGB)."""

    image: SourceImage
    picture: Image.Image


@dataclass(frozen=True, slots=True)
class KeptImage:
    """What is kept of one photograph: an exemplar or the bytes of an image file."""

    size: int
    exemplar: Exemplar | None = None
    data: bytes = b""


class Way(ABC):
    """One way: a kind of exemplar or an image format."""

    name: ClassVar[str]

    def available(self) -> bool:
        """Whether this installation has what it needs."""
        return True

    @abstractmethod
    def keep(self, photograph: Photograph, most_bytes: int, prompts: Prompts) -> KeptImage:
        """The best version of a photograph in ``most_bytes``. Raises LimitError and UsageError if nothing fits."""

    @abstractmethod
    def show(self, kept: Sequence[KeptImage], regenerator: Regenerator) -> list[RGBImage]:
        """The images that training would see of the kept ones, uint8 RGB, of any size."""


ways: Registry[Way] = Registry("way to keep an image")


class KindWay(Way):
    """A kind of exemplar: ``prompt:400B``, ``latent:400B``, ``webp:400B``."""

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]

    def kept(self, most_bytes: int) -> Keep:
        """The setting ``keep`` of this kind and rate. Raises ConfigError below the kind's least bytes."""
        return Keep.parse(f"{self.name}:{most_bytes}B")

    def keep(self, photograph: Photograph, most_bytes: int, prompts: Prompts) -> KeptImage:
        """The exemplar."""
        (kind,) = self.kept(most_bytes).kinds
        exemplar = kind.make(photograph.image, photograph.picture, prompts)
        return KeptImage(len(exemplar.payload) + len(exemplar.hint or b""), exemplar)

    def show(self, kept: Sequence[KeptImage], regenerator: Regenerator) -> list[RGBImage]:
        """A prompt is regenerated with its first seed."""
        exemplars = [each.exemplar for each in kept if each.exemplar is not None]
        shown: dict[int, RGBImage] = {}
        jobs = [Job(each, 0, i) for i, each in enumerate(exemplars) if each.kind == "prompt"]
        for result in regenerator.regenerate(jobs) if jobs else ():
            if result.image is None:
                raise result.error or RegenerationError(f"{result.job.exemplar.key}: no image was made")
            shown[result.job.key] = result.image
        for i, exemplar in enumerate(exemplars):
            if exemplar.kind != "prompt":
                shown[i] = exemplar.picture() if exemplar.kind == "latent" else load_rgb(exemplar.image)
        return [shown[i] for i in range(len(exemplars))]


class FormatWay(Way):
    """An image format of Pillow or of a plug-in; all bytes of the file count."""

    def __init__(self, name: str, file_format: str, scale: Scale, options: Mapping[str, Any], plugin: str = "") -> None:
        self.name = name  # type: ignore[misc]
        self._format = file_format
        self._scale = scale
        self._options = dict(options)
        self._plugin = plugin

    def available(self) -> bool:
        """Whether Pillow writes the format."""
        return _writes(self._format, self._plugin)

    def keep(self, photograph: Photograph, most_bytes: int, prompts: Prompts) -> KeptImage:
        """The file at the side and quality with the best SSIM."""
        picture = photograph.picture

        def code(side: int, quality: int) -> bytes:
            from PIL import Image

            height, width = thumbnail_shape((picture.height, picture.width), side)
            small = picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
            small.info = {}
            file = io.BytesIO()
            small.save(file, self._format, quality=max(1, quality), **self._options)
            return file.getvalue()

        data = fit_picture(code, _decoded, picture, most_bytes, self._scale).data
        return KeptImage(len(data), None, data)

    def show(self, kept: Sequence[KeptImage], regenerator: Regenerator) -> list[RGBImage]:
        """The decoded files."""
        return [_decoded(each.data) for each in kept]


def _decoded(data: bytes) -> RGBImage:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@cache
def _writes(file_format: str, plugin: str) -> bool:
    from importlib import import_module

    from PIL import Image

    Image.init()
    if file_format not in Image.SAVE and plugin:
        try:
            import_module(plugin)
        except ImportError:
            return False
    if file_format not in Image.SAVE:
        return False
    try:  # Pillow lists formats whose library it was built without
        Image.new("RGB", (8, 8)).save(io.BytesIO(), file_format)
    except (OSError, KeyError, EscortError):
        return False
    return True


KINDS: Final = ("prompt", "latent", "webp")
for _kind in KINDS:
    ways.add(_kind, KindWay(_kind))
ways.add("JPEG", FormatWay("JPEG", "JPEG", Scale(60, 1.4, 20, 0.012, 95, 0, head=290), {"optimize": True}))
ways.add("AVIF", FormatWay("AVIF", "AVIF", Scale(32, 1.45, 25, 0.02, 100, 0, head=290), {"speed": 6}))
ways.add("JPEG XL", FormatWay("JPEG XL", "JXL", Scale(90, 1.15, 30, 0.02, 95, 0), {}, "pillow_jxl"))
