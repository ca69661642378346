"""From what was typed to runs: the configuration of a command, and a run for each class order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from escort_cil.data.protocol import class_order
from escort_cil.events import Report, Said, silent
from escort_cil.learners.base import unknown
from escort_cil.run.folder import RunFolder
from escort_cil.run.pycil import FileConfig, read_config_file
from escort_cil.run.settings import TrainConfig
from escort_cil.trainer import RunResult, train
from escort_codec.errors import ConfigError, UsageError

# What a run that goes on with new classes does not have from the one before.
OF_ITS_DATA: Final = frozenset(["data", "prompts", "exemplars", "class_order", "init_cls", "increment", "continued"])


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` texts as a map; a value is JSON where it can be, else text. Raises UsageError."""
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {setting}: write KEY=VALUE, such as method.temperature=2")
        try:
            found[key.strip()] = json.loads(text)
        except ValueError:
            found[key.strip()] = text
    return found


def configure(
    given: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    file: Path | None = None,
    resume: Path | None = None,
    goes_on: Path | None = None,
    seeds: Sequence[int] = (),
) -> tuple[TrainConfig, tuple[int, ...], tuple[str, ...]]:
    """The configuration, the order seeds and lines to say: ``given`` beats ``settings`` beat the file or the run.

    ``resume`` is the run whose configuration is taken as it is, ``goes_on`` the one that new classes are added to.
    ``method.X`` and ``regenerator.X`` in ``settings`` are the method's and the regenerator's options. Raises
    ConfigError.
    """
    notes: tuple[str, ...] = ()
    values: dict[str, Any] = {}
    if resume is not None:
        values = RunFolder(resume).train_config().to_map()
    if goes_on is not None:
        values = RunFolder(goes_on).train_config().to_map()
        values = {key: value for key, value in values.items() if key not in OF_ITS_DATA}
        values["continued"] = str(goes_on)
    if file is not None:
        read: FileConfig = read_config_file(file)
        values |= read.values
        notes, seeds = read.notes, tuple(seeds) or read.seeds
    if resume is None and seeds:
        _forget_order(values, seeds)
    _give_way(values, {**settings, **given})
    known = {field.name: field for field in fields(TrainConfig)}
    for key, value in settings.items():
        part, dot, option = key.partition(".")
        if dot and part in ("method", "regenerator"):
            values[f"{part}_options"] = {**values.get(f"{part}_options", {}), option: value}
        elif key in known:
            values[key] = value
        else:
            raise ConfigError(unknown(f"--set {key}", key, {**known, "method.": None, "regenerator.": None}))
    values |= given
    if seeds:
        values["seed"] = seeds[0]
    if len(seeds) > 1 and resume is not None:
        raise UsageError(f"--seed: {resume} is one run, of the class order that it began with: leave --seed out")
    if len(seeds) > 1 and values.get("class_order"):
        raise UsageError("--seed draws class orders, and the order is given: give one, or vary --model-seed")
    config = TrainConfig.from_map(values)
    config.hyperparameters()
    config.make_regenerator_options()
    return config, tuple(seeds) or (config.seed,), notes


def _give_way(values: dict[str, Any], typed: Mapping[str, Any]) -> None:
    """Drops from a file's or a run's method options what a typed --lr, --batch-size or --epochs says for all phases."""
    dropped = {"lr": ["init_lr", "lr"], "batch_size": ["batch_size"]}
    if values.get("epochs") is not None:  # the milestones were moved already, and rounded: the method's are moved anew
        dropped["epochs"] = ["init_epochs", "epochs", "init_milestones", "milestones"]
    gone = [option for key, options in dropped.items() if key in typed for option in options]
    kept = {key: value for key, value in values.get("method_options", {}).items() if key not in gone}
    if gone and kept != values.get("method_options"):
        values["method_options"] = kept


def _forget_order(values: dict[str, Any], seeds: Sequence[int]) -> None:
    """Drops a class order that a run's config.json has of its own seed, where other seeds are to draw others."""
    order, seed = values.get("class_order"), values.get("seed")
    if order and isinstance(seed, int) and tuple(seeds) != (seed,) and tuple(order) == class_order(order, seed):
        del values["class_order"]


def train_seeds(
    config: TrainConfig,
    seeds: Sequence[int],
    *,
    out: Path | None = None,
    report: Report = silent,
    force: bool = False,
    resume: bool = False,
) -> list[RunResult]:
    """A run for each class order. Several go into folders ``seed<N>`` of ``out``, or are named by their seeds."""
    results = []
    for seed in seeds:
        each = config.with_seed(seed)
        place = out
        if len(seeds) > 1:
            place = out / f"seed{seed}" if out is not None else None
            report(Said(f"class order {seed}"))
        results.append(train(each, out=place, report=report, force=force, resume=resume))
    return results
