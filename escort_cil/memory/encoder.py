"""Makes exemplars of images, each of what is decoded of it once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from escort_cil.data.decoding import Use, decode_all
from escort_cil.policy import RealKind
from escort_codec.coding import codings
from escort_codec.container import Reader
from escort_codec.encode import EncodeOptions, encode_picture
from escort_codec.errors import ConfigError
from escort_codec.exemplar import Exemplar
from escort_codec.hint import hint_size
from escort_codec.source import SourceImage, read_file
from escort_codec.workers import usable_cores

if TYPE_CHECKING:
    from PIL import Image


LOOKED_AT: Final = 64

Decode: TypeAlias = Callable[[Sequence[Path], Use], None]
"""Decodes image files in threads, and gives each to a ``Use``."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What will be asked for of an image: its prompt, its prompt once it is a real exemplar, its reduced copy."""

    prompt: bool = False
    prompt_of_real: bool = False
    reduced: bool = False

    def __or__(self, other: Wanted) -> Wanted:
        return Wanted(
            self.prompt or other.prompt, self.prompt_of_real or other.prompt_of_real, self.reduced or other.reduced
        )


class Maker:
    """Makes exemplars of images: real ones, and prompts, which are taken from ``prompts`` where that file has them.

    ``hint`` 0 leaves the colour hint out, also of prompts that have one. An image that the file does not hold is
    encoded on the spot, as the file's first exemplar was. Threads do the work. What was made is kept until ``forget``,
    as an image's prompt serves for its copies and for the memory; ``take`` makes it of an image that is decoded anyway.

    An image of which something is asked that is not made yet is decoded by ``decode`` (None: for this alone), and all
    that is ``wanted`` of images is then made of it.
    """

    def __init__(
        self,
        real: RealKind,
        options: EncodeOptions,
        *,
        prompts: Reader | None = None,
        hint: int | None = None,
        wanted: Wanted = Wanted(),
        decode: Decode | None = None,
    ) -> None:
        self.real = real
        self._wanted = wanted
        self._decode = decode or self._decode_alone
        self._prompts = prompts
        self._strip = hint == 0
        self._options = options_like(prompts, options, hint) if prompts is not None else options
        self._workers = options.workers or usable_cores()
        self._encoded: dict[Path, Exemplar] = {}
        self._encoded_reals: dict[str, Exemplar] = {}  # by key
        self._reduced: dict[Path, bytes] = {}

    def take(self, image: SourceImage, picture: Image.Image, wanted: Wanted) -> None:
        """Makes what is wanted of an image, decoded as ``source.load_image`` does it. May be called by many threads."""
        if wanted.prompt_of_real or (wanted.prompt and self._given(image) is None):
            self._encoded[image.path] = encode_picture(image, picture, self._options)
        if wanted.reduced:
            self._reduced[image.path] = self.real.reduced(picture)

    def take_real(self, exemplar: Exemplar, picture: Image.Image) -> None:
        """Makes the prompt of a real exemplar, whose image file is decoded. May be called by many threads."""
        self._encoded_reals[exemplar.key] = encode_picture(_image_of(exemplar), picture, self._options)

    def forget(self, held: Sequence[Exemplar] = ()) -> None:
        """Lets go of what was made for a phase's images, but for the prompts of those ``held`` as real exemplars."""
        made = {exemplar.key: exemplar for exemplar in self._encoded.values()} | self._encoded_reals
        reals = (exemplar.key for exemplar in held if exemplar.kind == "real")
        self._encoded_reals = {key: made[key] for key in reals if key in made}
        self._encoded.clear()
        self._reduced.clear()

    def reals(self, images: Sequence[SourceImage]) -> list[Exemplar]:
        """Real exemplars of images. Raises ImageError."""
        files = self.files(images)
        return [self.real.exemplar(image, data) for image, data in zip(images, files, strict=True)]

    def prompts(self, images: Sequence[SourceImage]) -> list[Exemplar]:
        """Prompts of images. Raises ImageError."""
        given = [self._given(image) for image in images]
        rest = [image for image, exemplar in zip(images, given, strict=True) if exemplar is None]
        self._make([image for image in rest if image.path not in self._encoded], Wanted(prompt=True), self._encoded)
        return [
            self._encoded[image.path] if exemplar is None else exemplar
            for image, exemplar in zip(images, given, strict=True)
        ]

    def prompts_of(self, exemplars: Sequence[Exemplar]) -> list[Exemplar]:
        """Prompts of real exemplars, made of the image files that they hold. Raises ImageError."""
        missing = [exemplar for exemplar in exemplars if exemplar.key not in self._encoded_reals]
        files, names = [exemplar.image for exemplar in missing], [exemplar.key for exemplar in missing]
        decode_all(files, lambda i, picture: self.take_real(missing[i], picture), names=names, workers=self._workers)
        return [self._encoded_reals[exemplar.key] for exemplar in exemplars]

    def files(self, images: Sequence[SourceImage]) -> list[bytes]:
        """The image files that are kept of images: reduced WebP copies, or they themselves. Raises ImageError."""
        if self.real.side is None:
            return [read_file(image.path) for image in images]  # they can be read again
        missing = [image for image in images if image.path not in self._reduced]
        self._make(missing, Wanted(reduced=True), self._reduced)
        return [self._reduced[image.path] for image in images]

    def _make(self, images: Sequence[SourceImage], wanted: Wanted, made: Mapping[Path, object]) -> None:
        """Decodes images and makes what is wanted of them; ``made`` is where it is found afterwards."""
        for decode in (self._decode, self._decode_alone):  # the first may know an image already, and pass it over
            rest = [image for image in images if image.path not in made]
            if rest:
                decode([image.path for image in rest], partial(self._take_of, rest, wanted | self._wanted))

    def _take_of(self, images: Sequence[SourceImage], wanted: Wanted, i: int, picture: Image.Image) -> None:
        self.take(images[i], picture, wanted)

    def _decode_alone(self, paths: Sequence[Path], use: Use) -> None:
        decode_all(paths, use, workers=self._workers)

    def _given(self, image: SourceImage) -> Exemplar | None:
        """The image's prompt in the file, None where it has none."""
        if self._prompts is None:
            return None
        try:
            exemplar = self._prompts[image.key]
        except KeyError:
            return None
        if exemplar.kind != "prompt":
            return None
        return replace(exemplar, hint=None) if self._strip else exemplar


def _image_of(exemplar: Exemplar) -> SourceImage:
    return SourceImage(Path(exemplar.key), exemplar.label, exemplar.name, exemplar.prompt)


def options_like(prompts: Reader, options: EncodeOptions, hint: int | None) -> EncodeOptions:
    """The options that the file's first prompts were encoded with, as far as they tell; raises ConfigError for none.

    A map may be stored with a simpler coding than was asked for: the least simple of LOOKED_AT prompts is taken.
    """
    some = list(islice((exemplar for exemplar in prompts if exemplar.kind == "prompt"), LOOKED_AT))
    if not some:
        raise ConfigError(f"{prompts.path}: holds no prompts; give the file that `escort encode` wrote")
    first = some[0]
    side = max(hint_size(first.hint)) if first.hint else 0
    return replace(
        options,
        preset=first.recipe.preset,
        settings=first.edge_settings or options.settings,
        seeds=prompts.seeds or options.seeds,
        hint=side if hint is None else hint,
        coding=max((exemplar.coding for exemplar in some), key=lambda name: codings.get(name).number),
    )
