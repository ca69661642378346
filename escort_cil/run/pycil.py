"""Configuration files: the paper's and PyCIL's JSON with its keys unchanged, a run's own config.json, or both mixed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from escort_cil.learners.base import unknown
from escort_cil.run.settings import TrainConfig
from escort_codec.errors import ConfigError

# PyCIL's key: the field of TrainConfig, or the method's option after "method."
KEYS: Final = {
    "model_name": "method",
    "init_cls": "init_cls",
    "increment": "increment",
    "model_seed": "model_seed",
    "batch_size": "batch_size",
    "num_workers": "workers",
    "memory_size": "memory_size",
    "memory_per_class": "memory_per_class",
    "real_per_class": "real_per_class",
    "syn_per_class": "syn_per_class",
    "augmentation_prob": "augmentation_prob",
    "augmentations_per_image": "augmentations_per_image",
    "shuffle": "shuffle",
    "init_epoch": "method.init_epochs",
    "init_lr": "method.init_lr",
    "init_milestones": "method.init_milestones",
    "init_lr_decay": "method.init_lr_decay",
    "init_weight_decay": "method.init_weight_decay",
    "epochs": "method.epochs",
    "lrate": "method.lr",
    "milestones": "method.milestones",
    "lrate_decay": "method.lr_decay",
    "weight_decay": "method.weight_decay",
    "T": "method.temperature",
    "alpha_aux": "method.aux_weight",
    "train_base": "method.train_base",
}
OWN_MEANING: Final = ("convnet_type", "device", "seed", "fixed_memory")  # translated below
NAMES_ONLY: Final = ("dataset", "prefix", "csv_name", "time_str")  # name the run, and change nothing
ONE_VALUE: Final[dict[str, Any]] = {
    "scheduler": "steplr",
    "train_adaptive": False,
    "t_max": None,
    "debug": False,
    "skip": False,
}
"""Keys of which only one value is built."""


@dataclass(frozen=True, slots=True)
class FileConfig:
    """What a file says: fields of TrainConfig, the order seeds (PyCIL's list), and lines about what is passed over."""

    values: Mapping[str, Any]
    seeds: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def read_config_file(path: Path) -> FileConfig:
    """Reads a configuration file. Raises ConfigError: not JSON, or a key that is not known (the nearest is named)."""
    try:
        values = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError as exc:
        raise ConfigError(f"{path}: there is no such file") from exc
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path}: is not a JSON file: {exc}") from exc
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no JSON object")
    values = {key: value for key, value in values.items() if key not in ("version", "command")}
    if not isinstance(values.get("method_options", {}), Mapping):
        raise ConfigError(f"{path}: method_options = {values['method_options']!r}: give a JSON object of options")
    own = {field.name for field in fields(TrainConfig)}
    if not set(values) <= own:
        return _from_pycil(values, own, path)
    seeds = _seeds(values.pop("seed"), path) if isinstance(values.get("seed"), list) else ()
    return FileConfig(values, seeds)


def _from_pycil(values: Mapping[str, Any], own: AbstractSet[str], path: Path) -> FileConfig:
    """PyCIL's keys; beside them those of ``own`` that PyCIL has no key of the same name for."""
    pycils = {*KEYS, *OWN_MEANING, *NAMES_ONLY, *ONE_VALUE}
    found: dict[str, Any] = {key: value for key, value in values.items() if key in own - pycils}
    options: dict[str, Any] = dict(values.get("method_options", {}))
    for theirs, ours in {**KEYS, "convnet_type": "backbone"}.items():
        if theirs in values and ours in found:
            raise ConfigError(f"{path}: {theirs} and {ours} say the same: give one")
    notes: list[str] = []
    for key, value in values.items():
        if key in ONE_VALUE:
            if value != ONE_VALUE[key]:
                raise ConfigError(f"{path}: {key} = {value!r} is not built: only {ONE_VALUE[key]!r} is")
        elif key in NAMES_ONLY:
            notes.append(f"{path}: {key} = {value!r} names the run only")
        elif key in KEYS:
            target = KEYS[key]
            if target.startswith("method."):
                options[target[len("method.") :]] = value
            else:
                found[target] = value
        elif key not in OWN_MEANING and key not in own:
            raise ConfigError(f"{path}: {unknown(f'the key {key!r}', key, dict.fromkeys(sorted(pycils | own)))}")
    if "convnet_type" in values:
        found["backbone"] = str(values["convnet_type"]).removeprefix("memo_").removeprefix("cosine_")
    if "device" in values:
        found["device"] = _device(values["device"], path)
    # PyCIL: with fixed_memory a class has memory_per_class, else all classes together memory_size.
    dropped = "memory_size" if values.get("fixed_memory", "memory_size" not in values) else "memory_per_class"
    if dropped in found:
        notes.append(f"{path}: {dropped} = {found.pop(dropped)} does not count, as fixed_memory has it")
    if options:
        found["method_options"] = options
    return FileConfig(found, _seeds(values.get("seed", []), path), tuple(notes))


def _seeds(value: Any, path: Path) -> tuple[int, ...]:
    seeds = value if isinstance(value, list) else [value]
    if not all(isinstance(seed, int) for seed in seeds):
        raise ConfigError(f"{path}: seed = {seeds!r}: write a list of whole numbers")
    return tuple(seeds)


def _device(value: Any, path: Path) -> str:
    """PyCIL's list of GPU numbers; several are used by starting several processes."""
    names = [str(each) for each in (value if isinstance(value, list) else [value])]
    if not names or names[0] in ("cpu", "-1"):
        return "cpu"
    if len(names) > 1:
        return "cuda"
    name = names[0].removeprefix("cuda:")
    if name in ("cuda", "auto"):
        return name
    if not name.isdigit():
        raise ConfigError(f"{path}: device = {value!r}: write a list of GPU numbers, or cpu")
    return f"cuda:{name}"
