"""Predictions: features, and the rankings of the linear head and the nearest mean in each view of the test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from escort_cil.augment import Transform, normalise
from escort_cil.data.decoding import Source, decode_all
from escort_cil.data.store import ImageStore
from escort_cil.devices import Devices
from escort_cil.memory.encoder import Derived
from escort_cil.memory.synthetic import SyntheticImages
from escort_cil.metrics import TOP, Predictions
from escort_cil.networks import GrowingNet, Output
from escort_codec.source import SourceImage

if TYPE_CHECKING:
    from escort_cil.run.settings import EvalViews

CHUNK_BYTES = 256 << 20  # bytes of pixels that are decoded at once, if they are not kept


class Evaluator:
    """Runs a network on images under the evaluation transform, spread over all processes."""

    def __init__(self, devices: Devices, transform: Transform, batch_size: int, workers: int | None = None) -> None:
        self._devices = devices
        self._transform = transform
        self._batch_size = batch_size
        self._workers = workers

    @torch.no_grad()
    def run(self, network: GrowingNet, store: ImageStore, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) and features (N, D), float32 on the CPU, of the images ``ids`` (N,) of a store."""
        network.eval()
        mine = ids[self._devices.part(len(ids))]
        logits, features = [], []
        for batch in torch.split(mine, self._batch_size):
            pixels, _ = store.batch(batch, pin_memory=self._devices.device.type == "cuda")
            images = normalise(pixels.to(self._devices.device, non_blocking=True), self._transform)
            with self._devices.autocast():
                output: Output = network(images.contiguous(memory_format=torch.channels_last))
            logits.append(output.logits.float().cpu())
            features.append(output.features.float().cpu())
        empty_logits, empty_features = torch.empty(0, network.classes), torch.empty(0, network.feature_dim)
        return (
            self._devices.joined(torch.cat(logits or [empty_logits])),
            self._devices.joined(torch.cat(features or [empty_features])),
        )

    def features(self, network: GrowingNet, sources: Sequence[Source], names: Sequence[str]) -> Tensor:
        """Features (N, D) of images, which are decoded for this only."""
        found = [torch.empty(0, network.feature_dim)]
        store = ImageStore.for_evaluation(self._transform)
        chunk = max(1, CHUNK_BYTES // store.image_bytes)
        for at in range(0, len(sources), chunk):
            ids = store.add(sources[at : at + chunk], names=names[at : at + chunk], workers=self._workers)
            found.append(self.run(network, store, ids)[1])
            store.drop(ids)
        return torch.cat(found)


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The means of each class's L2-normalised features, normalised again: (classes, D); NaN for a class without any."""
    unit = F.normalize(features.double(), eps=1e-8)
    sums = torch.zeros(classes, features.shape[1], dtype=torch.float64).index_add_(0, labels, unit)
    counts = torch.bincount(labels, minlength=classes)
    means = F.normalize(sums, eps=1e-300)
    means[counts == 0] = float("nan")
    return means


def distances(features: Tensor, means: Tensor) -> Tensor:
    """Squared distances (N, classes) of L2-normalised features (N, D) to class means; infinite if one is NaN."""
    unit = F.normalize(features.double(), eps=1e-8)
    squared = 2 - 2 * unit @ means.nan_to_num().T
    squared[:, means.isnan().any(dim=1)] = float("inf")
    return squared


def predictions(
    true: Tensor, outputs: Mapping[str, tuple[Tensor, Tensor]], means: Tensor | None
) -> dict[str, Predictions]:
    """The predictions in each view of N images; ``outputs`` maps a view to its logits and features.

    With the views ``real`` and ``regenerated`` there is a third, ``both``: the mean of the two softmax outputs, and
    of the two squared distances to the class means.
    """
    scores = {view: F.softmax(logits.double(), dim=1) for view, (logits, _) in outputs.items()}
    far = {} if means is None else {view: distances(features, means) for view, (_, features) in outputs.items()}
    if {"real", "regenerated"} <= set(outputs):
        scores["both"] = (scores["real"] + scores["regenerated"]) / 2
        if far:
            far["both"] = (far["real"] + far["regenerated"]) / 2
    return {
        view: Predictions(true.numpy(), _ranking(score), _ranking(-far[view]) if far else None)
        for view, score in scores.items()
    }


def _ranking(scores: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The best TOP classes (N, k), best first; a tie goes to the lower number."""
    order = torch.argsort(scores, dim=1, descending=True, stable=True)
    return np.ascontiguousarray(order[:, :TOP].numpy())


class TestSet:
    """Test images; each is decoded once, when its class is added.

    The view "real" needs only the images. For "regenerated" and "both" each image's first copy is stored as well, and
    all three views are evaluated, the chosen one first. ``synthetic`` must serve these images only: they may have the
    names of training images. ``cache_bytes`` of the decoded images are kept in memory (None: all), the rest in a file
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
        self._background = transform.background
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

                encoder.keep(decode_all(sources, store, workers=self._workers, background=self._background))
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
