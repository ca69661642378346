"""PODNet, pooled outputs distillation (Douillard et al. 2020), as PyCIL runs it.

A cosine classifier with ten proxies per class and an NCA loss; distillation of the features, and of the maps after each
stage, pooled over rows and over columns; then a short fine-tuning on as many images of each new class as are remembered
of an old one. As in PyCIL the loss has no margin and no scale besides the classifier's, and the denominator counts the
true class as if its logit were the largest; the paper's authors leave it out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from escort_cil.learners.base import Hyperparameters, Learner, PhaseItems, Schedule, Stage
from escort_cil.networks import Backbone, BackboneMaker, CosineNet, GrowingNet, Output
from escort_codec.settings import setting


@dataclass(frozen=True, slots=True)
class PodnetHyperparameters(Hyperparameters):
    """PODNet's own settings."""

    init_epochs: int = 160
    epochs: int = 160
    weight_decay: float = 5e-4
    scheduler: str = "cosine"
    finetune_epochs: int = setting(20, "Epochs of the training on as many images of each class.", least=1)
    finetune_lr: float = setting(0.005, "Its learning rate.", least=0, most=1e30)
    proxies: int = setting(10, "Proxies a class.", least=1)
    spatial_weight: float = setting(5.0, "Weight of the maps' distillation.", least=0)
    flat_weight: float = setting(1.0, "Weight of the features' distillation.", least=0)

    def shortened(self, epochs: int) -> Any:
        """See ``Hyperparameters``; the fine-tuning is scaled likewise."""
        after = max(1, round(self.finetune_epochs * epochs / self.epochs))
        return replace(Hyperparameters.shortened(self, epochs), finetune_epochs=after)


class ProfilesNet(CosineNet):
    """A ``CosineNet`` whose output ``aux`` holds the profiles of the maps after each stage, concatenated.

    ``sizes`` are their lengths.
    """

    def __init__(self, backbone: BackboneMaker, proxies: int = 1) -> None:
        super().__init__(backbone, proxies)
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Output:
        """Features, logits and profiles of images (B, 3, S, S)."""
        assert isinstance(self.body, Backbone)
        features, maps = self.body.with_maps(images)
        profiles = [profile(each) for each in maps]
        self.sizes = [each.shape[1] for each in profiles]
        return Output(features, self.classify(features), torch.cat(profiles, dim=1))


class Podnet(Learner):
    """Loss: NCA loss + (flat + spatial distillation) x sqrt(all classes / new classes)."""

    name = "podnet"
    hyperparameters = PodnetHyperparameters
    needs_stages = "distils the maps after each stage"
    config: PodnetHyperparameters

    def make_network(self) -> GrowingNet:
        """A cosine classifier, and profiles."""
        return ProfilesNet(self.backbone, self.config.proxies)

    def stages(self, phase: int) -> tuple[Stage, ...]:
        """Training, and from the second phase on the fine-tuning."""
        c = self.config
        after = Schedule(c.finetune_epochs, c.finetune_lr, (), 1.0, c.weight_decay, "cosine")
        return (*super().stages(phase), *([Stage(after, "balanced")] if phase else []))

    def items(self, stage: int, given: PhaseItems) -> Tensor | None:
        """For the second stage the remembered items, and as many of each new class as of an old one."""
        if stage == 0:
            return None
        remembered = torch.arange(given.own, len(given.labels))
        if not given.remembered:
            return remembered
        return torch.cat([remembered, given.herd(max(1, given.remembered // self.known))])

    def loss(self, output: Output, images: Tensor, targets: Tensor) -> Tensor:
        """See the class."""
        loss = nca(output.logits, targets)
        if self.old_network is None:
            return loss
        with torch.no_grad():
            old: Output = self.old_network(images)
        factor = math.sqrt(self.total / (self.total - self.known))
        same = torch.ones(len(targets), device=targets.device)
        flat = F.cosine_embedding_loss(output.features, old.features, same)
        assert output.aux is not None
        assert old.aux is not None
        spatial = pod_spatial(output.aux, old.aux, self._sizes())
        return loss + factor * (self.config.flat_weight * flat + self.config.spatial_weight * spatial)

    def end_phase(self) -> None:
        """Keeps the network to distil from."""
        self.keep_old_network()

    def _sizes(self) -> Sequence[int]:
        assert isinstance(self.network, ProfilesNet)
        return self.network.sizes


def nca(logits: Tensor, targets: Tensor) -> Tensor:
    """-log(exp(s_y) / (exp(s_max) + sum of exp(s_i), i != y)): logits s (B, classes); the mean over the batch."""
    above = logits - logits.max(dim=1, keepdim=True).values
    right = above.gather(1, targets[:, None])
    others = above.scatter(1, targets[:, None], 0.0)  # the true class counts as exp(0)
    return (torch.logsumexp(others, dim=1) - right[:, 0]).mean()


def pod_spatial(profiles: Tensor, old: Tensor, sizes: Sequence[int]) -> Tensor:
    """The distance of two networks' profiles (B, sum of ``sizes``) per stage, averaged over stages and images."""
    stages = zip(torch.split(profiles, list(sizes), dim=1), torch.split(old, list(sizes), dim=1), strict=True)
    return torch.stack([(a - b).norm(dim=1).mean() for a, b in stages]).mean()


def profile(maps: Tensor) -> Tensor:
    """Squared maps (B, C, H, W), summed over columns and over rows, concatenated and normalised: (B, C (H + W))."""
    squares = maps.float().square()
    return F.normalize(torch.cat([squares.sum(dim=3).flatten(1), squares.sum(dim=2).flatten(1)], dim=1), dim=1)
