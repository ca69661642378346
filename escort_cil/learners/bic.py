"""BiC, bias correction (Wu et al. 2019), as PyCIL runs it: a scale and a shift for the logits of each phase's classes.

From the second phase on, a class-balanced part of the images is held out. The first stage trains the network on the
other images, the second trains the newest scale and shift on the held-out part. As in PyCIL, that stage applies softmax
before the cross-entropy, and batch normalisation keeps updating its statistics.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from escort_cil.learners.base import Hyperparameters, Learner, PhaseItems, Stage
from escort_cil.networks import BackboneMaker, GrowingNet, IncrementalNet, Output
from escort_codec.settings import setting


@dataclass(frozen=True, slots=True)
class BicHyperparameters(Hyperparameters):
    """BiC's own settings; as in PyCIL the first phase trains like the others."""

    init_epochs: int = 170
    init_milestones: tuple[int, ...] = (60, 100, 140)
    init_weight_decay: float = 2e-4
    milestones: tuple[int, ...] = (60, 100, 140)
    temperature: float = setting(2.0, "Softens both sides of the distillation.", least=0)
    split_ratio: float = setting(0.1, "Share of a remembered class that is held back for the bias.", least=0, most=1)


class Bias(nn.Module):
    """``scale`` x logits + ``shift``."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, logits: Tensor) -> Tensor:
        """Corrected logits."""
        return self.scale * logits + self.shift


class BiasedNet(IncrementalNet):
    """One backbone and head, and a scale and a shift for the logits of each phase's classes."""

    def __init__(self, backbone: BackboneMaker) -> None:
        super().__init__(backbone)
        self.biases = nn.ModuleList()
        self.groups: list[int] = []

    def grow(self, new: int) -> None:
        """Adds classes with scale 1 and shift 0."""
        super().grow(new)
        self.biases.append(Bias())
        self.groups.append(new)

    def classify(self, features: Tensor) -> Tensor:
        """Corrected logits."""
        parts = torch.split(super().classify(features), self.groups, dim=1)
        return torch.cat([bias(part) for bias, part in zip(self.biases, parts, strict=True)], dim=1)


class Bic(Learner):
    """Loss: (1 - k) cross-entropy + k distillation, k = old classes / all classes; then that of the bias."""

    name = "bic"
    hyperparameters = BicHyperparameters
    config: BicHyperparameters
    correcting = False
    """Whether the second stage is running."""

    def make_network(self) -> GrowingNet:
        """A network with biases."""
        return BiasedNet(self.backbone)

    def stages(self, phase: int) -> tuple[Stage, ...]:
        """Training, and from the second phase on the bias correction, of the same length."""
        training = self.config.schedule(phase)
        return (Stage(training), Stage(training, "bias correction")) if phase else (Stage(training),)

    def items(self, stage: int, given: PhaseItems) -> Tensor | None:
        """For the second stage ``split_ratio`` of the mean number of remembered images per class, of each class (at
        least one, but never the last one of a class); for the first stage the others. Without a memory, all are in
        the first.
        """
        if not self.known:
            return None
        apart = torch.zeros(len(given.labels), dtype=torch.bool)
        if given.remembered:
            count = max(1, int(self.config.split_ratio * given.remembered / self.known))
            order = torch.randperm(len(given.labels), generator=given.generator)
            for label in range(self.total):
                of_class = order[given.labels[order] == label]
                apart[of_class[: min(count, len(of_class) - 1)]] = len(of_class) > 1
        return torch.nonzero(apart if stage else ~apart).flatten()

    def begin_stage(self, stage: int) -> None:
        """The first stage trains all but the biases, the second the newest bias alone."""
        self.correcting = bool(stage)
        self.net.requires_grad_(not self.correcting)
        biases = self._biases()
        biases.requires_grad_(False)
        if self.correcting:
            biases[-1].requires_grad_(True)

    def loss(self, output: Output, images: Tensor, targets: Tensor) -> Tensor:
        """See the class."""
        if self.correcting:
            return F.cross_entropy(F.softmax(output.logits, dim=1), targets)
        return self.distilled(output, images, targets, self.config.temperature)

    def end_phase(self) -> None:
        """Keeps the network to distil from."""
        self.keep_old_network()

    def _biases(self) -> nn.ModuleList:
        assert isinstance(self.network, BiasedNet)
        return self.network.biases
