"""Rules in the code of PyCIL and the paper that their files do not spell out: methods, stems, AutoAugment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from escort_cil.run.presets import IMAGENET, OFF, preset_for
from escort_codec.errors import ConfigError

PAPERS_KEYS: Final = frozenset(["augmentation_prob", "augmentations_per_image", "real_per_class", "syn_per_class"])
"""Keys of the paper's files that PyCIL does not have."""

METHODS: Final = (
    *("acil", "aper_finetune", "beef", "bic", "coil", "der", "dsal", "ds-al", "ewc", "fetril", "finetune", "foster"),
    *("gacil", "g-acil", "gem", "gkeal", "icarl", "il2a", "lwf", "memo", "pass", "podnet", "replay", "rmm-foster"),
    *("rmm-icarl", "rmm-pretrain", "simplecil", "ssre", "tagfex", "ucir", "wa"),
)
"""The methods of PyCIL by its names."""


def check_method(name: Any, path: str) -> None:
    """Raises ConfigError unless ``model_name`` is one of our learners, in any letter case."""
    from escort_cil.learners import learners

    plain = name.lower() if isinstance(name, str) else ""
    if plain in learners:
        return
    there = f"the methods are {', '.join(learners.names())}"
    if plain in METHODS:
        raise ConfigError(f"{path}: model_name = {name!r}: escort does not have this method of PyCIL: {there}")
    raise ConfigError(f"{path}: model_name = {name!r}: there is no such method: {there}")


def stem_of(network: str, values: Mapping[str, Any]) -> str:
    """The stem that the code of PyCIL and the paper gives a large network.

    ``network`` is the file's convnet_type, and ``values`` are the settings, those of the command line included.
    """
    if network.startswith("memo_") or values.get("method") == "memo":
        return IMAGENET
    if "cifar" in str(values.get("dataset", "")).lower():
        return "cifar"
    try:
        increment = int(values.get("increment") or 0)
        return IMAGENET if int(values.get("init_cls") or increment) == increment else "pycil"
    except (TypeError, ValueError, OverflowError):  # not a number: the settings will refuse it
        return IMAGENET


def autoaugment_of(authors: str, values: Mapping[str, Any]) -> str | None:
    """Whether the authors of a file use AutoAugment; None leaves it to the data set or the transform."""
    preset = preset_for(str(values.get("dataset", "")))
    large = preset is None or preset.transform == "large"
    if authors == "the paper":
        return IMAGENET if large else None
    return OFF if authors else None
