"""Configuration files: the paper's and PyCIL's JSON with its keys unchanged, a run's own config.json, or both mixed."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from escort_cil.run.folder import MAX_CONFIG, NOT_SETTINGS
from escort_cil.run.presets import preset_for
from escort_cil.run.pycil_rules import PAPERS_KEYS, check_method
from escort_cil.run.settings import TrainConfig
from escort_codec.errors import ConfigError
from escort_codec.processes import launched_alone
from escort_codec.settings import settings_of, unknown
from escort_codec.untrusted import parse_json, read_file
from escort_codec.words import counted

# PyCIL's key: the setting, or the method's setting after "method."
KEYS: Final = {
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
SCHEDULE: Final = frozenset(key for key, ours in KEYS.items() if ours.startswith("method.")) - {"epochs"}
"""With one of these keys, ``epochs`` is PyCIL's (later phases); else it is ours (every phase)."""

SIZES: Final = ("memory_size", "memory_per_class")
COUNTS: Final = {"real_per_class": "original", "syn_per_class": "prompt"}
RENAMED: Final = {"model_name": "method", "convnet_type": "backbone", "num_workers": "workers"}
TRANSLATED: Final = (*RENAMED, "dataset", "device", "seed", "fixed_memory", *SIZES, *COUNTS)
NAMES_ONLY: Final = ("prefix", "csv_name", "time_str", "wb-project")  # they name the run and have no effect
ONE_VALUE: Final[dict[str, Any]] = {
    "scheduler": "steplr",
    "train_adaptive": False,
    "t_max": None,
    "debug": False,
    "skip": False,
}
"""Keys of which only one value is supported."""

Authors = Literal["", "PyCIL", "the paper"]


@dataclass(frozen=True, slots=True)
class FileConfig:
    """The contents of a file: settings, seeds of class orders (PyCIL's list), and lines about unused keys.

    ``keys`` maps a setting, or ``method.X``, to its key in the file. ``authors`` are those whose keys the file has, ""
    for a file of ours; ``network`` is the backbone's name in the file.
    """

    values: Mapping[str, Any]
    seeds: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    authors: Authors = ""
    network: str = ""


def read_config_file(path: Path) -> FileConfig:
    """Reads a configuration file. Raises ConfigError if it is not JSON or has an unknown key, and suggests the nearest
    one."""
    try:
        values = parse_json(read_file(path, ConfigError, most=MAX_CONFIG, follow=True))
    except ValueError as exc:
        raise ConfigError(f"{path}: is not JSON: {exc}") from exc
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: is not a JSON object")
    return config_of(values, path)


def config_of(values: Mapping[str, Any], path: Path | str) -> FileConfig:
    """The configuration in a JSON object of the file ``path``. Raises ConfigError."""
    values = {key: value for key, value in values.items() if key not in NOT_SETTINGS}
    if not isinstance(values.get("method_options", {}), Mapping):
        raise ConfigError(f"{path}: method_options = {values['method_options']!r}: give a JSON object")
    if "model_name" in values:
        check_method(values["model_name"], str(path))
    notes = [f"{path}: {key} = {values.pop(key)!r} only names the run" for key in NAMES_ONLY if key in values]
    dataset = values.get("dataset")
    if isinstance(dataset, str) and dataset and preset_for(dataset) is None:
        del values["dataset"]
        notes.append(f"{path}: dataset = {dataset!r} is not known here: the image size decides the protocol")
    own = set(settings_of(TrainConfig))
    of_method = keys_of(values.get("model_name"))
    pycils = {*KEYS, *of_method, *TRANSLATED, *ONE_VALUE}
    if wrong := next((key for key in values if key not in own | pycils), None):
        raise ConfigError(f"{path}: {unknown(f'there is no key {wrong!r}', wrong, sorted(pycils | own))}")
    authors: Authors = "" if set(values) <= own else "the paper" if _is_papers(values) else "PyCIL"
    if not authors:
        seeds = _seeds(values.pop("seed"), path) if isinstance(values.get("seed"), list) else ()
        keys = {key: key for key in values if not key.endswith("_options")}
        keys |= {f"method.{key}": f"method_options.{key}" for key in values.get("method_options", {})}
        return FileConfig(values, seeds, tuple(notes), keys)
    return _from_pycil(values, own - pycils, {**KEYS, **of_method}, path, authors, notes)


def keys_of(method: str | None) -> dict[str, str]:
    """PyCIL's keys for one method, in the form of ``KEYS``; the learner declares them."""
    from escort_cil.learners import learners

    if method is None:
        return {}
    return {key: f"method.{option}" for key, option in learners.get(method.lower()).file_keys.items()}


def _is_papers(values: Mapping[str, Any]) -> bool:
    preset = preset_for(str(values.get("dataset", "")))
    return bool(PAPERS_KEYS & set(values)) or (preset is not None and preset.autoaugment != "off")


def _from_pycil(
    values: Mapping[str, Any],
    own: AbstractSet[str],
    pycils: Mapping[str, str],
    path: Path | str,
    authors: Authors,
    notes: list[str],
) -> FileConfig:
    """Translates PyCIL's keys. ``own`` are our keys that PyCIL does not use; both may occur in one file."""
    found: dict[str, Any] = {key: value for key, value in values.items() if key in own}
    keys = {key: key for key in found if not key.endswith("_options")}
    options: dict[str, Any] = dict(values.get("method_options", {}))
    keys |= {f"method.{key}": f"method_options.{key}" for key in options}
    for theirs, ours in {**pycils, **RENAMED}.items():
        if theirs in values and ours in found:
            raise ConfigError(f"{path}: {theirs} and {ours} are the same setting: give one")

    def put(setting: str, value: Any, key: str) -> None:
        keys[setting] = key
        part, dot, option = setting.partition(".")
        if dot and part == "method":
            options[option] = value
        else:
            found[setting] = value

    for key, value in values.items():
        if key in ONE_VALUE and value != ONE_VALUE[key]:
            raise ConfigError(f"{path}: {key} = {value!r} is not supported: only {ONE_VALUE[key]!r} is")
        if key in pycils:
            every = key == "epochs" and not SCHEDULE & set(values)
            put("epochs" if every else pycils[key], value, key)
    network = str(values.get("convnet_type", "")).lower()
    if "model_name" in values:
        put("method", values["model_name"].lower(), "model_name")
    if "dataset" in values:
        put("dataset", values["dataset"], "dataset")
    if network:
        put("backbone", network.removeprefix("memo_"), "convnet_type")
    if "num_workers" in values:  # 0: only the main process
        put("workers", 1 if values["num_workers"] == 0 else values["num_workers"], "num_workers")
    if "device" in values:
        put("device", _device(values["device"], path, notes), "device")
    for setting, (value, key) in _memory(values, found, notes, path).items():
        put(setting, value, key)
    if options:
        found["method_options"] = options
    return FileConfig(found, _seeds(values.get("seed", []), path), tuple(notes), keys, authors, network)


def _memory(
    values: Mapping[str, Any], found: Mapping[str, Any], notes: list[str], path: Path | str
) -> dict[str, tuple[str, str]]:
    """``budget`` and ``keep``, each with its key. In PyCIL a class has memory_per_class units with fixed_memory, else
    all classes share memory_size units; the paper adds the numbers of real exemplars and of prompts per class.
    """
    values = {key: value for key, value in values.items() if value is not None}  # the paper writes null for unused keys
    sizes = {key: _number(values[key], key, path) for key in SIZES if key in values}
    counts = {kind: _number(values[key], key, path) for key, kind in COUNTS.items() if key in values}
    for ours, theirs in (("budget", sizes), ("keep", [key for key in COUNTS if key in values])):
        if ours in found and theirs:
            raise ConfigError(f"{path}: {next(iter(theirs))} and {ours} are the same setting: give one")
    made: dict[str, tuple[str, str]] = {}
    if counts:
        kept = " + ".join(f"{count:g} {kind}" for kind, count in counts.items() if count) or "0 original"
        made["keep"] = kept, " and ".join(key for key in COUNTS if key in values)
    fixed = bool(values.get("fixed_memory", "memory_size" not in values))
    used, unused = ("memory_per_class", "memory_size") if fixed else ("memory_size", "memory_per_class")
    if used in sizes:
        made["budget"] = f"{sizes[used]:g}units" + ("/class" if fixed else ""), used
    if unused in sizes:
        notes.append(f"{path}: {unused} = {sizes[unused]:g} is not used: fixed_memory is {str(fixed).lower()}")
    return made


def _number(value: Any, key: str, path: Path | str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ConfigError(f"{path}: {key} = {value!r}: give a number of at least 0")
    return float(value)


def _seeds(value: Any, path: Path | str) -> tuple[int, ...]:
    seeds = value if isinstance(value, list) else [value]
    if not all(type(seed) is int for seed in seeds):
        raise ConfigError(f"{path}: seed = {seeds!r}: write a list of whole numbers")
    return tuple(seeds)


def _device(value: Any, path: Path | str, notes: list[str]) -> str:
    """The device for PyCIL's list of GPU numbers. Several GPUs need several processes."""
    names = [str(each) for each in (value if isinstance(value, list) else [value])]
    if not names or names[0] in ("cpu", "-1"):
        return "cpu"
    if len(names) > 1:
        if launched_alone():
            several = counted(len(names), "GPU")
            notes.append(
                f"{path}: device = {value!r} names {several}, and this process uses one: start it with "
                f"torchrun --nproc-per-node {len(names)} -m escort_cli train to use all"
            )
        return "cuda"
    name = names[0].removeprefix("cuda:")
    if name in ("cuda", "auto"):
        return name
    if not name.isdigit():
        raise ConfigError(f"{path}: device = {value!r}: write a list of GPU numbers, or cpu")
    return f"cuda:{name}"
