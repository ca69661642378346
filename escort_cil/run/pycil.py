"""Configuration files: the paper's and PyCIL's JSON with its keys unchanged, a run's own config.json, or both mixed."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from escort_cil.run.folder import MAX_CONFIG
from escort_cil.run.settings import TrainConfig
from escort_codec.errors import ConfigError
from escort_codec.foreign import parse_json, read_file
from escort_codec.settings import settings_of, unknown

# PyCIL's key: the setting, or the method's setting after "method."
KEYS: Final = {
    "model_name": "method",
    "init_cls": "init_cls",
    "increment": "increment",
    "model_seed": "model_seed",
    "batch_size": "batch_size",
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
SIZES: Final = ("memory_size", "memory_per_class")
COUNTS: Final = {"real_per_class": "original", "syn_per_class": "prompt"}
TRANSLATED: Final = ("convnet_type", "device", "num_workers", "seed", "fixed_memory", *SIZES, *COUNTS)
NAMES_ONLY: Final = ("dataset", "prefix", "csv_name", "time_str")  # they name the run and change nothing
ONE_VALUE: Final[dict[str, Any]] = {
    "scheduler": "steplr",
    "train_adaptive": False,
    "t_max": None,
    "debug": False,
    "skip": False,
}
"""Keys of which only one value is supported."""


@dataclass(frozen=True, slots=True)
class FileConfig:
    """What a file says: settings, seeds of class orders (PyCIL's list), and lines about what is not used."""

    values: Mapping[str, Any]
    seeds: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def read_config_file(path: Path) -> FileConfig:
    """Reads a configuration file. Raises ConfigError if it is not JSON or has an unknown key; names the nearest one."""
    try:
        values = parse_json(read_file(path, ConfigError, most=MAX_CONFIG, follow=True))
    except ValueError as exc:
        raise ConfigError(f"{path}: is not JSON: {exc}") from exc
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no JSON object")
    values = {key: value for key, value in values.items() if key not in ("version", "command")}
    if not isinstance(values.get("method_options", {}), Mapping):
        raise ConfigError(f"{path}: method_options = {values['method_options']!r}: give a JSON object")
    own = set(settings_of(TrainConfig))
    if not set(values) <= own:
        return _from_pycil(values, own, path)
    seeds = _seeds(values.pop("seed"), path) if isinstance(values.get("seed"), list) else ()
    return FileConfig(values, seeds)


def _from_pycil(values: Mapping[str, Any], own: AbstractSet[str], path: Path) -> FileConfig:
    """Translates PyCIL's keys. Of our ``own`` keys those may stand beside them whose names PyCIL does not use."""
    pycils = {*KEYS, *TRANSLATED, *NAMES_ONLY, *ONE_VALUE}
    found: dict[str, Any] = {key: value for key, value in values.items() if key in own - pycils}
    options: dict[str, Any] = dict(values.get("method_options", {}))
    for theirs, ours in {**KEYS, "convnet_type": "backbone", "num_workers": "workers"}.items():
        if theirs in values and ours in found:
            raise ConfigError(f"{path}: {theirs} and {ours} are the same setting: give one")
    notes: list[str] = []
    for key, value in values.items():
        if key in ONE_VALUE:
            if value != ONE_VALUE[key]:
                raise ConfigError(f"{path}: {key} = {value!r} is not supported: only {ONE_VALUE[key]!r} is")
        elif key in NAMES_ONLY:
            notes.append(f"{path}: {key} = {value!r} only names the run")
        elif key in KEYS:
            target = KEYS[key]
            if target.startswith("method."):
                options[target[len("method.") :]] = value
            else:
                found[target] = value
        elif key not in TRANSLATED and key not in own:
            raise ConfigError(f"{path}: {unknown(f'there is no key {key!r}', key, sorted(pycils | own))}")
    if "convnet_type" in values:
        found["backbone"] = str(values["convnet_type"]).removeprefix("memo_").removeprefix("cosine_")
    if "num_workers" in values:
        found["workers"] = 1 if values["num_workers"] == 0 else values["num_workers"]  # 0: no process but the main one
    if "device" in values:
        found["device"] = _device(values["device"], path)
    found |= _memory(values, found, notes, path)
    if options:
        found["method_options"] = options
    return FileConfig(found, _seeds(values.get("seed", []), path), tuple(notes))


def _memory(values: Mapping[str, Any], found: Mapping[str, Any], notes: list[str], path: Path) -> dict[str, str]:
    """``budget`` and ``keep``. In PyCIL a class has memory_per_class units with fixed_memory, else all classes have
    memory_size together; the paper adds how many of a class's exemplars are real and how many are prompts.
    """
    sizes = {key: _number(values[key], key, path) for key in SIZES if key in values}
    counts = {kind: _number(values[key], key, path) for key, kind in COUNTS.items() if key in values}
    for ours, theirs in (("budget", sizes), ("keep", [key for key in COUNTS if key in values])):
        if ours in found and theirs:
            raise ConfigError(f"{path}: {next(iter(theirs))} and {ours} are the same setting: give one")
    made: dict[str, str] = {}
    if counts:
        made["keep"] = " + ".join(f"{count:g} {kind}" for kind, count in counts.items() if count) or "0 original"
    fixed = bool(values.get("fixed_memory", "memory_size" not in values))
    used, unused = ("memory_per_class", "memory_size") if fixed else ("memory_size", "memory_per_class")
    if used in sizes:
        made["budget"] = f"{sizes[used]:g}units" + ("/class" if fixed else "")
    if unused in sizes:
        notes.append(f"{path}: {unused} = {sizes[unused]:g} is not used: fixed_memory is {str(fixed).lower()}")
    return made


def _number(value: Any, key: str, path: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ConfigError(f"{path}: {key} = {value!r}: give a number of at least 0")
    return float(value)


def _seeds(value: Any, path: Path) -> tuple[int, ...]:
    seeds = value if isinstance(value, list) else [value]
    if not all(type(seed) is int for seed in seeds):
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
