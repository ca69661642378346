"""Backbones and the networks that grow on them."""

from __future__ import annotations

from escort_cil.networks.backbones import (
    AUTO,
    STEMS,
    Backbone,
    BackboneKind,
    BackboneMaker,
    backbones,
    projected_resnet32,
    resnet10,
    resnet18,
    resnet32,
    resnet34,
    resnet50,
    signed,
)
from escort_cil.networks.choice import backbone_kind, backbone_maker, is_pretrained
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

for _backbone in (resnet18, resnet34, resnet50):
    backbones.add(_backbone.__name__, BackboneKind(_backbone, stems=tuple(STEMS)))
    backbones.add(f"cosine_{_backbone.__name__}", BackboneKind(signed(_backbone), stems=tuple(STEMS)))
backbones.add("resnet10", BackboneKind(resnet10, "small", tuple(STEMS)))
backbones.add("cosine_resnet10", BackboneKind(signed(resnet10), "small", tuple(STEMS)))
backbones.add("resnet32", BackboneKind(resnet32, "cifar", ("cifar",)))
backbones.add("cosine_resnet32", BackboneKind(signed(projected_resnet32), "cifar", ("cifar",)))

__all__ = [
    "AUTO",
    "STEMS",
    "Backbone",
    "BackboneKind",
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
    "backbone_kind",
    "backbone_maker",
    "backbones",
    "is_pretrained",
]
