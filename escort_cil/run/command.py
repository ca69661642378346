"""The configuration that a command asks for, and a run for each of its class orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from escort_cil.data.protocol import class_order
from escort_cil.learners import learners
from escort_cil.run.folder import RunFolder
from escort_cil.run.pycil import read_config_file
from escort_cil.run.settings import TrainConfig
from escort_codec.errors import ConfigError, UsageError
from escort_codec.regenerate import regenerators
from escort_codec.settings import convert, settings_of, unknown

OF_ITS_DATA: Final = frozenset(
    ["data", "prompts_file", "exemplars", "class_order", "init_cls", "increment", "continued"]
)
"""Settings that a continued run does not take from the run before."""


def parse_settings(texts: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` texts as a map. Raises UsageError."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError("write KEY=VALUE, such as method.temperature=2", setting="set", value=text)
        found[key.strip()] = value
    return found


def configure(
    typed: Mapping[str, Any],
    *,
    file: Path | None = None,
    resume: Path | None = None,
    continued: Path | None = None,
    seeds: Sequence[int] = (),
) -> tuple[TrainConfig, tuple[int, ...], tuple[str, ...]]:
    """The configuration, the seeds of its class orders, and notes about the file. ``typed`` beats the file or the run.

    ``typed`` maps settings, ``method.X`` and ``regenerator.X`` to values or texts. ``resume`` is the run whose
    configuration is used, ``continued`` the finished run that gets new classes. Raises ConfigError.
    """
    notes: tuple[str, ...] = ()
    values: dict[str, Any] = {}
    if resume is not None:
        values = RunFolder(resume).train_config().to_map()
    if continued is not None:
        values = RunFolder(continued).train_config().to_map()
        values = {key: value for key, value in values.items() if key not in OF_ITS_DATA}
        values["continued"] = str(continued)
    if file is not None:
        read = read_config_file(file)
        values |= read.values
        notes, seeds = read.notes, tuple(seeds) or read.seeds
    if resume is None and seeds:
        _drop_order(values, seeds)
    _drop_overridden(values, typed)
    known = settings_of(TrainConfig)
    for key, value in typed.items():
        part, dot, option = key.partition(".")
        if dot and part in ("method", "regenerator"):
            values[f"{part}_options"] = {**values.get(f"{part}_options", {}), option: value}
        elif key in known:
            values[key] = value
        else:
            raise ConfigError(unknown(f"there is no setting {key!r}", key, [*known, "method.", "regenerator."]))
    if seeds:
        values["seed"] = seeds[0]
    if len(seeds) > 1 and resume is not None:
        raise UsageError(f"{resume} is one run with one class order: leave `seed` out")
    if len(seeds) > 1 and values.get("class_order"):
        raise UsageError("`seed` draws class orders, and `class_order` gives one: leave one out, or vary `model_seed`")
    config = _with_read_options(TrainConfig.from_map(values))
    return config, tuple(seeds) or (config.seed,), notes


def _with_read_options(config: TrainConfig) -> TrainConfig:
    """The same with the method's and the regenerator's settings read from texts. Raises UsageError."""
    config.hyperparameters()
    config.make_regenerator().close()  # refuses what it cannot use
    of_method = settings_of(learners.get(config.method).hyperparameters)
    of_regenerator = settings_of(regenerators.get(config.regenerator)().options_class)
    return replace(
        config,
        method_options={key: convert(of_method[key], value) for key, value in config.method_options.items()},
        regenerator_options={
            key: convert(of_regenerator[key], value) for key, value in config.regenerator_options.items()
        },
    )


def _drop_overridden(values: dict[str, Any], typed: Mapping[str, Any]) -> None:
    """Drops from a file's or a run's method settings what a typed lr, batch_size or epochs says for all phases."""
    dropped = {"lr": ["init_lr", "lr"], "batch_size": ["batch_size"]}
    if values.get("epochs") is not None:  # the milestones were moved and rounded: move the method's own anew
        dropped["epochs"] = ["init_epochs", "epochs", "init_milestones", "milestones"]
    gone = [option for key, options in dropped.items() if key in typed for option in options]
    kept = {key: value for key, value in values.get("method_options", {}).items() if key not in gone}
    if gone and kept != values.get("method_options"):
        values["method_options"] = kept


def _drop_order(values: dict[str, Any], seeds: Sequence[int]) -> None:
    """Drops a class order that a run's config.json drew with its own seed, if other seeds are to draw others."""
    order, seed = values.get("class_order"), values.get("seed")
    if order and isinstance(seed, int) and tuple(seeds) != (seed,) and tuple(order) == class_order(order, seed):
        del values["class_order"]
