"""The test images of the classes so far, as they are and regenerated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from escort_cil.augment import Transform
from escort_cil.data.decoding import Source, decode_all
from escort_cil.data.store import ImageStore
from escort_cil.evaluator import Evaluator, predictions
from escort_cil.memory.encoder import Derived
from escort_cil.memory.synthetic import SyntheticImages
from escort_cil.metrics import Predictions
from escort_cil.networks import GrowingNet
from escort_codec.source import SourceImage

if TYPE_CHECKING:
    from escort_cil.run.settings import EvalViews


class TestSet:
    """Test images, decoded once when their class comes.

    The view "real" needs only the images. For "regenerated" and "both" each image's first copy is stored as well, and
    all three views are evaluated, the chosen one first. ``synthetic`` is for these images alone: their names may be
    those of training images. ``cache_bytes`` of the decoded images are kept in memory (None: all), the rest in a file
    in ``folder``.
    """

    __test__ = False  # not pytest's

    def __init__(
        self,
        images: Mapping[str, Sequence[SourceImage]],
        transform: Transform,
        views: EvalViews,
        synthetic: SyntheticImages,
        *,
        cache_bytes: int | None = None,
        folder: Path | None = None,
        workers: int | None = None,
    ) -> None:
        self._images = images
        self._views = views
        self._synthetic = synthetic
        self._workers = workers
        if cache_bytes is not None and views != "real":
            cache_bytes //= 2
        self._real = ImageStore.for_evaluation(transform, cache_bytes=cache_bytes, folder=folder)
        self._copies = ImageStore.for_evaluation(transform, cache_bytes=cache_bytes, folder=folder)
        self._true: list[int] = []

    def add(self, labels: Sequence[str], class_to_idx: Mapping[str, int]) -> None:
        """Adds the images of classes; a class may have none."""
        images = [image for label in labels for image in self._images.get(label, ())]
        names = [str(image.path) for image in images]
        sources: list[Source] = [image.path for image in images]
        if self._views == "real":
            self._real.add(sources, names=names, workers=self._workers)
        else:
            encoder, needs = self._synthetic.encoder, self._synthetic.needs(shown=True)
            with self._real.room(len(images)) as room:

                def store(i: int, picture: Image.Image) -> Derived:
                    room.put(i, picture)
                    return encoder.derive(images[i], picture, needs)

                encoder.keep(decode_all(sources, store, workers=self._workers))
            copies = [row[0] for row in self._synthetic.of_images(images)]
            self._copies.add(copies, names=names, workers=self._workers)
            encoder.forget()
        self._true += [class_to_idx[image.label] for image in images]

    def close(self) -> None:
        """Frees the images' memory and file."""
        self._real.close()
        self._copies.close()

    def predict(self, evaluator: Evaluator, network: GrowingNet, means: Tensor | None) -> dict[str, Predictions]:
        """What the network and the class means predict for all images, by view, the main one first."""
        ids = torch.arange(len(self._true))
        outputs = {"real": evaluator.run(network, self._real, ids)}
        if self._views != "real":
            outputs["regenerated"] = evaluator.run(network, self._copies, ids)
        found = predictions(torch.tensor(self._true, dtype=torch.int64), outputs, means)
        return {view: found[view] for view in (self._views, *(v for v in found if v != self._views))}
