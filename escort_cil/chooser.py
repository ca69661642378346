"""Chooses the images that a phase remembers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from escort_cil.epochs import derived_seed
from escort_cil.memory.budget import fill, make_shelves
from escort_cil.memory.contents import Contents
from escort_cil.memory.encoder import ExemplarEncoder
from escort_cil.phase_data import PhaseData
from escort_cil.run.plan import RunPlan
from escort_cil.session import Session


class Chooser:
    """Applies the run's selection to the network's features. All processes get the same choice."""

    def __init__(self, plan: RunPlan, data: PhaseData, session: Session, encoder: ExemplarEncoder) -> None:
        self._plan = plan
        self._data = data
        self._session = session
        self._encoder = encoder

    def remember(self, phase: int, held: Contents) -> Contents:
        """The memory after the phase: from what is ``held`` of old classes and from new images, the best first."""
        new, orders = self._plan.train_images(phase), self._ordered(phase)
        ordered = {label: [new[label][i] for i in order] for label, order in orders.items()}
        budget = self._plan.budget
        return self._session.devices.processes.from_first(
            lambda: fill(make_shelves(held, ordered, budget, self._encoder), budget)
        )

    def herd(self, phase: int, count: int) -> Tensor:
        """The first ``count`` images of each new class by the selection, as indices of the phase's images."""
        chosen: list[int] = []
        if not self._plan.config.memory_only:  # else there are no images besides the memory
            first = 0
            for order in self._ordered(phase).values():
                chosen += [first + i for i in order[:count]]
                first += len(order)
        return torch.tensor(chosen, dtype=torch.int64)

    def _ordered(self, phase: int) -> dict[str, list[int]]:
        """The images of each new class in the order of selection, by the network's current features."""
        plan, new = self._plan, self._plan.train_images(phase)
        features = {
            label: torch.zeros(len(images), 1)  # there is no trained network yet
            if plan.config.memory_only
            else self._data.features(images, self._session.evaluator)
            for label, images in new.items()
        }

        def choose() -> dict[str, list[int]]:
            orders = {}
            for label, images in new.items():
                seed = derived_seed(plan.config.model_seed, "selection", plan.class_to_idx[label])
                order = plan.select(np.asarray(features[label], np.float64), len(images), seed)
                orders[label] = [int(i) for i in order]
            return orders

        return self._session.devices.processes.from_first(choose)
