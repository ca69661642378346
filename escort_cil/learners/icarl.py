"""iCaRL (Rebuffi et al. 2017) as PyCIL runs it: cross-entropy, and distillation of the old classes' logits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from escort_cil.learners.base import Hyperparameters, Learner, distillation
from escort_cil.networks import Output
from escort_codec.settings import setting


@dataclass(frozen=True, slots=True)
class IcarlHyperparameters(Hyperparameters):
    """iCaRL's own settings."""

    temperature: float = setting(2.0, "Softens both sides of the distillation.", least=0)


class Icarl(Learner):
    """Loss: cross-entropy over all classes + distillation over the old ones."""

    name = "icarl"
    hyperparameters = IcarlHyperparameters
    config: IcarlHyperparameters

    def loss(self, output: Output, images: Tensor, targets: Tensor) -> Tensor:
        """See the class."""
        loss = F.cross_entropy(output.logits, targets)
        if self.old_network is None:
            return loss
        return loss + distillation(output.logits[:, : self.known], self.old_logits(images), self.config.temperature)

    def end_phase(self) -> None:
        """Keeps the network to distil from."""
        self.keep_old_network()
