"""A backbone by name: from the registry, or pretrained."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from escort_cil.networks.backbones import AUTO, IMAGENET, BackboneKind, BackboneMaker, backbones
from escort_cil.networks.pretrained import PRETRAINED, describe, pretrained_maker
from escort_codec.errors import ConfigError


def is_pretrained(name: str) -> bool:
    """Whether the name is that of a pretrained backbone: see ``networks.pretrained``."""
    return name.startswith(PRETRAINED)


def backbone_kind(name: str) -> BackboneKind:
    """The backbone of a name. Raises UnknownNameError."""
    return BackboneKind(lambda stem: backbone_maker(name, stem)()) if is_pretrained(name) else backbones.get(name)


def backbone_maker(
    name: str, stem: str = AUTO, about: Mapping[str, Any] | None = None, *, weights: bool = True
) -> BackboneMaker:
    """A function that makes backbones of a name with a stem; "auto" is the backbone's own, else ImageNet's.

    ``about`` describes a pretrained backbone; without ``weights`` it gets fresh ones. Raises ConfigError.
    """
    if is_pretrained(name):
        if stem != AUTO:
            raise ConfigError("a pretrained backbone has its own stem", setting="stem", value=stem)
        return pretrained_maker(name, about or describe(name), weights=weights)
    kind = backbone_kind(name)
    stem = kind.stem or IMAGENET if stem == AUTO else stem
    if kind.stems and stem not in kind.stems:
        only = f"only has the stem {kind.stems[0]}" if len(kind.stems) == 1 else f"takes {', '.join(kind.stems)}"
        raise ConfigError(f"{name} {only}", setting="stem", value=stem)
    return partial(kind.make, stem)
