"""The images of a phase: decodes each once, derives its exemplars, and stores it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from escort_cil.data.decoding import Source, stored_source
from escort_cil.data.images import DecodedImages, Item, Items, store_items
from escort_cil.learners import Learner
from escort_cil.memory.contents import Contents, exemplars_of
from escort_cil.memory.kinds import is_regenerated
from escort_cil.memory.synthetic import SyntheticImages
from escort_cil.predictions import Evaluator, class_means
from escort_cil.run.plan import RunPlan
from escort_codec.source import SourceImage


class PhaseData:
    """The images of a run's phases, for training and for evaluation.

    ``load`` decodes a phase's images and derives exemplars of them, which ``features``, ``means`` and the memory then
    use. ``writes``: this process writes the memory.
    """

    def __init__(
        self, plan: RunPlan, learner: Learner, images: DecodedImages, synthetic: SyntheticImages, *, writes: bool
    ) -> None:
        self.images = images
        self._plan = plan
        self._learner = learner
        self._synthetic = synthetic
        self._writes = writes
        self._shows_copies = learner.uses_memory and plan.config.probability > 0

    def load(self, phase: int, remembered: Contents) -> tuple[Items, int, int]:
        """The items of a phase: its own images, then those ``remembered``; and the numbers of both.

        Decodes each image once, derives its exemplars and stores it; then makes synthetic images of the prompts.
        Raises ImageError, OutputError, RegenerationError.
        """
        own = [] if self._plan.config.memory_only else self._own(phase)
        class_to_idx = self._plan.class_to_idx
        self._decode_memory(remembered)
        memory = memory_items(remembered, class_to_idx, self._synthetic, self._plan.config.probability > 0)
        self.images.keep([*(image.path for image in own), *(source for item in memory for source in item.sources)])
        if own:
            self.decode(phase)
        items = image_items(own, class_to_idx, self._synthetic if self._shows_copies else None)
        stored = store_items(
            items + memory,
            self.images,
            evaluated=self._learner.reads_features,
            prompts=any(kind.regenerated for kind in self._plan.budget.keep.kinds),
        )
        return stored, len(items), len(memory)

    def decode(self, phase: int) -> None:
        """Decodes the phase's own images and derives the exemplars that may be needed.

        Raises ImageError, OutputError.
        """
        if not self._learner.uses_memory:
            return  # ``store_items`` decodes them
        encoder, own, memory_only = self._synthetic.encoder, self._own(phase), self._plan.config.memory_only
        needs = self._synthetic.needs(
            shown=self._shows_copies,
            remembered=self._writes,
            later=memory_only or phase + 1 < len(self._plan.sizes),
        )
        if memory_only and not needs.kinds:
            return  # exemplars are the files themselves
        derived = self.images.decode(
            [image.path for image in own],
            lambda i, picture: encoder.derive(own[i], picture, needs),
            names=[str(image.path) for image in own],
        )
        encoder.keep(derived)

    def _decode_memory(self, remembered: Contents) -> None:
        """Decodes remembered image files and, if copies are shown, derives the exemplars for these."""
        encoder, kind = self._synthetic.encoder, self._synthetic.of_real(self._shows_copies)
        reals = [exemplar for exemplar in exemplars_of(remembered) if not is_regenerated(exemplar)]
        derived = self.images.decode(
            [stored_source(exemplar) for exemplar in reals],
            lambda i, picture: encoder.derive_from_real(reals[i], picture, kind) if kind is not None else {},
            names=[f"memory: {exemplar.key}" for exemplar in reals],
        )
        encoder.keep(derived)

    def _own(self, phase: int) -> list[SourceImage]:
        """A phase's own training images: those of all phases so far if the learner sees all."""
        phases = range(phase + 1) if self._learner.sees_all else [phase]
        return [image for p in phases for group in self._plan.train_images(p).values() for image in group]

    def features(self, images: Sequence[SourceImage], evaluator: Evaluator) -> Tensor:
        """The network's features (N, D), float32, of images of the data folder."""
        return self._features([image.path for image in images], [str(image.path) for image in images], evaluator)

    def own_features(self, phase: int, evaluator: Evaluator) -> tuple[Tensor, Tensor]:
        """The network's features (N, D) of a phase's own images, and their class numbers (N,)."""
        own = self._own(phase)
        labels = [self._plan.class_to_idx[image.label] for image in own]
        return self.features(own, evaluator), torch.tensor(labels, dtype=torch.int64)

    def means(self, phase: int, remembered: Contents | None, evaluator: Evaluator) -> Tensor | None:
        """The class means (classes, D) after a phase: of the memory, or of all images if the learner sees all; else
        None. See ``class_means``."""
        plan, labels = self._plan, self._plan.labels_until(phase)
        if remembered is not None:
            targets, sources, names = memory_images(remembered, plan.class_to_idx, self._synthetic)
            features = self._features(sources, names, evaluator)
        elif self._learner.sees_all:
            images = [image for label in labels for image in plan.data.train[label]]
            targets = [plan.class_to_idx[image.label] for image in images]
            features = self.features(images, evaluator)
        else:
            return None
        return class_means(features, torch.tensor(targets, dtype=torch.int64), len(labels))

    def _features(self, sources: Sequence[Source], names: Sequence[str], evaluator: Evaluator) -> Tensor:
        store, ids = self.images.evaluation(self.images.add(sources, names=names))
        return evaluator.run(self._learner.net, store, ids)[1]


def image_items(
    images: Sequence[SourceImage], class_to_idx: Mapping[str, int], synthetic: SyntheticImages | None
) -> list[Item]:
    """Images of the data folder, with their copies if ``synthetic`` is given."""
    copies = synthetic.of_images(images) if synthetic is not None else [[] for _ in images]
    return [
        Item(class_to_idx[image.label], image.path, row, str(image.path))
        for image, row in zip(images, copies, strict=True)
    ]


def memory_items(
    contents: Contents, class_to_idx: Mapping[str, int], synthetic: SyntheticImages, copies_of_reals: bool
) -> list[Item]:
    """Remembered exemplars, from the contents of the memory file alone."""
    exemplars = exemplars_of(contents)
    copies = synthetic.of_exemplars(exemplars, reals=copies_of_reals)
    return [
        Item(class_to_idx[e.label], None if is_regenerated(e) else stored_source(e), row, f"memory: {e.key}")
        for e, row in zip(exemplars, copies, strict=True)
    ]


def memory_images(
    contents: Contents, class_to_idx: Mapping[str, int], synthetic: SyntheticImages
) -> tuple[list[int], list[Source], list[str]]:
    """Class numbers, images and names of remembered exemplars; a prompt's image is its first copy."""
    items = memory_items(contents, class_to_idx, synthetic, False)
    return (
        [item.label for item in items],
        [item.copies[0] if item.own is None else item.own for item in items],
        [item.name for item in items],
    )
