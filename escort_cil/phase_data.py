"""What a phase shows the network, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from escort_cil.data.decoding import Source
from escort_cil.data.images import DecodedImages
from escort_cil.data.items import Items, Shown, decode_items
from escort_cil.evaluator import Evaluator, class_means
from escort_cil.learners import Learner
from escort_cil.memory.budget import Budget, NewShelf, OldShelf, Shelf, fill
from escort_cil.memory.contents import Contents, exemplars_of
from escort_cil.memory.encoder import Maker
from escort_cil.memory.selection import Selection
from escort_cil.memory.synthetic import Copier
from escort_cil.processes import Devices
from escort_cil.run.plan import Plan
from escort_codec.source import SourceImage


class PhaseData:
    """The images of a run's phases: shown to its network in training, and evaluated by it.

    Each image is decoded once, whatever for: into ``images``, and for what ``copier`` makes of it.
    """

    def __init__(
        self,
        plan: Plan,
        learner: Learner,
        devices: Devices,
        images: DecodedImages,
        copier: Copier,
        evaluator: Evaluator,
    ) -> None:
        self.images = images
        self._plan = plan
        self._learner = learner
        self._devices = devices
        self._copier = copier
        self._evaluator = evaluator
        self._shows_copies = learner.uses_memory and plan.config.probability > 0

    def items(self, phase: int, remembered: Contents) -> tuple[Items, int, int]:
        """What a phase is trained on, decoded: its own images, then the memory's; and how many there are of each.

        What was decoded for the phase before and is not shown again is let go of. Raises ImageError, OutputError,
        RegenerationError.
        """
        plan, copier, learner = self._plan, self._copier, self._learner
        reals = [exemplar for exemplar in exemplars_of(remembered) if exemplar.kind == "real"]
        self.images.add(
            [exemplar.image for exemplar in reals],
            names=[f"memory: {exemplar.key}" for exemplar in reals],
            use=lambda i, picture: copier.take_real(reals[i], picture, shown=self._shows_copies),
        )
        memory = shown_memory(remembered, plan.numbers, copier, plan.config.probability)
        own = self._own(phase)
        paths = [image.path for image in own]
        self.images.keep([*paths, *(source for item in memory for source in item.sources)])
        if learner.uses_memory:
            wanted = copier.wanted(
                shown=self._shows_copies, remembered=self._devices.is_main, later=phase + 1 < len(plan.sizes)
            )
            names = [str(path) for path in paths]
            self.images.add(paths, names=names, use=lambda i, picture: copier.take(own[i], picture, wanted))
        shown = shown_images(own, plan.numbers, copier if self._shows_copies else None)
        items = decode_items(
            shown + memory,
            self.images,
            evaluated=learner.uses_memory or learner.sees_all,
            prompts=plan.budget.mix.prompt > 0,
        )
        return items, len(shown), len(memory)

    def _own(self, phase: int) -> list[SourceImage]:
        """A phase's own training images: those of all phases so far where the learner sees all."""
        if self._plan.config.memory_only:
            return []
        phases = range(phase + 1) if self._learner.sees_all else [phase]
        return [image for p in phases for group in self._plan.train_images(p).values() for image in group]

    def features(self, images: Sequence[SourceImage]) -> Tensor:
        """The network's features (N, D), float32, of images of the data folder."""
        return self._features([image.path for image in images], [str(image.path) for image in images])

    def means(self, phase: int, remembered: Contents | None) -> Tensor | None:
        """The class means (classes, D) after a phase: of what is remembered, or of all images where the learner sees
        all; None where there are none. See ``class_means``."""
        plan, so_far = self._plan, self._plan.so_far(phase)
        if remembered is not None:
            labels, sources, called = memory_images(remembered, plan.numbers, self._copier)
            features = self._features(sources, called)
        elif self._learner.sees_all:
            images = [image for label in so_far for image in plan.data.train[label]]
            labels = [plan.numbers[image.label] for image in images]
            features = self.features(images)
        else:
            return None
        return class_means(features, torch.tensor(labels, dtype=torch.int64), len(so_far))

    def _features(self, sources: Sequence[Source], called: Sequence[str]) -> Tensor:
        store, ids = self.images.evaluation(self.images.add(sources, names=called))
        return self._evaluator.run(self._learner.net, store, ids)[1]


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
