"""Makes exemplars of images; each image is decoded once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from escort_cil.data.decoding import decode_all, stored_source
from escort_cil.memory.kinds import ExemplarKind
from escort_cil.memory.prompts import Prompts
from escort_codec.exemplar import Exemplar
from escort_codec.source import SourceImage

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class Needs:
    """What to derive from an image when it is decoded.

    ``kinds`` are exemplars for copies or for the memory. ``of_real`` is the kind from which the image is regenerated
    when it is a real exemplar.
    """

    kinds: tuple[ExemplarKind, ...] = ()
    of_real: ExemplarKind | None = None


Derived: TypeAlias = Mapping[tuple[ExemplarKind, Path | str], Exemplar]
"""New exemplars by kind and source: an image file, or the key of a real exemplar."""


class ExemplarEncoder:
    """Makes exemplars of images and keeps them until ``forget``: one prompt serves for copies and for the memory.

    ``derive`` makes exemplars of a picture that is decoded anyway, and ``keep`` stores them. Images that were not
    derived before are decoded when their exemplars are needed, in ``workers`` threads (None: one per core).
    """

    def __init__(self, prompts: Prompts, workers: int | None = None) -> None:
        self._prompts = prompts
        self._workers = workers
        self._made: dict[tuple[ExemplarKind, Path | str], Exemplar] = {}

    def derive(self, image: SourceImage, picture: Image.Image, needs: Needs) -> Derived:
        """New exemplars of an image, made from its picture (Pillow, mode RGB). Changes nothing: any thread may call it.

        Raises ImageError.
        """
        kinds = {kind for kind in needs.kinds if kind.find(image, self._prompts) is None}
        kinds |= {needs.of_real} if needs.of_real is not None else set()
        return {(kind, image.path): kind.make(image, picture, self._prompts) for kind in kinds}

    def derive_from_real(self, exemplar: Exemplar, picture: Image.Image, kind: ExemplarKind) -> Derived:
        """A new exemplar of ``kind``, made from a real exemplar's picture. Changes nothing: any thread may call it."""
        image = SourceImage(Path(exemplar.key), exemplar.label, exemplar.name, exemplar.prompt)
        return {(kind, exemplar.key): kind.make(image, picture, self._prompts)}

    def keep(self, derived: Iterable[Derived]) -> None:
        """Keeps derived exemplars until ``forget``."""
        for made in derived:
            self._made.update(made)

    def exemplars(self, kind: ExemplarKind, images: Sequence[SourceImage]) -> list[Exemplar]:
        """Exemplars of one kind, one per image. Raises ImageError."""
        if not kind.decodes:
            return [kind.make(image, None, self._prompts) for image in images]
        found = [kind.find(image, self._prompts) or self._made.get((kind, image.path)) for image in images]
        missing = [image for image, exemplar in zip(images, found, strict=True) if exemplar is None]
        self.keep(
            decode_all(
                [image.path for image in missing],
                lambda i, picture: self.derive(missing[i], picture, Needs((kind,))),
                workers=self._workers,
                background=self._prompts.options.background_colour,
            )
        )
        return [e or self._made[kind, image.path] for image, e in zip(images, found, strict=True)]

    def of_reals(self, kind: ExemplarKind, exemplars: Sequence[Exemplar]) -> list[Exemplar]:
        """Exemplars of one kind, one per real exemplar, made from its image file. Raises ImageError."""
        missing = [exemplar for exemplar in exemplars if (kind, exemplar.key) not in self._made]
        self.keep(
            decode_all(
                [stored_source(exemplar) for exemplar in missing],
                lambda i, picture: self.derive_from_real(missing[i], picture, kind),
                names=[exemplar.key for exemplar in missing],
                workers=self._workers,
                background=self._prompts.options.background_colour,
            )
        )
        return [self._made[kind, exemplar.key] for exemplar in exemplars]

    def forget(self, held: Sequence[Exemplar] = ()) -> None:
        """Drops the exemplars of a phase's images, except those from which the ``held`` real exemplars are
        regenerated."""
        made = {(kind, exemplar.key): exemplar for (kind, _), exemplar in self._made.items() if kind.regenerated}
        keys = {exemplar.key for exemplar in held if exemplar.kind == "real"}
        self._made = {place: exemplar for place, exemplar in made.items() if place[1] in keys}
