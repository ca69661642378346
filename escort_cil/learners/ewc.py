"""EWC, elastic weight consolidation (Kirkpatrick et al. 2017), as PyCIL runs it.

After a phase's training one pass over its images estimates the diagonal of the Fisher information: the squared gradient
of a batch's mean cross-entropy over all classes, averaged over the batches and clipped to ``fisher_max``. As in PyCIL
the gradient is that of a batch, not of each image; images are augmented, and batch normalisation is in training mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from escort_cil.learners.base import Hyperparameters, Learner, Schedule, Stage
from escort_cil.networks import BackboneMaker, GrowingNet, IncrementalNet, Output
from escort_codec.settings import setting


@dataclass(frozen=True, slots=True)
class EwcHyperparameters(Hyperparameters):
    """EWC's own settings."""

    epochs: int = 180
    milestones: tuple[int, ...] = (70, 120, 150)
    penalty: float = setting(1000.0, "Weight of the penalty on changed weights.", least=0)
    fisher_max: float = setting(1e-4, "Upper bound of a weight's Fisher information.", least=0)


class AnchoredNet(IncrementalNet):
    """One backbone and head, and for each weight its value after the last phase and its Fisher information.

    ``means`` and ``fisher`` are buffers with the weights' names; those of a new class are zero until its phase ends.
    """

    def __init__(self, backbone: BackboneMaker) -> None:
        super().__init__(backbone)
        self.means = nn.Module()
        self.fisher = nn.Module()

    def grow(self, new: int) -> None:
        """Adds classes, whose weights have no penalty yet."""
        super().grow(new)
        for name, weight in self.weights():
            for buffers in (self.means, self.fisher):
                values = torch.zeros_like(weight)
                if self.classes > new:
                    before: Tensor = getattr(buffers, name)
                    values[: len(before)] = before
                buffers.register_buffer(name, values)

    def weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The weights, with names that have no dots."""
        for name, weight in self.named_parameters():
            yield name.replace(".", "/"), weight

    def penalty(self) -> Tensor:
        """Half the sum of Fisher information times squared change."""
        terms = [
            (getattr(self.fisher, name) * (weight - getattr(self.means, name)).square()).sum()
            for name, weight in self.weights()
        ]
        return torch.stack(terms).sum() / 2


class Ewc(Learner):
    """Loss: cross-entropy over the new classes + ``penalty`` times the network's penalty. It keeps no memory."""

    name = "ewc"
    hyperparameters = EwcHyperparameters
    uses_memory = False
    config: EwcHyperparameters

    def __init__(self, config: EwcHyperparameters, backbone: BackboneMaker, **more: Any) -> None:
        super().__init__(config, backbone, **more)
        self._stage = 0
        self._squares: dict[str, Tensor] = {}
        self._batches = 0

    def make_network(self) -> GrowingNet:
        """A network with an anchor for each weight."""
        return AnchoredNet(self.backbone)

    def stages(self, phase: int) -> tuple[Stage, ...]:
        """Training, and a pass for the Fisher information."""
        return (*super().stages(phase), Stage(Schedule(1, 0.0, (), 1.0, 0.0), "Fisher information", updates=False))

    def begin_stage(self, stage: int) -> None:
        """Resets the sums of squares."""
        self._stage, self._squares, self._batches = stage, {}, 0

    def loss(self, output: Output, images: Tensor, targets: Tensor) -> Tensor:
        """See the class; in the second stage cross-entropy over all classes."""
        if self._stage == 1:
            return F.cross_entropy(output.logits, targets)
        loss = F.cross_entropy(output.logits[:, self.known :], targets - self.known)
        return loss + self.config.penalty * self._anchored.penalty() if self.known else loss

    def see_gradients(self) -> None:
        """Adds the squared gradients."""
        self._batches += 1
        for name, weight in self._anchored.weights():
            if weight.grad is not None:
                square = weight.grad.square()
                self._squares[name] = self._squares[name] + square if name in self._squares else square

    @torch.no_grad()
    def end_stage(self, stage: int) -> None:
        """Averages the old and the new Fisher information, weighted by their numbers of classes; keeps the weights."""
        if stage == 0:
            return
        net, alpha = self._anchored, self.known / self.total
        for name, weight in net.weights():
            fisher: Tensor = getattr(net.fisher, name)
            new = torch.zeros_like(weight)
            if name in self._squares:
                new = (self._squares[name] / self._batches).clamp(max=self.config.fisher_max)
            # The rows of new classes have no old information.
            old = slice(self.known if name.startswith("head/") else None)
            merged = new.clone()
            merged[old] = alpha * fisher[old] + (1 - alpha) * new[old]
            fisher.copy_(merged)
            getattr(net.means, name).copy_(weight)

    @property
    def _anchored(self) -> AnchoredNet:
        assert isinstance(self.network, AnchoredNet)
        return self.network
