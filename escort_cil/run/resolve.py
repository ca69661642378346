"""Fills in what the data decides: folder, class order, phases, seeds, edge settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from escort_cil.data.protocol import check_class_order, class_order
from escort_cil.learners import learners
from escort_cil.memory.prompts import options_of
from escort_cil.run.settings import TrainConfig
from escort_codec.container import Reader
from escort_codec.errors import ConfigError, EscortError, UsageError
from escort_codec.recipe import EncodeOptions, parse_colour
from escort_codec.settings import settings_of
from escort_codec.source import SourceImage, scan_folder

PHASES = 5  # if the increment is not given


def find_data(config: TrainConfig, prompts_file: Reader | None) -> str:
    """The data folder: the setting, else what the file of prompts records. Raises ConfigError."""
    if config.data:
        return config.data
    if prompts_file is None:
        raise ConfigError("no data: give `data`, or a `prompts_file` that records it")
    if not prompts_file.source:
        raise ConfigError(f"{config.prompts_file}: does not record which folder it was made from: give `data`")
    if not Path(prompts_file.source).is_dir():
        raise ConfigError(
            f"{config.prompts_file}: was made from {prompts_file.source!r}, which is not here (it is relative to the "
            "current folder): give `data`"
        )
    return prompts_file.source


def images_in(config: TrainConfig) -> list[SourceImage]:
    """The training images of a configuration; none if they cannot be found yet."""
    if config.image_size is not None or config.dataset:
        return []
    try:
        if config.data:
            return list(scan_folder(Path(config.data), "train", config.layout).images)
        with Reader(config.prompts_file) as prompts_file:
            return list(scan_folder(Path(find_data(config, prompts_file)), "train", config.layout).images)
    except EscortError:
        return []


def resolve(
    config: TrainConfig, folder: str, prompts_file: Reader | None, known: tuple[str, ...], new: Sequence[str]
) -> TrainConfig:
    """The configuration with all defaults filled in. ``known`` are the labels of its base run, in order; ``new`` labels
    are sorted. Raises ConfigError."""
    if config.class_order:
        order = check_class_order(config.class_order, [*known, *new])
        if order[: len(known)] != known:
            raise ConfigError("must begin with the classes of the continued run", setting="class_order")
    else:
        order = known + (class_order(new, config.seed) if config.shuffle else tuple(new))
    increment = config.increment or config.init_cls or max(1, -(-len(new) // PHASES))
    if (config.memory_only and not config.init_cls) or known:
        increment = config.increment or len(new)
    seeds = config.seeds or (prompts_file.seeds if prompts_file is not None else ()) or EncodeOptions().seeds
    copies = config.augmentations_per_image or len(seeds)
    if copies > len(seeds):
        raise ConfigError(
            f"there are {len(seeds)} seeds: give more `seeds`", setting="augmentations_per_image", value=copies
        )
    if config.memory_only and not learners.get(config.method).uses_memory:
        raise ConfigError(f"{config.method} keeps no memory", setting="memory_only")
    if prompts_file is not None:
        config = _match_prompts(config, prompts_file, may_differ=bool(known))
    return replace(
        config,
        data=folder,
        class_order=order,
        init_cls=config.init_cls or min(increment, len(new)),
        increment=increment,
        seeds=seeds,
        augmentations_per_image=copies,
        augmentation_prob=config.probability,
        selection="random" if config.memory_only else config.selection,
    )


def _match_prompts(config: TrainConfig, prompts_file: Reader, *, may_differ: bool) -> TrainConfig:
    """The configuration with the settings of the file's prompts, which apply even if the file is deleted later.

    Prompts are used as they are, but without their hints if ``hint`` is 0. Raises ConfigError if ``config`` sets other
    values, unless it ``may_differ``, as the settings of another run.
    """
    made = options_of(prompts_file, config.encode_options(), None)
    used: dict[str, Any] = {
        "preset": made.preset,
        "canny_low": made.settings.low,
        "canny_high": made.settings.high,
        "blur": made.settings.blur,
        "min_contour": made.settings.min_contour,
        "coding": made.coding,
    }
    try:
        if prompts_file.background and parse_colour(prompts_file.background) != parse_colour(config.background):
            used["background"] = prompts_file.background
    except UsageError as exc:
        raise ConfigError(
            f"{config.prompts_file}: its background is not a colour: {prompts_file.background!r}"
        ) from exc
    for key, value in used.items():
        asked = getattr(config, key)
        if not may_differ and asked not in (value, settings_of(TrainConfig)[key].default):
            raise ConfigError(
                f"the prompts of {config.prompts_file} were made with {value}: leave it out, or encode the images anew",
                setting=key,
                value=asked,
            )
    if not may_differ and config.hint:
        _check_hint(config.hint, prompts_file)
    hint = config.hint
    if hint is None and (made.hint or not any(exemplar.hint for exemplar in prompts_file)):
        hint = made.hint
    return replace(config, **used, hint=hint)


def _check_hint(side: int, prompts_file: Reader) -> None:
    """Raises ConfigError unless the first hint of the file has ``side`` pixels."""
    first = next((exemplar for exemplar in prompts_file if exemplar.hint), None)
    held = max(first.hint_size or (0,)) if first is not None else 0
    if held != (side if first is None else min(side, max(first.size))):
        what = f"hints of {held} pixels" if held else "no hints"
        raise ConfigError(
            f"the prompts of {prompts_file.path} have {what}: leave it out, or encode the images anew",
            setting="hint",
            value=side,
        )
