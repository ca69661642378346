"""What a phase shows the network, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from escort_cil.copies import Copier
from escort_cil.decoded import DecodedImages
from escort_cil.decoding import Source
from escort_cil.evaluate import Evaluator, class_means
from escort_cil.items import Items, Shown, decode_items
from escort_cil.maker import Maker
from escort_cil.memory.budget import Budget, NewShelf, OldShelf, Shelf, fill
from escort_cil.memory.contents import Contents, exemplars_of
from escort_cil.networks import GrowingNet
from escort_cil.selection import Selection
from escort_codec.source import SourceImage


class PhaseData:
    """The images of a run's phases: shown to its network in training, and evaluated by it.

    ``numbers`` are the classes'. Each image is decoded once, for both and for what is made of it: see ``decoded``.
    """

    def __init__(
        self,
        images: DecodedImages,
        copier: Copier,
        evaluator: Evaluator,
        numbers: Mapping[str, int],
        probability: float,
    ) -> None:
        self.images = images
        self._copier = copier
        self._evaluator = evaluator
        self._numbers = numbers
        self._probability = probability

    def items(
        self, own: Sequence[SourceImage], remembered: Contents, *, remembers: bool, evaluated: bool
    ) -> tuple[Items, int]:
        """What is trained on: own images, then the memory's, all decoded; and how many of these there are.

        ``remembers``: own images have copies and may become exemplars. ``evaluated``: features of them will be asked
        for. What was decoded for the phase before and is not shown again is let go of. Raises ImageError, OutputError,
        RegenerationError.
        """
        copier, copies = self._copier, self._probability > 0
        reals = [exemplar for exemplar in exemplars_of(remembered) if exemplar.kind == "real"]
        self.images.add(
            [exemplar.image for exemplar in reals],
            names=[f"memory: {exemplar.key}" for exemplar in reals],
            use=lambda i, picture: copier.take_real(reals[i], picture, copies=copies),
        )
        memory = shown_memory(remembered, self._numbers, copier, self._probability)
        paths = [image.path for image in own]
        self.images.keep([*paths, *(source for item in memory for source in item.sources)])
        if remembers:
            self.images.add(
                paths,
                names=[str(path) for path in paths],
                use=lambda i, picture: copier.take(own[i], picture, copies=copies),
            )
        shown = shown_images(own, self._numbers, copier if copies and remembers else None)
        return decode_items(shown + memory, self.images, evaluated=evaluated), len(memory)

    def features(self, network: GrowingNet, images: Sequence[SourceImage]) -> Tensor:
        """The network's features (N, D), float32, of images of the data folder."""
        return self._features(network, [image.path for image in images], [str(image.path) for image in images])

    def means_of_images(self, network: GrowingNet, images: Sequence[SourceImage], classes: int) -> Tensor:
        """The class means (classes, D) of images of the data folder: see ``class_means``."""
        labels = torch.tensor([self._numbers[image.label] for image in images], dtype=torch.int64)
        return class_means(self.features(network, images), labels, classes)

    def means_of_memory(self, network: GrowingNet, contents: Contents, classes: int) -> Tensor:
        """The class means (classes, D) of what is remembered."""
        labels, sources, called = memory_images(contents, self._numbers, self._copier)
        features = self._features(network, sources, called)
        return class_means(features, torch.tensor(labels, dtype=torch.int64), classes)

    def _features(self, network: GrowingNet, sources: Sequence[Source], called: Sequence[str]) -> Tensor:
        store, ids = self.images.evaluation(self.images.add(sources, names=called))
        return self._evaluator.run(network, store, ids)[1]


def shown_images(images: Sequence[SourceImage], numbers: Mapping[str, int], copier: Copier | None) -> list[Shown]:
    """Images of the data folder, with their copies where a ``copier`` is given."""
    copies = copier.of_images(images) if copier is not None else [[] for _ in images]
    return [
        Shown(numbers[image.label], image.path, row, str(image.path)) for image, row in zip(images, copies, strict=True)
    ]


def shown_memory(contents: Contents, numbers: Mapping[str, int], copier: Copier, probability: float) -> list[Shown]:
    """Remembered exemplars: nothing but what the memory's file holds is opened."""
    exemplars = exemplars_of(contents)
    copies = copier.of_exemplars(exemplars, reals=probability > 0)
    return [
        Shown(numbers[e.label], e.image if e.kind == "real" else None, row, f"memory: {e.key}")
        for e, row in zip(exemplars, copies, strict=True)
    ]


def memory_images(
    contents: Contents, numbers: Mapping[str, int], copier: Copier
) -> tuple[list[int], list[Source], list[str]]:
    """Class numbers, one image each, and names of what is remembered: a prompt's image is its first copy."""
    shown = shown_memory(contents, numbers, copier, 0.0)
    return (
        [item.label for item in shown],
        [item.copies[0] if item.own is None else item.own for item in shown],
        [item.name for item in shown],
    )


def remember(
    held: Contents,
    new: Mapping[str, Sequence[SourceImage]],
    features: Mapping[str, Tensor],
    *,
    budget: Budget,
    maker: Maker,
    select: Selection,
    seeds: Mapping[str, int],
) -> Contents:
    """The memory after a phase: what is ``held`` of old classes, and of ``new`` ones what ``select`` puts first.

    ``features`` (N, D) are those of each new class's images, ``seeds`` the selection's.
    """
    shelves: list[Shelf] = [OldShelf(memory) for memory in held]
    for label, images in new.items():
        order = select(np.asarray(features[label], np.float64), len(images), seeds[label])
        shelves.append(NewShelf(label, [images[i] for i in order], maker))
    return fill(shelves, budget)
