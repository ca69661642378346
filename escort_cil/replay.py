"""Measures what a memory is worth: trains a small network on it alone and tests it on real images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType, TracebackType
from typing import Final, Self

import numpy as np
import torch

from escort_cil.augment import transforms
from escort_cil.data.images import DecodedImages, store_items
from escort_cil.data.store import ImageStore
from escort_cil.devices import Devices
from escort_cil.epochs import LoopSettings, derived_seed, train_epochs
from escort_cil.learners import learners
from escort_cil.memory.budget import Budget, fill, make_shelves
from escort_cil.memory.contents import exemplars_of, packed
from escort_cil.memory.encoder import ExemplarEncoder
from escort_cil.memory.keep import Keep
from escort_cil.memory.prompts import Prompts
from escort_cil.memory.synthetic import SyntheticCache, SyntheticImages
from escort_cil.networks import backbone_maker
from escort_cil.phase_data import image_items, memory_items
from escort_cil.predictions import Evaluator
from escort_codec.errors import ConfigError
from escort_codec.recipe import EncodeOptions
from escort_codec.regenerate.base import Regenerator
from escort_codec.settings import setting
from escort_codec.source import SourceImage

Images = Mapping[str, Sequence[SourceImage]]

SEEDS: Final = (0, 1)
"""Seeds of the images that are regenerated from a prompt."""


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """The network and its training. Every memory gets the same number of steps, whatever it holds."""

    backbone: str = setting("resnet10", "The network.")
    image_size: int = setting(64, "Pixels of its images.", least=8, most=4096)
    steps: int = setting(300, "Optimiser steps.", least=1)
    batch_size: int = setting(32, "Images per step.", least=2)
    lr: float = setting(0.05, "Learning rate.", least=0, most=1e30)
    seed: int = setting(1, "Seed of weights, batches and which images are kept.", least=0, most=(1 << 32) - 1)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """``accuracy`` on the real test images in per cent, the mean over classes; the memory's exemplars and bytes.

    ``accuracy`` is None if no exemplar fits, or too few to train on.
    """

    keep: str
    accuracy: float | None
    exemplars: int
    bytes: int


class ReplayTest:
    """Trains on memories of some images and tests on others. Use it in a ``with`` block.

    ``new`` are images of other classes, trained on as they are beside the memory, as in a later phase of a run.
    ``test`` has images of all classes. ``encode`` are the options of prompts that ``keep`` does not set. Several tests
    with one ``encoder`` share its exemplars. Deterministic on one machine.
    """

    def __init__(
        self,
        train: Images,
        test: Images,
        regenerator: Regenerator,
        settings: ReplaySettings = ReplaySettings(),
        *,
        new: Images = MappingProxyType({}),
        encode: EncodeOptions | None = None,
        encoder: ExemplarEncoder | None = None,
        device: str = "cpu",
        workers: int | None = None,
    ) -> None:
        self.train, self.settings = train, settings
        self._new = [image for images in new.values() for image in images]
        self._labels = {label: number for number, label in enumerate((*train, *new))}
        self._transform = transforms.get("small")(settings.image_size)
        self._devices = Devices(device, "no")
        self._regenerator = regenerator
        encode = replace(encode or EncodeOptions(), seeds=SEEDS, workers=workers)
        self._encoder = encoder or ExemplarEncoder(Prompts(encode), workers)
        self._workers = workers
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(TemporaryDirectory(prefix="escort-replay-")))
            self._test = ImageStore.for_evaluation(self._transform)
            stack.callback(self._test.close)
            shown = [image for label in self._labels for image in test.get(label, ())]
            names = [str(image.path) for image in shown]
            self._ids = self._test.add([image.path for image in shown], names=names, workers=workers)
            self._targets = torch.tensor([self._labels[image.label] for image in shown], dtype=torch.int64)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, keep: Keep, most_bytes: int, *, stepped: Callable[[int], None] = lambda steps: None) -> ReplayResult:
        """Fills a memory of at most ``most_bytes`` as ``keep`` says, and trains and tests a network.

        The seed draws the order in which images are kept. Raises ImageError, RegenerationError.
        """
        budget = Budget(keep, most_bytes, "bytes", per_class=False)
        encoder = self._encoder
        synthetic = SyntheticImages(encoder, SyntheticCache(self._folder, self._regenerator), keep, SEEDS)
        seed = self.settings.seed
        ordered = {
            label: [images[i] for i in np.random.default_rng([seed, number]).permutation(len(images))]
            for number, (label, images) in enumerate(self.train.items())
        }
        try:
            contents = fill(make_shelves((), ordered, budget, encoder), budget)
        except ConfigError:  # no exemplar fits
            return ReplayResult(str(keep), None, 0, 0)
        count, size = len(exemplars_of(contents)), len(packed(contents))
        if count < 2:
            return ReplayResult(str(keep), None, count, size)
        images = DecodedImages(self._transform, evaluates=False, workers=self._workers)
        try:
            shown = [
                *image_items(self._new, self._labels, None),
                *memory_items(contents, self._labels, synthetic, False),
            ]
            items = store_items(shown, images, evaluated=False)
            batch = min(self.settings.batch_size, len(shown))
            epochs = max(1, round(self.settings.steps * batch / len(shown)))
            kind = learners.get("replay")
            hyperparameters = replace(
                kind.hyperparameters(), batch_size=batch, init_lr=self.settings.lr, lr=self.settings.lr
            ).shortened(epochs)
            learner = kind(hyperparameters, backbone_maker(self.settings.backbone))
            learner.begin_phase(len(self._labels), derived_seed(seed, "weights", 0))
            loop = LoopSettings(self._devices, self._transform, seed, 0.0, 1, 1)
            train_epochs(loop, learner, images.training, items, epoch_ended=lambda done, state: stepped(done))
            evaluator = Evaluator(self._devices, self._transform, 128, self._workers)
            logits, _ = evaluator.run(learner.net, self._test, self._ids)
        finally:
            images.close()
        right = (logits.argmax(1) == self._targets).double()
        classes = [right[self._targets == number].mean() for number in sorted(set(self._targets.tolist()))]
        return ReplayResult(str(keep), 100 * float(torch.stack(classes).mean()), count, size)
