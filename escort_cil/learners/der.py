"""DER, dynamically expandable representation (Yan, Xie and He 2021): a new backbone each phase.

Not Dark Experience Replay, which has the same initials. As in PyCIL only the expansion: no masks, no pruning.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from escort_cil.learners.base import Hyperparameters, Learner, auxiliary_targets
from escort_cil.networks import BackboneListNet, ExpandingNet, GrowingNet, Output
from escort_codec.settings import setting


@dataclass(frozen=True, slots=True)
class DerHyperparameters(Hyperparameters):
    """DER's own settings."""

    milestones: tuple[int, ...] = (80, 120, 150)
    aux_weight: float = setting(1.0, "Weight of the auxiliary head's loss.", least=0)


class Expanding(Learner):
    """Common to DER and MEMO: frozen old parts, an auxiliary head's loss, weight alignment after later phases."""

    grows = True
    config: DerHyperparameters

    @property
    def parts(self) -> ExpandingNet:
        """The network."""
        assert isinstance(self.network, ExpandingNet)
        return self.network

    def freeze(self) -> None:
        """Old parts are not trained."""
        self.parts.freeze_old_parts()

    def train_mode(self) -> None:
        """Old parts stay in evaluation mode."""
        self.parts.train_newest()

    def loss(self, output: Output, images: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy + ``aux_weight`` times the auxiliary head's, in which all old classes are one."""
        loss = F.cross_entropy(output.logits, targets)
        if output.aux is None:
            return loss
        return loss + self.config.aux_weight * F.cross_entropy(output.aux, auxiliary_targets(targets, self.known))

    def end_training(self) -> None:
        """Aligns the new classes' weights."""
        if self.known:
            self.net.head.align(self.total - self.known)


class Der(Expanding):
    """A backbone for each phase, initialised from the one before."""

    name = "der"
    hyperparameters = DerHyperparameters

    def make_network(self) -> GrowingNet:
        """A list of backbones."""
        return BackboneListNet(self.backbone)
