"""References for the methods: no memory, plain replay, and all data."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from escort_cil.learners.base import Hyperparameters, Learner
from escort_cil.networks import Output


@dataclass(frozen=True, slots=True)
class FinetuneHyperparameters(Hyperparameters):
    """PyCIL's later phases."""

    epochs: int = 80
    milestones: tuple[int, ...] = (40, 70)


class Finetune(Learner):
    """Trains on the new classes only and keeps nothing: the lower bound.

    As in PyCIL the loss has only the new classes' logits, so that the weights of old classes are not pushed down.
    """

    name = "finetune"
    hyperparameters = FinetuneHyperparameters
    uses_memory = False

    def loss(self, output: Output, images: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy over the new classes."""
        return F.cross_entropy(output.logits[:, self.known :], targets - self.known)


@dataclass(frozen=True, slots=True)
class ReplayHyperparameters(Hyperparameters):
    """PyCIL's later phases."""

    epochs: int = 70
    milestones: tuple[int, ...] = (30, 50)


class Replay(Learner):
    """Plain cross-entropy on the new classes' images and the memory."""

    name = "replay"
    hyperparameters = ReplayHyperparameters


class Joint(Learner):
    """Trains on all images of all classes so far: the upper bound.

    The only learner that reads images of earlier phases again.
    """

    name = "joint"
    uses_memory = False
    sees_all = True
