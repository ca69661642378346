"""The training of one phase: its learner's stages, each on its own items."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from escort_cil.data.base import Store
from escort_cil.data.images import Items
from escort_cil.epochs import LoopSettings, make_generator, place, train_epochs
from escort_cil.learners import Learner, PhaseItems
from escort_codec.errors import TrainingError

log = logging.getLogger(__name__)

CHOSEN: Final = "stage.items"
"""The tensor of a checkpoint that holds the items of its stage."""


def train_phase(
    loop: LoopSettings,
    learner: Learner,
    store: Store,
    items: Items,
    own: int,
    *,
    herd: Callable[[int], Tensor],
    done: int = 0,
    resumed: Mapping[str, Tensor] | None = None,
    epoch_ended: Callable[[int, Mapping[str, Tensor]], None] = lambda done, tensors: None,
) -> None:
    """Trains all stages of a phase from epoch ``done`` on; the first ``own`` items are the phase's images.

    ``herd`` is that of ``PhaseItems``. ``resumed`` holds the tensors of a checkpoint at ``done``; the network already
    has its weights. ``epoch_ended`` gets the number of epochs done and what to save besides the weights. Raises
    TrainingError.
    """
    place(loop.devices, learner)
    learner.begin_training(items.labels)
    start = 0
    for number, stage in enumerate(learner.stages(learner.phase)):
        begin, start = start, start + stage.schedule.epochs
        if done >= start:
            continue
        inside = resumed if done > begin else None
        chosen = _chosen(loop, learner, number, items, own, herd, inside)
        mine = items if chosen is None else items.of(chosen)
        learner.begin_stage(number)
        learner.freeze_backbone()
        if not len(mine):
            if loop.devices.is_main:
                log.info("phase %d: the stage %s has no images: skipped", learner.phase + 1, stage.name)
            continue
        kept = {} if chosen is None else {CHOSEN: chosen}
        train_epochs(
            loop,
            learner,
            store,
            mine,
            stage=number,
            done=done,
            resumed=inside,
            epoch_ended=lambda count, tensors, kept=kept: epoch_ended(count, {**tensors, **kept}),  # type: ignore[misc]
        )


def _chosen(
    loop: LoopSettings,
    learner: Learner,
    stage: int,
    items: Items,
    own: int,
    herd: Callable[[int], Tensor],
    resumed: Mapping[str, Tensor] | None,
) -> Tensor | None:
    """The items of a stage, int64; None: all. A resumed stage has those of its checkpoint: features have changed."""
    if resumed is not None:
        saved = resumed.get(CHOSEN)
        if saved is not None and not _indexes(saved, len(items)):
            raise TrainingError("the checkpoint is damaged: it names images that the phase does not have")
        return saved
    generator = make_generator(loop.model_seed, "items", learner.phase)
    return learner.items(stage, PhaseItems(items.labels, own, generator, herd))


def _indexes(chosen: Tensor, count: int) -> bool:
    if chosen.dtype != torch.int64 or chosen.dim() != 1:
        return False
    return not len(chosen) or (int(chosen.min()) >= 0 and int(chosen.max()) < count)
