"""SimpleCIL (Zhou et al. 2023): the weights of a class are the mean of its features.

As in PyCIL the first phase trains backbone and classifier; then class means replace the classifier, and later phases
train nothing. With a frozen (pretrained) backbone no phase trains anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from escort_cil.learners.base import Hyperparameters, Learner, Stage
from escort_cil.networks import CosineNet, GrowingNet


@dataclass(frozen=True, slots=True)
class SimplecilHyperparameters(Hyperparameters):
    """PyCIL's settings of the first phase; later phases do not train."""

    init_lr: float = 0.01
    scheduler: str = "cosine"
    batch_size: int = 256


class Simplecil(Learner):
    """Plain cross-entropy of cosines in the first phase. It keeps no memory."""

    name = "simplecil"
    hyperparameters = SimplecilHyperparameters
    uses_memory = False
    sees_features = True
    file_keys: ClassVar[Mapping[str, str]] = {"min_lr": "min_lr"}

    def make_network(self) -> GrowingNet:
        """A cosine classifier with one proxy per class."""
        return CosineNet(self.backbone)

    def stages(self, phase: int) -> tuple[Stage, ...]:
        """Those of the first phase, unless the backbone is frozen."""
        return () if phase or self.frozen else super().stages(phase)

    @torch.no_grad()
    def see_features(self, features: Tensor, labels: Tensor) -> None:
        """Sets the classifier to the feature means of the new classes; a class without images keeps its weights."""
        assert isinstance(self.network, CosineNet)
        proxies = self.network.cosine.new
        for row, label in enumerate(range(self.known, self.total)):
            if (mine := labels == label).any():
                proxies[row] = features[mine].mean(dim=0).to(proxies)
