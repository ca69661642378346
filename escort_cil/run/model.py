"""The model of a run folder, ready to use: ``model.safetensors`` and ``config.json`` are all that is needed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from escort_cil.augment import Transform, transforms
from escort_cil.learners import learners
from escort_cil.networks import GrowingNet, backbones
from escort_cil.run import folder as names
from escort_cil.run.checkpoint import load_tensors, prefixed, restore
from escort_cil.run.folder import RunFolder
from escort_cil.run.settings import TrainConfig
from escort_codec.errors import TrainingError


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A trained network on the CPU, in evaluation mode, and what it was trained as.

    Logit c is the class ``labels[c]``; ``groups`` says how many classes each phase brought. ``network`` maps float
    (B, 3, S, S), an evaluation image under ``transform``, to features and logits.
    """

    folder: RunFolder
    config: TrainConfig
    labels: tuple[str, ...]
    groups: tuple[int, ...]
    network: GrowingNet
    transform: Transform


def load_model(run: Path) -> SavedModel:
    """Loads the model that a run folder holds: the last finished phase's.

    Raises TrainingError if there is no run, no phase of it is finished, or a file is damaged or belongs to another run.
    """
    folder = RunFolder(run)
    config = folder.train_config()
    path = folder / names.MODEL
    if not path.exists():
        raise TrainingError(f"{run}: has no {names.MODEL}: no phase of this run is finished")
    tensors = load_tensors(path)
    groups = _groups(path)
    if sum(groups) > len(config.class_order):
        raise TrainingError(f"{path}: knows {sum(groups)} classes, {names.CONFIG} names {len(config.class_order)}")
    learner = learners.get(config.method)(config.hyperparameters(), backbones.get(config.backbone))
    for size in groups:
        learner.begin_phase(size, 0)  # the weights are replaced
    restore(learner.net, "network", prefixed("network", tensors), path)
    return SavedModel(
        folder,
        config,
        config.class_order[: sum(groups)],
        groups,
        learner.net.eval(),
        transforms.get(config.transform_name)(config.image_size),
    )


def _groups(path: Path) -> tuple[int, ...]:
    """The classes that each phase brought, from the file's header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("escort", "{}"))
    except (OSError, SafetensorError, ValueError) as exc:
        raise TrainingError(f"{path}: the weights cannot be read: {exc}") from exc
    groups = about.get("groups") if isinstance(about, dict) else None
    if not isinstance(groups, list) or not groups or not all(isinstance(size, int) and size > 0 for size in groups):
        raise TrainingError(f"{path}: does not say which classes it knows: it is not a model of `escort train`")
    return tuple(groups)
