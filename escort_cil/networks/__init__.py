"""Backbones and the networks that grow on them."""

from __future__ import annotations

from escort_cil.networks.backbones import (
    Backbone,
    BackboneMaker,
    backbones,
    resnet10,
    resnet18,
    resnet32,
    resnet34,
    resnet50,
)
from escort_cil.networks.cosine import CosineHead, CosineNet
from escort_cil.networks.growing import (
    BackboneListNet,
    ExpandingNet,
    GrowingNet,
    Head,
    IncrementalNet,
    Output,
    SharedStagesNet,
)

for _backbone in (resnet10, resnet18, resnet32, resnet34, resnet50):
    backbones.add(_backbone.__name__, _backbone)

__all__ = [
    "Backbone",
    "BackboneListNet",
    "BackboneMaker",
    "CosineHead",
    "CosineNet",
    "ExpandingNet",
    "GrowingNet",
    "Head",
    "IncrementalNet",
    "Output",
    "SharedStagesNet",
    "backbones",
]
