"""Reuses the first phase of a run that differs only in what it remembers.

A run remembers nothing before its first phase ends, so the network does not depend on these settings. A run saves the
network after the epochs of its first phase in ``first-phase.safetensors``; a run that starts from it gives the same
bytes as if it had trained the phase itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from torch import nn

from escort_cil.run import folder as names
from escort_cil.run.checkpoint import Checkpoints, CheckpointState, load_tensors, prefixed, read_about, save_tensors
from escort_cil.run.folder import FREE, RunFolder
from escort_cil.run.plan import RunPlan
from escort_cil.run.settings import TrainConfig
from escort_codec.errors import ConfigError, EscortError, TrainingError

REMEMBERED: Final = frozenset(["budget", "keep", "selection", "coding"])
"""Settings on which the first phase's training never depends."""

OF_COPIES: Final = frozenset(
    [
        *("hint", "hint_codec", "hint_quality", "preset", "canny_low", "canny_high", "blur", "min_contour", "seeds"),
        *("augmentations_per_image", "regenerator", "regenerator_options", "prompts_file", "exemplars"),
    ]
)
"""Settings on which it depends only if it shows copies of its images."""


def save_first_phase(run: RunFolder, network: nn.Module, plan: RunPlan) -> None:
    """Saves the network after the epochs of the first phase. Raises OutputError."""
    save_tensors(run / names.FIRST_PHASE, network.state_dict(), {"images": images_digest(plan)})


def begin_from_first_phase(run: RunFolder, first: RunFolder, plan: RunPlan) -> None:
    """Starts the new run ``run`` after the epochs of the first phase of the run ``first``."""
    epochs = plan.learner().epochs(0)
    random = {"model_seed": plan.config.model_seed, "phase": 0, "epoch": epochs}
    tensors = prefixed("network", load_tensors(first / names.FIRST_PHASE))
    Checkpoints(run.path).save(CheckpointState(0, epochs, random=random), tensors)


def first_phase_for(plan: RunPlan, given: Path | None, shared: Sequence[Path]) -> RunFolder | None:
    """The run whose first phase the plan can reuse: the ``given`` one, else the first of ``shared`` that fits.

    Raises ConfigError if the given one does not fit.
    """
    if given is not None:
        check_first_phase(RunFolder(given), plan)
        return RunFolder(given)
    return next((run for run in map(RunFolder, shared) if shares_first_phase(run, plan)), None)


def shares_first_phase(first: RunFolder, plan: RunPlan) -> bool:
    """Whether the plan can reuse the first phase of the run ``first``."""
    try:
        check_first_phase(first, plan)
    except EscortError:
        return False
    return True


def check_first_phase(first: RunFolder, plan: RunPlan) -> None:
    """Raises ConfigError, which shows the difference, unless the plan and the run ``first`` have the same first phase.

    Raises TrainingError if ``first`` is not a run, or has not finished its first phase.
    """
    if plan.base is not None:
        raise ConfigError(f"continues {plan.base.path}: it has no first phase of its own", setting="first_phase_from")
    theirs, mine = first.train_config(), TrainConfig.from_map(plan.values())
    if not first.has(names.FIRST_PHASE):
        raise TrainingError(f"{first.path}: has no {names.FIRST_PHASE}: its first phase is not finished")
    held, wanted = _trained_with(theirs, plan), _trained_with(mine, plan)
    differing = [key for key in wanted if held.get(key) != wanted[key]]
    if differing:
        shown = "; ".join(f"{key} was {held.get(key)!r}, is {wanted[key]!r}" for key in differing)
        raise ConfigError(f"{first.path}: its first phase differs: {shown}")
    if read_about(first / names.FIRST_PHASE).get("images") != images_digest(plan):
        raise ConfigError(f"{first.path}: its first phase was trained on other images")


def _trained_with(config: TrainConfig, plan: RunPlan) -> dict[str, Any]:
    """The settings on which the first phase's training depends, by name."""
    left_out = FREE | REMEMBERED
    shows = plan.remembers and config.probability > 0
    if not shows:
        left_out |= OF_COPIES
    values = {key: value for key, value in config.to_map().items() if key not in left_out}
    for part in ("method", "regenerator"):
        values |= {f"{part}.{key}": value for key, value in values.pop(f"{part}_options", {}).items()}
    if shows:
        copies = sorted(str(kind) for kind in config.kept.kinds if kind.is_copy)
        values["copies of its images"] = copies or ["prompt"]
    if not plan.remembers:
        values.pop("augmentation_prob")
    return values


def images_digest(plan: RunPlan) -> str:
    """A digest of the first phase's images: their names and sizes in bytes."""
    groups: Mapping[str, Iterable[Any]] = plan.train_images(0)
    digest = hashlib.sha256()
    for group in groups.values():
        for image in group:
            digest.update(f"{image.key}\0{image.path.stat().st_size}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()
