"""LwF, learning without forgetting (Li and Hoiem 2016), as PyCIL runs it: distillation on the new classes' images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from escort_cil.learners.base import Hyperparameters, Learner, distillation
from escort_cil.networks import Output
from escort_codec.settings import setting


@dataclass(frozen=True, slots=True)
class LwfHyperparameters(Hyperparameters):
    """LwF's own settings."""

    init_milestones: tuple[int, ...] = (60, 120, 160)
    epochs: int = 250
    milestones: tuple[int, ...] = (60, 120, 180, 220)
    temperature: float = setting(2.0, "Softens both sides of the distillation.", least=0)
    distillation_weight: float = setting(3.0, "Weight of the distillation.", least=0)


class Lwf(Learner):
    """Loss: cross-entropy over the new classes + ``distillation_weight`` times the distillation. It keeps no memory."""

    name = "lwf"
    hyperparameters = LwfHyperparameters
    uses_memory = False
    config: LwfHyperparameters

    def loss(self, output: Output, images: Tensor, targets: Tensor) -> Tensor:
        """See the class."""
        loss = F.cross_entropy(output.logits[:, self.known :], targets - self.known)
        if self.old_network is None:
            return loss
        old = distillation(output.logits[:, : self.known], self.old_logits(images), self.config.temperature)
        return loss + self.config.distillation_weight * old

    def end_phase(self) -> None:
        """Keeps the network to distil from."""
        self.keep_old_network()
