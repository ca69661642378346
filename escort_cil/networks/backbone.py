"""What a backbone is: images in, features out, in two parts; and the registry of the backbones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor, nn

from escort_codec.registry import Registry


class Backbone(nn.Module):
    """``last(shared(images))``: float (B, 3, S, S) to features (B, feature_dim).

    ``shared`` holds the stem and all stages but the last, ``last`` the last stage and the pooling.
    """

    def __init__(self, shared: nn.Module, last: nn.Module, feature_dim: int) -> None:
        super().__init__()
        self.shared = shared
        self.last = last
        self.feature_dim = feature_dim

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, feature_dim)."""
        features: Tensor = self.last(self.shared(images))
        return features


BackboneMaker: TypeAlias = Callable[[], Backbone]
"""Makes a backbone with fresh weights from torch's random numbers."""

backbones: Registry[BackboneMaker] = Registry("backbone")
