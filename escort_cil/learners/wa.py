"""WA, weight aligning (Zhao et al. 2020): distillation, and new weight vectors scaled to the old ones' mean norm."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from escort_cil.learners.base import Hyperparameters, Learner
from escort_cil.networks import Output
from escort_codec.settings import setting


@dataclass(frozen=True, slots=True)
class WaHyperparameters(Hyperparameters):
    """WA's own settings."""

    milestones: tuple[int, ...] = (60, 100, 140)
    temperature: float = setting(2.0, "Softens both sides of the distillation.", least=0)


class Wa(Learner):
    """Loss: (1 - k) cross-entropy + k distillation, k = old classes / all classes."""

    name = "wa"
    hyperparameters = WaHyperparameters
    config: WaHyperparameters

    def loss(self, output: Output, images: Tensor, targets: Tensor) -> Tensor:
        """See the class."""
        return self.distilled(output, images, targets, self.config.temperature)

    def end_training(self) -> None:
        """Aligns the new classes' weights."""
        if self.known:
            self.net.head.align(self.total - self.known)

    def end_phase(self) -> None:
        """Keeps the network to distil from."""
        self.keep_old_network()
