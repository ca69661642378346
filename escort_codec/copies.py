"""What can be kept of an image beside a prompt: its file, a WebP copy, a learned picture; named ``webp:64:20``."""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Self

from escort_codec.errors import UnknownNameError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.hint import HINT_QUALITY, encode_hint, thumbnail_shape
from escort_codec.latent.picture import DEFAULT_QUALITY, LEAST_BYTES, encode_latent, prepare
from escort_codec.latent.tables import QUALITIES
from escort_codec.limits import MAX_LATENT, MAX_LATENT_SIDE
from escort_codec.recipe import EncodeOptions
from escort_codec.registry import Registry
from escort_codec.source import SourceImage, image_size, load_image, read_file
from escort_codec.workers import DECODED

if TYPE_CHECKING:
    from PIL import Image

PROMPT = "prompt"
"""The name of what is not here: an edge map with a hint."""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An exemplar and the size in bytes of its source file."""

    exemplar: Exemplar
    source_bytes: int


HINT_QUALITY_LATENT: Final = 59
"""A hint's quality if none is asked for: as true as a WebP frame's of quality 20, in 0.6 of its bytes."""


class Copy(ABC):
    """One way to keep an image. Frozen; ``str`` gives its name with options. ``decodes``: made of the pixels."""

    name: ClassVar[str]
    decodes: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def parse(cls, options: str) -> Self:
        """The copy with the ``options`` behind its name, "64:20" of "webp:64:20". Raises UsageError."""

    def prepare(self) -> None:
        """Compiles or loads what ``make`` needs. Call it once before threads start."""

    @abstractmethod
    def make(self, image: SourceImage, picture: Image.Image | None, seeds: tuple[int, ...] = ()) -> Exemplar:
        """The exemplar of an image; ``picture`` (Pillow, mode RGB) is given if the copy ``decodes``.

        Many threads may call it. Raises ImageError, UsageError.
        """


copies: Registry[type[Copy]] = Registry("kind of exemplar")


def parse_copy(text: str) -> Copy | None:
    """``original``, ``webp:64:20``, ``latent:64`` ...; None for ``prompt``. Raises UsageError."""
    name, _, options = text.partition(":")
    if name == PROMPT and not options:
        return None
    try:
        return copies.get(name).parse(options)
    except UsageError as exc:
        known = isinstance(exc, UnknownNameError)
        message = f"write {PROMPT}, {', '.join(copies.names())} with their options" if known else exc.message
        raise UsageError(message, setting="kind", value=text) from exc


def copied(image: SourceImage, copy: Copy, options: EncodeOptions, data: bytes | None = None) -> EncodedImage:
    """The exemplar of an image file and the file's size; ``data`` are its bytes if already read. Raises ImageError.

    The file is decoded in any case, so that no damaged one is kept.
    """
    data = read_file(image.path) if data is None else data
    with DECODED.holding() as reserve:
        return EncodedImage(copy.make(image, opened(image, options, data, reserve), options.seeds), len(data))


def opened(image: SourceImage, options: EncodeOptions, data: bytes, reserve: Callable[[int], None]) -> Image.Image:
    """The picture in the bytes of an image file (Pillow, mode RGB), as ``options`` say. Raises ImageError.

    ``reserve`` waits for the memory: see ``workers.DECODED``.
    """
    name, background = str(image.path), options.background_colour
    return load_image(data, max_pixels=options.max_pixels, name=name, background=background, reserve=reserve)


@dataclass(frozen=True, slots=True)
class OriginalFile(Copy):
    """The image file's own bytes."""

    name = "original"
    decodes = False

    @classmethod
    def parse(cls, options: str) -> Self:
        """It has no options."""
        if options:
            raise UsageError("original takes no options")
        return cls()

    def __str__(self) -> str:
        return self.name

    def make(self, image: SourceImage, picture: Image.Image | None, seeds: tuple[int, ...] = ()) -> Exemplar:
        """A real exemplar that holds the file."""
        return real_exemplar(image, read_file(image.path))


@dataclass(frozen=True, slots=True)
class WebPCopy(Copy):
    """A WebP file whose longer side is at most ``side`` pixels; ``quality`` is WebP's, 0 to 100."""

    side: int
    quality: int = 20

    name = "webp"
    MAX_SIDE: ClassVar[int] = 16383  # the format's

    @classmethod
    def parse(cls, options: str) -> Self:
        """``SIDE`` or ``SIDE:QUALITY``."""
        match = re.fullmatch(r"([0-9]{1,5})(?::([0-9]{1,3}))?", options)
        if not match or not 1 <= int(match[1]) <= cls.MAX_SIDE or int(match[2] or 0) > 100:
            raise UsageError("write webp:SIDE or webp:SIDE:QUALITY, such as webp:64:20")
        return cls(int(match[1])) if match[2] is None else cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"webp:{self.side}:{self.quality}"

    def make(self, image: SourceImage, picture: Image.Image | None, seeds: tuple[int, ...] = ()) -> Exemplar:
        """A real exemplar that holds the reduced picture."""
        assert picture is not None
        return real_exemplar(image, self.reduced(picture))

    def reduced(self, picture: Image.Image) -> bytes:
        """A picture (Pillow, mode RGB) as the WebP file."""
        from PIL import Image

        height, width = thumbnail_shape((picture.height, picture.width), self.side)
        small = picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
        small.info = {}  # a colour profile is not kept
        file = io.BytesIO()
        small.save(file, "WEBP", quality=self.quality, method=4)
        return file.getvalue()


@dataclass(frozen=True, slots=True)
class LatentCopy(Copy):
    """A learned picture whose longer side is at most ``side`` pixels; ``quality`` 0 to 63, or at most ``bytes``."""

    side: int
    quality: int = DEFAULT_QUALITY
    most_bytes: int | None = None

    name = "latent"

    @classmethod
    def parse(cls, options: str) -> Self:
        """``SIDE``, ``SIDE:QUALITY`` or ``SIDE:BYTES``, the last with a B behind it."""
        match = re.fullmatch(r"([0-9]{1,4})(?::([0-9]{1,2})|:([0-9]{1,7})B)?", options)
        if not match or not 1 <= int(match[1]) <= MAX_LATENT_SIDE or int(match[2] or 0) >= QUALITIES:
            raise UsageError(
                f"write latent:SIDE, latent:SIDE:QUALITY (0 to {QUALITIES - 1}) or latent:SIDE:BYTES, such as "
                "latent:64, latent:64:32 or latent:64:250B"
            )
        if match[3]:
            if not LEAST_BYTES <= int(match[3]) <= MAX_LATENT:
                raise UsageError(f"give latent pictures {LEAST_BYTES} to {MAX_LATENT} bytes")
            return cls(int(match[1]), DEFAULT_QUALITY, int(match[3]))
        return cls(int(match[1]), DEFAULT_QUALITY if match[2] is None else int(match[2]))

    def __str__(self) -> str:
        return f"latent:{self.side}:{self.quality if self.most_bytes is None else f'{self.most_bytes}B'}"

    def prepare(self) -> None:
        """Loads the tables and kernels."""
        prepare()

    def make(self, image: SourceImage, picture: Image.Image | None, seeds: tuple[int, ...] = ()) -> Exemplar:
        """A latent exemplar."""
        assert picture is not None
        return Exemplar.from_latents(
            encode_latent(picture, self.side, quality=self.quality, most_bytes=self.most_bytes),
            label=image.label,
            name=image.name,
            size=(picture.height, picture.width),
            prompt=image.caption,
            seeds=seeds,
        )


def hint_of(picture: Image.Image, options: EncodeOptions) -> bytes | None:
    """The colour hint of a prompt, under ``options.hint_codec``; None if there is to be none."""
    if not options.hint:
        return None
    if options.hint_codec == LatentCopy.name:
        quality = HINT_QUALITY_LATENT if options.hint_quality is None else options.hint_quality
        return encode_latent(picture, options.hint, quality=quality)
    return encode_hint(picture, options.hint, HINT_QUALITY if options.hint_quality is None else options.hint_quality)


def real_exemplar(image: SourceImage, data: bytes) -> Exemplar:
    """A real exemplar of an image that holds the image file ``data``. Raises ImageError."""
    size = image_size(data, name=str(image.path))
    return Exemplar.from_image(data, label=image.label, name=image.name, size=size, prompt=image.caption)


copies.add("original", OriginalFile)
copies.add("webp", WebPCopy)
copies.add("latent", LatentCopy)
