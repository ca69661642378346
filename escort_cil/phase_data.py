"""What a phase shows the network, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from escort_cil.copies import Copier
from escort_cil.items import Shown
from escort_cil.memory.budget import Budget, NewShelf, OldShelf, Shelf, fill
from escort_cil.memory.contents import Contents, exemplars_of
from escort_cil.policy import Maker
from escort_cil.selection import Selection
from escort_cil.store import Source
from escort_codec.source import SourceImage


def shown_images(images: Sequence[SourceImage], numbers: Mapping[str, int], copier: Copier | None) -> list[Shown]:
    """Images of the data folder, with their copies where a ``copier`` is given."""
    copies = copier.of_images(images) if copier is not None else [[] for _ in images]
    return [
        Shown(numbers[image.label], image.path, row, str(image.path)) for image, row in zip(images, copies, strict=True)
    ]


def shown_memory(contents: Contents, numbers: Mapping[str, int], copier: Copier, probability: float) -> list[Shown]:
    """Remembered exemplars: nothing but what the memory's file holds is opened."""
    exemplars = exemplars_of(contents)
    copies = copier.of_exemplars(exemplars, reals=probability > 0)
    return [
        Shown(numbers[e.label], e.image if e.kind == "real" else None, row, f"memory: {e.key}")
        for e, row in zip(exemplars, copies, strict=True)
    ]


def memory_images(
    contents: Contents, numbers: Mapping[str, int], copier: Copier
) -> tuple[list[int], list[Source], list[str]]:
    """Class numbers, one image each, and names of what is remembered: a prompt's image is its first copy."""
    shown = shown_memory(contents, numbers, copier, 0.0)
    return (
        [item.label for item in shown],
        [item.copies[0] if item.own is None else item.own for item in shown],
        [item.name for item in shown],
    )


def remember(
    held: Contents,
    new: Mapping[str, Sequence[SourceImage]],
    features: Mapping[str, Tensor],
    *,
    budget: Budget,
    maker: Maker,
    select: Selection,
    seeds: Mapping[str, int],
) -> Contents:
    """The memory after a phase: what is ``held`` of old classes, and of ``new`` ones what ``select`` puts first.

    ``features`` (N, D) are those of each new class's images, ``seeds`` the selection's.
    """
    shelves: list[Shelf] = [OldShelf(memory) for memory in held]
    for label, images in new.items():
        order = select(np.asarray(features[label], np.float64), len(images), seeds[label])
        shelves.append(NewShelf(label, [images[i] for i in order], maker))
    return fill(shelves, budget)
