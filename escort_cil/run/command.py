"""The configuration of a command: its values, the source of each, and the seeds of its class orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from escort_cil.data.protocol import class_order
from escort_cil.learners import learners
from escort_cil.networks import backbone_kind
from escort_cil.run.folder import RunFolder
from escort_cil.run.presets import AUTO
from escort_cil.run.pycil import FileConfig, read_config_file
from escort_cil.run.pycil_rules import autoaugment_of, stem_of
from escort_cil.run.settings import TrainConfig
from escort_codec.errors import ConfigError, UsageError
from escort_codec.regenerate import regenerators
from escort_codec.settings import convert, settings_of, unknown

OF_ITS_DATA: Final = frozenset(
    ["data", "prompts_file", "exemplars", "class_order", "init_cls", "increment", "continued"]
)
"""Settings that a continued run does not take from its base run."""


@dataclass(frozen=True, slots=True)
class TrainCommand:
    """The configuration of a command and the seeds of its class orders.

    ``notes`` are lines about the file. ``sources`` names the source of each value, by setting, ``method.X`` and
    ``regenerator.X``: "flag", or the file and its key; all others have their defaults.
    """

    config: TrainConfig
    seeds: tuple[int, ...]
    notes: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)


def configure(
    typed: Mapping[str, Any],
    *,
    file: Path | None = None,
    resume: Path | None = None,
    continued: Path | None = None,
    seeds: Sequence[int] = (),
) -> TrainCommand:
    """The configuration of a command. ``typed`` overrides the file or the run.

    ``typed`` maps settings, ``method.X`` and ``regenerator.X`` to values or texts. ``resume`` is the run whose
    configuration applies, ``continued`` the finished run that gets new classes. Raises ConfigError.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if (run := resume or continued) is not None:
        values = RunFolder(run).train_config().to_map()
        if continued is not None:
            values = {key: value for key, value in values.items() if key not in OF_ITS_DATA}
            values["continued"] = str(continued)
        sources = _sources(values, f"the run {run}")
    read = FileConfig({}) if file is None else read_config_file(file)
    values |= read.values
    sources |= {setting: f"{file}: {key}" for setting, key in read.keys.items()}
    if read.seeds or seeds:
        sources["seed"] = "flag" if seeds else f"{file}: seed"
    seeds = tuple(seeds) or read.seeds
    if resume is None and seeds:
        _drop_order(values, seeds)
    _drop_overridden(values, typed)
    _add_typed(values, typed)
    sources |= dict.fromkeys(typed, "flag")
    _apply_authors_rules(values, read, sources)
    if seeds:
        values["seed"] = seeds[0]
    if len(seeds) > 1 and resume is not None:
        raise UsageError(f"{resume} is one run with one class order: leave `seed` out")
    if len(seeds) > 1 and values.get("class_order"):
        raise UsageError("`seed` draws class orders, and `class_order` gives one: leave one out, or vary `model_seed`")
    config = _with_read_options(TrainConfig.from_map(values))
    return TrainCommand(config, tuple(seeds) or (config.seed,), read.notes, sources)


def _sources(values: Mapping[str, Any], source: str) -> dict[str, str]:
    """Maps all settings of a run's configuration to one source."""
    parts = {f"{part}_options": f"{part}." for part in ("method", "regenerator")}
    names = [key for key in values if key not in parts]
    names += [f"{prefix}{key}" for name, prefix in parts.items() for key in values.get(name, {})]
    return dict.fromkeys(names, source)


def _add_typed(values: dict[str, Any], typed: Mapping[str, Any]) -> None:
    known = settings_of(TrainConfig)
    for key, value in typed.items():
        part, dot, option = key.partition(".")
        if dot and part in ("method", "regenerator"):
            values[f"{part}_options"] = {**values.get(f"{part}_options", {}), option: value}
        elif key in known:
            values[key] = value
        else:
            raise ConfigError(unknown(f"there is no setting {key!r}", key, [*known, "method.", "regenerator."]))


def _apply_authors_rules(values: dict[str, Any], read: FileConfig, sources: dict[str, str]) -> None:
    """Fills in what the code of PyCIL or the paper decides, if the file is theirs."""
    by = f"as in the code of {read.authors}"
    if read.authors and values.get("stem", AUTO) == AUTO:
        kind = backbone_kind(values.get("backbone", settings_of(TrainConfig)["backbone"].default))
        if kind.stems and not kind.stem:
            values["stem"], sources["stem"] = stem_of(read.network, values), by
    augment = autoaugment_of(read.authors, values) if values.get("autoaugment") is None else None
    if augment is not None:
        values["autoaugment"], sources["autoaugment"] = augment, by


def _with_read_options(config: TrainConfig) -> TrainConfig:
    """The configuration with the settings of method and regenerator parsed from texts. Raises UsageError."""
    config.hyperparameters()
    config.make_regenerator().close()  # raises for settings that it cannot use
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
    """Drops method settings of the file or run that a typed lr, batch_size or epochs overrides for all phases."""
    dropped = {"lr": ["init_lr", "lr"], "batch_size": ["batch_size"]}
    if values.get("epochs") is not None:  # the milestones were scaled and rounded: scale the method's own again
        dropped["epochs"] = ["init_epochs", "epochs", "init_milestones", "milestones"]
    overridden = [option for key, options in dropped.items() if key in typed for option in options]
    kept = {key: value for key, value in values.get("method_options", {}).items() if key not in overridden}
    if overridden and kept != values.get("method_options"):
        values["method_options"] = kept


def _drop_order(values: dict[str, Any], seeds: Sequence[int]) -> None:
    """Drops a class order that was drawn with the run's own seed, if ``seeds`` are others."""
    order, seed = values.get("class_order"), values.get("seed")
    if order and isinstance(seed, int) and tuple(seeds) != (seed,) and tuple(order) == class_order(order, seed):
        del values["class_order"]


def sources_of(command: TrainCommand, decided: Mapping[str, str]) -> dict[str, str]:
    """The source of each value of a command's configuration; ``decided`` names those of values that
    ``presets.filled`` filled in."""
    found = {name: command.sources.get(name, "default") for name in settings_of(TrainConfig)}
    found |= decided
    for part in ("method", "regenerator"):
        del found[f"{part}_options"]
    config = command.config
    of_method = settings_of(learners.get(config.method).hyperparameters)
    overriding = {"lr": config.lr, "batch_size": config.batch_size}
    for name in of_method:
        source = command.sources.get(f"method.{name}", f"default of {config.method}")
        plain = name.removeprefix("init_")
        if overriding.get(plain) is not None and name not in config.method_options:
            source = f"the setting {plain}"
        elif plain in ("epochs", "milestones") and config.epochs is not None:
            moved = "" if plain == "epochs" else f", scaled from {source}"
            source = f"the setting epochs{moved}"
        found[f"method.{name}"] = source
    for name in config.regenerator_options:
        found[f"regenerator.{name}"] = command.sources.get(f"regenerator.{name}", "default")
    return found
