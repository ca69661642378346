"""Copies: what an exemplar can keep of an image instead of a prompt (``original``, ``webp:64:20``, ``latent:64``)."""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from escort_codec.encode.rate import (
    LATENT,
    WEBP,
    fit_picture,
    picture_fidelity,
)
from escort_codec.errors import FidelityError, UnknownNameError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.hint import thumbnail_shape
from escort_codec.latent.picture import DEFAULT_QUALITY, LEAST_BYTES, decode_latent, encode_latent, prepare
from escort_codec.latent.tables import QUALITIES
from escort_codec.limits import MAX_LATENT, MAX_LATENT_SIDE, MAX_PAYLOAD
from escort_codec.recipe import EncodeOptions
from escort_codec.registry import Registry
from escort_codec.source import SourceImage, image_size, load_image, load_rgb, read_file
from escort_codec.workers import DECODED

if TYPE_CHECKING:
    from PIL import Image

PROMPT = "prompt"
"""The kind that is not a copy: an edge map with a hint."""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An exemplar and the size in bytes of its source file."""

    exemplar: Exemplar
    source_bytes: int


class Copy(ABC):
    """One way to keep an image. Frozen; ``str`` gives its name with options. ``decodes``: it needs the pixels."""

    name: ClassVar[str]
    decodes: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def parse(cls, options: str) -> Self:
        """The copy with the ``options`` after its name, "64:20" in "webp:64:20". Raises UsageError."""

    def prepare(self) -> None:
        """Compiles or loads what ``make`` needs. Call it once before threads start."""

    @abstractmethod
    def make(self, image: SourceImage, picture: Image.Image | None, seeds: tuple[int, ...] = ()) -> Exemplar:
        """The exemplar of an image; ``picture`` (Pillow, mode RGB) is given if the copy ``decodes``.

        Many threads may call it. Raises ImageError, UsageError.
        """


copies: Registry[type[Copy]] = Registry("kind of exemplar")


def parse_copy(text: str, most_bytes: int | None = None) -> Copy | None:
    """Parses ``original``, ``webp:64:20``, ``latent:64`` ...; None for ``prompt``. Raises UsageError.

    With ``most_bytes`` 250, ``latent`` means ``latent:250B`` and ``latent:64`` means ``latent:64:250B``.
    """
    name, _, options = text.partition(":")
    if name == PROMPT and not options:
        return None
    if most_bytes is not None and name in copies:
        if name == OriginalFile.name or ":" in options or options.endswith("B"):
            raise UsageError(
                "`bytes_per_exemplar` goes with prompt, webp, latent, webp:SIDE", setting="kind", value=text
            )
        options = f"{options}:{most_bytes}B".removeprefix(":")
    try:
        return copies.get(name).parse(options)
    except UsageError as exc:
        known = isinstance(exc, UnknownNameError)
        message = f"write {PROMPT}, {', '.join(copies.names())} with their options" if known else exc.message
        raise UsageError(message, setting="kind", value=text) from exc


def copied(image: SourceImage, copy: Copy, options: EncodeOptions, data: bytes | None = None) -> EncodedImage:
    """The exemplar of an image file and the file's size; ``data`` are its bytes if already read. Raises ImageError.

    The file is always decoded, so that a damaged one is not kept.
    """
    data = read_file(image.path) if data is None else data
    with DECODED.holding() as reserve:
        picture = opened(image, options, data, reserve)
        exemplar = copy.make(image, picture, options.seeds)
        if options.min_fidelity > 0:
            shown = exemplar.picture() if exemplar.kind == "latent" else load_rgb(exemplar.image)
            if (kept := picture_fidelity(shown, np.asarray(picture))) < options.min_fidelity:
                raise too_little(image, kept, options)
        return EncodedImage(exemplar, len(data))


def too_little(image: SourceImage, kept: float, options: EncodeOptions) -> FidelityError:
    """The error for an image whose fidelity ``kept`` is below that of ``options``."""
    return FidelityError(f"{image.path}: {kept:.3f} of it is kept, less than {options.min_fidelity:g}")


def opened(image: SourceImage, options: EncodeOptions, data: bytes, reserve: Callable[[int], None]) -> Image.Image:
    """Decodes the bytes of an image file (to Pillow, mode RGB) with ``options``. Raises ImageError.

    ``reserve`` waits for memory: see ``workers.DECODED``.
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
    """A WebP file whose longer side is at most ``side`` pixels; ``quality`` is WebP's, 0 to 100.

    With ``most_bytes`` the quality is chosen for each image, and without a ``side`` the side as well.
    """

    side: int | None
    quality: int = 20
    most_bytes: int | None = None

    name = "webp"
    MAX_SIDE: ClassVar[int] = 16383  # the format's

    @classmethod
    def parse(cls, options: str) -> Self:
        """Options are ``SIDE``, ``SIDE:QUALITY``, ``BYTES`` or ``SIDE:BYTES``; bytes have the suffix B."""
        if limited := _limited(options, cls.name, cls.MAX_SIDE, WEBP.least, MAX_PAYLOAD):
            return cls(limited[0], most_bytes=limited[1])
        match = re.fullmatch(r"([0-9]{1,5})(?::([0-9]{1,3}))?", options)
        if not match or not 1 <= int(match[1]) <= cls.MAX_SIDE or int(match[2] or 0) > 100:
            raise UsageError("write webp:SIDE, webp:SIDE:QUALITY or webp:BYTES, such as webp:64:20 or webp:400B")
        return cls(int(match[1])) if match[2] is None else cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return _named(self.name, self.side, self.quality, self.most_bytes)

    def make(self, image: SourceImage, picture: Image.Image | None, seeds: tuple[int, ...] = ()) -> Exemplar:
        """A real exemplar that holds the reduced picture."""
        assert picture is not None
        return real_exemplar(image, self.reduced(picture))

    def reduced(self, picture: Image.Image) -> bytes:
        """A picture (Pillow, mode RGB) as the WebP file."""
        if self.most_bytes is None:
            assert self.side is not None
            return _webp(picture, self.side, self.quality)
        code = partial(_webp, picture)
        return fit_picture(code, load_rgb, picture, self.most_bytes, WEBP, self.side).data


def _webp(picture: Image.Image, side: int, quality: int) -> bytes:
    from PIL import Image

    height, width = thumbnail_shape((picture.height, picture.width), side)
    small = picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    small.info = {}  # drops a colour profile
    file = io.BytesIO()
    small.save(file, "WEBP", quality=quality, method=4)
    return file.getvalue()


def _limited(options: str, name: str, largest: int, least: int, most: int) -> tuple[int | None, int] | None:
    """(side, bytes) of ``400B`` or ``64:400B``; None for other options. Raises UsageError."""
    match = re.fullmatch(r"(?:([0-9]{1,5}):)?([0-9]{1,9})B", options)
    if not match:
        return None
    if not least <= int(match[2]) <= most:
        raise UsageError(f"give {name} pictures {least} to {most} bytes")
    if match[1] and not 1 <= int(match[1]) <= largest:
        raise UsageError(f"give {name} pictures 1 to {largest} pixels")
    return int(match[1]) if match[1] else None, int(match[2])


def _named(name: str, side: int | None, quality: int, most_bytes: int | None) -> str:
    """A copy with its options, as ``parse_copy`` reads it."""
    parts = [name, *([] if side is None else [str(side)]), str(quality) if most_bytes is None else f"{most_bytes}B"]
    return ":".join(parts)


@dataclass(frozen=True, slots=True)
class LatentCopy(Copy):
    """A learned picture whose longer side is at most ``side`` pixels; ``quality`` 0 to 63, or at most ``most_bytes``.

    Without a ``side`` it is chosen for each image.
    """

    side: int | None
    quality: int = DEFAULT_QUALITY
    most_bytes: int | None = None

    name = "latent"

    @classmethod
    def parse(cls, options: str) -> Self:
        """Options are ``SIDE``, ``SIDE:QUALITY``, ``BYTES`` or ``SIDE:BYTES``; bytes have the suffix B."""
        if limited := _limited(options, cls.name, MAX_LATENT_SIDE, LEAST_BYTES, MAX_LATENT):
            return cls(limited[0], DEFAULT_QUALITY, limited[1])
        match = re.fullmatch(r"([0-9]{1,4})(?::([0-9]{1,2}))?", options)
        if not match or not 1 <= int(match[1]) <= MAX_LATENT_SIDE or int(match[2] or 0) >= QUALITIES:
            raise UsageError(
                f"write latent:SIDE, latent:SIDE:QUALITY (0 to {QUALITIES - 1}), latent:BYTES or latent:SIDE:BYTES, "
                "such as latent:64, latent:64:32, latent:250B or latent:64:250B"
            )
        return cls(int(match[1]), DEFAULT_QUALITY if match[2] is None else int(match[2]))

    def __str__(self) -> str:
        return _named(self.name, self.side, self.quality, self.most_bytes)

    def prepare(self) -> None:
        """Loads the tables and kernels."""
        prepare()

    def make(self, image: SourceImage, picture: Image.Image | None, seeds: tuple[int, ...] = ()) -> Exemplar:
        """A latent exemplar."""
        assert picture is not None
        return Exemplar.from_latents(
            self.coded(picture),
            label=image.label,
            name=image.name,
            size=(picture.height, picture.width),
            prompt=image.caption,
            seeds=seeds,
        )

    def coded(self, picture: Image.Image) -> bytes:
        """A picture (Pillow, mode RGB) as a learned one."""
        if self.side is not None or self.most_bytes is None:
            return encode_latent(picture, self.side, quality=self.quality, most_bytes=self.most_bytes)

        def code(side: int, quality: int) -> bytes:
            return encode_latent(picture, side, quality=quality)

        return fit_picture(code, decode_latent, picture, self.most_bytes, LATENT).data


def real_exemplar(image: SourceImage, data: bytes) -> Exemplar:
    """A real exemplar of an image that holds the image file ``data``. Raises ImageError."""
    size = image_size(data, name=str(image.path))
    return Exemplar.from_image(data, label=image.label, name=image.name, size=size, prompt=image.caption)


copies.add("original", OriginalFile)
copies.add("webp", WebPCopy)
copies.add("latent", LatentCopy)
