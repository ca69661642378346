"""A cosine classifier with several proxies per class, and the network under it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from escort_cil.networks.backbones import BackboneMaker
from escort_cil.networks.growing import IncrementalNet


class CosineHead(nn.Module):
    """``sigma`` x the cosine of a feature vector and the proxies of a class, weighted by their softmax.

    ``old`` (known * proxies, D) are the proxies of old classes, which are not trained, ``new`` (new * proxies, D) those
    of the phase's, uniform within 1 / sqrt(D).
    """

    def __init__(self, features: int, new: int, proxies: int, before: CosineHead | None) -> None:
        super().__init__()
        self.proxies = proxies
        old = torch.empty(0, features) if before is None else before.weight()
        self.old = nn.Parameter(old.detach().clone(), requires_grad=False)
        self.new = nn.Parameter(torch.empty(new * proxies, features).uniform_(-1, 1) / features**0.5)
        self.sigma: nn.Parameter = nn.Parameter(torch.ones(1) if before is None else before.sigma.detach().clone())

    def weight(self) -> Tensor:
        """All proxies (classes * proxies, D)."""
        return torch.cat([self.old, self.new])

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, classes) of features (B, D)."""
        cosines = F.linear(F.normalize(features, dim=1), F.normalize(self.weight(), dim=1))
        if self.proxies > 1:
            each = cosines.view(len(cosines), -1, self.proxies)
            cosines = (F.softmax(each, dim=-1) * each).sum(-1)
        return self.sigma * cosines


class CosineNet(IncrementalNet):
    """One backbone and a cosine classifier."""

    cosine: CosineHead

    def __init__(self, backbone: BackboneMaker, proxies: int = 1) -> None:
        super().__init__(backbone)
        self.proxies = proxies

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B, classes)."""
        logits: Tensor = self.cosine(features)
        return logits

    def _grow_head(self, new: int) -> None:
        before = self.cosine if self.classes > new else None
        self.cosine = CosineHead(self.feature_dim, new, self.proxies, before)
