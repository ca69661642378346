"""MEMO, memory-efficient expandable model (Zhou et al. 2023): only the last stage is new each phase."""

from __future__ import annotations

from dataclasses import dataclass

from escort_cil.learners.der import DerHyperparameters, Expanding
from escort_cil.networks import GrowingNet, SharedStagesNet
from escort_codec.settings import setting


@dataclass(frozen=True, slots=True)
class MemoHyperparameters(DerHyperparameters):
    """MEMO's own settings."""

    train_base: bool = setting(True, "Train the shared stages after the first phase as well.")


class Memo(Expanding):
    """A last stage for each phase, initialised from the one before, on shared stages that stay trainable."""

    name = "memo"
    hyperparameters = MemoHyperparameters
    needs_stages = "shares all stages but the last"
    config: MemoHyperparameters

    def make_network(self) -> GrowingNet:
        """Shared stages and a list of last stages."""
        return SharedStagesNet(self.backbone)

    def freeze(self) -> None:
        """Old last stages are not trained, nor the shared ones if ``train_base`` is off."""
        super().freeze()
        if self.phase and not self.config.train_base:
            self._shared().shared.requires_grad_(False)

    def train_mode(self) -> None:
        """Frozen parts stay in evaluation mode."""
        super().train_mode()
        if self.phase and not self.config.train_base:
            self._shared().shared.eval()

    def _shared(self) -> SharedStagesNet:
        assert isinstance(self.network, SharedStagesNet)
        return self.network
