"""Makes exemplars of images, each of what is decoded of it once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from escort_cil.policy import RealKind
from escort_codec.container import Reader
from escort_codec.encode import EncodeOptions, encode_image, encode_picture
from escort_codec.errors import ConfigError
from escort_codec.exemplar import Exemplar
from escort_codec.hint import hint_size
from escort_codec.source import SourceImage
from escort_codec.workers import usable_cores

if TYPE_CHECKING:
    from PIL import Image

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What will be asked for of an image: its prompt, its prompt once it is a real exemplar, its reduced copy."""

    prompt: bool = False
    prompt_of_real: bool = False
    reduced: bool = False


class Maker:
    """Makes exemplars of images: real ones, and prompts, which are taken from ``prompts`` where that file has them.

    ``hint`` 0 leaves the colour hint out, also of prompts that have one. An image that the file does not hold is
    encoded on the spot, as the file's first exemplar was. Threads do the work. What was made is kept until ``forget``,
    as an image's prompt serves for its copies and for the memory; ``take`` makes it of an image that is decoded anyway.
    """

    def __init__(
        self, real: RealKind, options: EncodeOptions, *, prompts: Reader | None = None, hint: int | None = None
    ) -> None:
        self.real = real
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
        return self._map(self._real, images)

    def prompts(self, images: Sequence[SourceImage]) -> list[Exemplar]:
        """Prompts of images. Raises ImageError."""
        return self._map(self._prompt, images)

    def prompts_of(self, exemplars: Sequence[Exemplar]) -> list[Exemplar]:
        """Prompts of real exemplars, made of the image files that they hold."""
        return self._map(self._prompt_of, exemplars)

    def reduced(self, images: Sequence[SourceImage]) -> list[bytes]:
        """The reduced WebP copies of images. Raises ImageError."""
        return self._map(self._file, images)

    def _file(self, image: SourceImage) -> bytes:
        if self.real.side is None:
            return self.real.data(image)  # a file that is kept as it is can be read again
        if image.path not in self._reduced:
            self._reduced[image.path] = self.real.data(image)
        return self._reduced[image.path]

    def _real(self, image: SourceImage) -> Exemplar:
        return self.real.exemplar(image, self._file(image))

    def _prompt(self, image: SourceImage) -> Exemplar:
        if (given := self._given(image)) is not None:
            return given
        if image.path not in self._encoded:
            self._encoded[image.path] = encode_image(image, self._options).exemplar
        return self._encoded[image.path]

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

    def _prompt_of(self, exemplar: Exemplar) -> Exemplar:
        if exemplar.key not in self._encoded_reals:
            made = encode_image(_image_of(exemplar), self._options, exemplar.image).exemplar
            self._encoded_reals[exemplar.key] = made
        return self._encoded_reals[exemplar.key]

    def _map(self, make: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
        with ThreadPoolExecutor(self._workers, thread_name_prefix="exemplar") as pool:
            return list(pool.map(make, items))


def _image_of(exemplar: Exemplar) -> SourceImage:
    return SourceImage(Path(exemplar.key), exemplar.label, exemplar.name, exemplar.prompt)


def options_like(prompts: Reader, options: EncodeOptions, hint: int | None) -> EncodeOptions:
    """The options that the file's first prompt was encoded with, as far as it tells; raises ConfigError for none."""
    first = next((exemplar for exemplar in prompts if exemplar.kind == "prompt"), None)
    if first is None:
        raise ConfigError(f"{prompts.path}: holds no prompts; give the file that `escort encode` wrote")
    side = max(hint_size(first.hint)) if first.hint else 0
    return replace(
        options,
        preset=first.recipe.preset,
        settings=first.made or options.settings,
        seeds=prompts.seeds or options.seeds,
        hint=side if hint is None else hint,
        coding=first.coding,
    )
