"""Classifiers of pictures: the network of a finished run, or a model of transformers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from escort_cil.data.store import ImageStore
from escort_cil.devices import Devices
from escort_cil.predictions import Evaluator
from escort_cil.run.folder import METRICS, RunFolder
from escort_cil.run.recorder import load_model
from escort_codec.errors import ModelError
from escort_codec.regenerate.base import RGBImage

BATCH: Final = 16


class Classifier(ABC):
    """Gives classes and features of pictures. ``name`` is shown to the user."""

    name: str

    @abstractmethod
    def classify(self, pictures: Sequence[RGBImage]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The top-1 classes (N,) and the features (N, D) of pictures, uint8 RGB of any size."""


class RunClassifier(Classifier):
    """The network that a run ended with, under the run's own transform."""

    def __init__(self, run: Path, device: str) -> None:
        self.name = str(run)
        model = load_model(run)
        self._network, self._transform = model.network, model.transform
        self._devices = Devices(device, "no")
        self._devices.place(self._network)

    def classify(self, pictures: Sequence[RGBImage]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See ``Classifier.classify``."""
        store = ImageStore.for_evaluation(self._transform)
        try:
            ids = store.add(list(pictures), names=[f"picture {i}" for i in range(len(pictures))])
            logits, features = Evaluator(self._devices, self._transform, BATCH).run(self._network, store, ids)
        finally:
            store.close()
        return logits.argmax(1).numpy().astype(np.int64), features.numpy().astype(np.float32)


class TransformersClassifier(Classifier):
    """An image classifier of transformers. It loads safetensors only and runs no code from the model's folder.

    Features are its last hidden state, averaged over positions.
    """

    def __init__(self, model: str, device: str) -> None:
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        self.name = model
        try:
            self._processor: Any = AutoImageProcessor.from_pretrained(model, trust_remote_code=False)
            self._model: Any = AutoModelForImageClassification.from_pretrained(
                model, trust_remote_code=False, use_safetensors=True
            )
        except (OSError, ValueError, ImportError, KeyError) as exc:
            line = " ".join(str(exc).split())[:200]
            raise ModelError(
                f"{model}: is neither a run nor an image classifier that transformers can load: {line}"
            ) from exc
        self._device = Devices(device, "no").device
        self._model.to(self._device).eval()

    @torch.no_grad()
    def classify(self, pictures: Sequence[RGBImage]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See ``Classifier.classify``."""
        classes, features = [], []
        for start in range(0, len(pictures), BATCH):
            images = [Image.fromarray(pixels) for pixels in pictures[start : start + BATCH]]
            inputs = self._processor(images=images, return_tensors="pt")
            found = self._model(pixel_values=inputs["pixel_values"].to(self._device), output_hidden_states=True)
            classes.append(found.logits.argmax(1).cpu())
            last = found.hidden_states[-1]
            features.append((last.mean(1) if last.ndim == 3 else last.flatten(2).mean(2)).float().cpu())
        return torch.cat(classes).numpy().astype(np.int64), torch.cat(features).numpy().astype(np.float32)


def load_classifier(name: str, device: str) -> Classifier:
    """The classifier of a run folder, else of a transformers model's folder or id. Raises EscortError."""
    if RunFolder(Path(name)).has(METRICS):  # a transformers folder has a config.json, too
        return RunClassifier(Path(name), device)
    return TransformersClassifier(name, device)
