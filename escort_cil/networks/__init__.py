"""Backbones and the networks that grow on them."""

from __future__ import annotations

from escort_cil.networks.backbone import Backbone, BackboneMaker, backbones
from escort_cil.networks.cifar import resnet32
from escort_cil.networks.growing import (
    BackboneListNet,
    ExpandingNet,
    GrowingNet,
    Head,
    IncrementalNet,
    Output,
    SharedStagesNet,
)
from escort_cil.networks.resnet import resnet10, resnet18, resnet34, resnet50

backbones.add("resnet10", resnet10)
backbones.add("resnet18", resnet18)
backbones.add("resnet32", resnet32)
backbones.add("resnet34", resnet34)
backbones.add("resnet50", resnet50)

__all__ = [
    "Backbone",
    "BackboneListNet",
    "BackboneMaker",
    "ExpandingNet",
    "GrowingNet",
    "Head",
    "IncrementalNet",
    "Output",
    "SharedStagesNet",
    "backbones",
]
