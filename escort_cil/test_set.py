"""The test images of the classes so far, as they are and as their regenerated selves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from escort_cil.augment import Transform
from escort_cil.data.decoding import Source
from escort_cil.evaluator import Evaluator, predictions
from escort_cil.memory.synthetic import Copier
from escort_cil.metrics import Predictions
from escort_cil.networks import GrowingNet
from escort_cil.run.settings import EvalViews
from escort_codec.source import SourceImage


class TestSet:
    """Test images, decoded once when their class comes.

    ``views`` "real" needs the images alone; for "regenerated" and "both" each image's copy (the first seed's) is kept
    beside it, and all three views are evaluated, the one asked for first. ``copier`` is for these images alone: their
    names may be those of training images. Of the decoded images ``cache_bytes`` are kept in memory (None: all), the
    rest in a file in ``folder``.
    """

    __test__ = False  # not pytest's

    def __init__(
        self,
        images: Mapping[str, Sequence[SourceImage]],
        transform: Transform,
        views: EvalViews,
        copier: Copier,
        seeds: Sequence[int],
        *,
        cache_bytes: int | None = None,
        folder: Path | None = None,
        workers: int | None = None,
    ) -> None:
        self._images = images
        self._views = views
        self._copier = copier
        self._seeds = seeds[:1]
        self._workers = workers
        if cache_bytes is not None and views != "real":
            cache_bytes //= 2
        self._real = transform.evaluation_store(cache_bytes=cache_bytes, folder=folder)
        self._copies = transform.evaluation_store(cache_bytes=cache_bytes, folder=folder)
        self._true: list[int] = []

    def add(self, labels: Sequence[str], numbers: Mapping[str, int]) -> None:
        """Takes in the images of classes; a class may have none."""
        images = [image for label in labels for image in self._images.get(label, ())]
        names = [str(image.path) for image in images]
        sources: list[Source] = [image.path for image in images]
        if self._views == "real":
            self._real.add(sources, names=names, workers=self._workers)
        else:
            wanted = self._copier.wanted(shown=True)

            def take(i: int, picture: Image.Image) -> None:
                self._copier.take(images[i], picture, wanted)

            self._real.add(sources, names=names, workers=self._workers, use=take)
            copies = [row[0] for row in self._copier.of_images(images, self._seeds)]
            self._copies.add(copies, names=names, workers=self._workers)
            self._copier.forget()
        self._true += [numbers[image.label] for image in images]

    def close(self) -> None:
        """Frees the images' memory and file."""
        self._real.close()
        self._copies.close()

    def predict(self, evaluator: Evaluator, network: GrowingNet, means: Tensor | None) -> dict[str, Predictions]:
        """What the network and the class means say of all images, by view, the main one first."""
        ids = torch.arange(len(self._true))
        outputs = {"real": evaluator.run(network, self._real, ids)}
        if self._views != "real":
            outputs["regenerated"] = evaluator.run(network, self._copies, ids)
        said = predictions(torch.tensor(self._true, dtype=torch.int64), outputs, means)
        return {view: said[view] for view in (self._views, *(v for v in said if v != self._views))}
