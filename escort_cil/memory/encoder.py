"""Exemplars of images, each made from one decoding of its image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from escort_cil.data.decoding import decode_all
from escort_cil.memory.kinds import ExemplarKind, Prompt
from escort_codec.coding import codings
from escort_codec.container import Reader
from escort_codec.encode import encode_picture
from escort_codec.errors import ConfigError
from escort_codec.exemplar import Exemplar
from escort_codec.hint import hint_size
from escort_codec.recipe import EncodeOptions
from escort_codec.source import SourceImage
from escort_codec.workers import usable_cores

if TYPE_CHECKING:
    from PIL import Image

SAMPLE: Final = 64
"""Prompts of a file that are looked at to find out how it was encoded."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What is made of an image while it is decoded: exemplars of ``kinds``, and with ``prompt_of_real`` the prompt that
    it is regenerated from once it is remembered as a real exemplar."""

    kinds: tuple[ExemplarKind, ...] = ()
    prompt_of_real: bool = False


class ExemplarEncoder:
    """Makes exemplars of images and keeps them until ``forget``: one prompt serves for copies and for the memory.

    Prompts come from ``prompts_file`` if it has them; others are encoded as its prompts were, or with ``options``.
    ``hint`` 0 leaves the colour hint out, also of prompts that have one. ``derive`` makes what is needed of an image
    that is decoded anyway; an image that was not derived before it is asked for is decoded for that alone.
    """

    def __init__(self, options: EncodeOptions, *, prompts_file: Reader | None = None, hint: int | None = None) -> None:
        self._prompts_file = prompts_file
        self._drops_hints = hint == 0
        self._options = options_of(prompts_file, options, hint) if prompts_file is not None else options
        self._workers = options.workers or usable_cores()
        self._made: dict[tuple[ExemplarKind, Path], Exemplar] = {}
        self._prompts_of_reals: dict[str, Exemplar] = {}  # by key

    def derive(self, image: SourceImage, picture: Image.Image, needs: Needs) -> None:
        """Makes what is needed of an image from its picture (Pillow, mode RGB). May be called by many threads."""
        for kind in needs.kinds:
            if kind.decodes and not (kind == Prompt() and self._stored_prompt(image)):
                self._made[kind, image.path] = kind.make(image, picture, self._encode)
        if needs.prompt_of_real and (Prompt(), image.path) not in self._made:
            self._made[Prompt(), image.path] = self._encode(image, picture)

    def derive_from_real(self, exemplar: Exemplar, picture: Image.Image) -> None:
        """Makes the prompt of a real exemplar from its picture. May be called by many threads."""
        self._prompts_of_reals[exemplar.key] = self._encode(_image_of(exemplar), picture)

    def exemplars(self, kind: ExemplarKind, images: Sequence[SourceImage]) -> list[Exemplar]:
        """Exemplars of one kind, one per image. Raises ImageError."""
        if not kind.decodes:
            return [kind.make(image, None, self._encode) for image in images]
        stored = [self._stored_prompt(image) if kind == Prompt() else None for image in images]
        rest = [image for image, exemplar in zip(images, stored, strict=True) if exemplar is None]
        missing = [image for image in rest if (kind, image.path) not in self._made]
        decode_all(
            [image.path for image in missing],
            lambda i, picture: self.derive(missing[i], picture, Needs((kind,))),
            workers=self._workers,
        )
        return [e or self._made[kind, image.path] for image, e in zip(images, stored, strict=True)]

    def prompts_of_reals(self, exemplars: Sequence[Exemplar]) -> list[Exemplar]:
        """Prompts of real exemplars, made of the image files that they hold. Raises ImageError."""
        missing = [exemplar for exemplar in exemplars if exemplar.key not in self._prompts_of_reals]
        decode_all(
            [exemplar.image for exemplar in missing],
            lambda i, picture: self.derive_from_real(missing[i], picture),
            names=[exemplar.key for exemplar in missing],
            workers=self._workers,
        )
        return [self._prompts_of_reals[exemplar.key] for exemplar in exemplars]

    def forget(self, held: Sequence[Exemplar] = ()) -> None:
        """Drops what was made of a phase's images, except the prompts of those that are ``held`` as real exemplars."""
        made = {e.key: e for (kind, _), e in self._made.items() if kind == Prompt()} | self._prompts_of_reals
        reals = (exemplar.key for exemplar in held if exemplar.kind == "real")
        self._prompts_of_reals = {key: made[key] for key in reals if key in made}
        self._made.clear()

    def _encode(self, image: SourceImage, picture: Image.Image) -> Exemplar:
        return encode_picture(image, picture, self._options)

    def _stored_prompt(self, image: SourceImage) -> Exemplar | None:
        """The image's prompt in the file, or None."""
        if self._prompts_file is None:
            return None
        try:
            exemplar = self._prompts_file[image.key]
        except KeyError:
            return None
        if exemplar.kind != "prompt":
            return None
        return replace(exemplar, hint=None) if self._drops_hints else exemplar


def options_of(prompts_file: Reader, options: EncodeOptions, hint: int | None) -> EncodeOptions:
    """The options that the prompts of a file were encoded with, found from its first ones; raises ConfigError if it has
    none.

    A map may be stored with a simpler coding than was asked for: the least simple one of SAMPLE prompts is taken.
    """
    some = list(islice((exemplar for exemplar in prompts_file if exemplar.kind == "prompt"), SAMPLE))
    if not some:
        raise ConfigError(f"{prompts_file.path}: holds no prompts: give a file that `escort encode` wrote")
    first = some[0]
    side = max(hint_size(first.hint)) if first.hint else 0
    return replace(
        options,
        preset=first.recipe.preset,
        settings=first.edge_settings or options.settings,
        seeds=prompts_file.seeds or options.seeds,
        hint=side if hint is None else hint,
        coding=max((exemplar.coding for exemplar in some), key=lambda name: codings.get(name).number),
    )


def _image_of(exemplar: Exemplar) -> SourceImage:
    return SourceImage(Path(exemplar.key), exemplar.label, exemplar.name, exemplar.prompt)
