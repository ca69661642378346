"""Selections: the order in which a class's images deserve to be remembered, the best first."""

from __future__ import annotations

from escort_cil.selection.base import Selection, selections
from escort_cil.selection.herding import herding
from escort_cil.selection.random import random_order

selections.add("herding", herding)
selections.add("random", random_order)

__all__ = ["Selection", "herding", "random_order", "selections"]
