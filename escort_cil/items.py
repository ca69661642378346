"""What a phase is trained on: images of the new classes and remembered ones, each with its copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from escort_cil.store import ImageStore, Source


@dataclass(frozen=True, slots=True)
class Shown:
    """One item: its class number, its image (None for a prompt), its copies, and what messages call it."""

    label: int
    own: Source | None
    copies: Sequence[Source]
    name: str


@dataclass(frozen=True, slots=True)
class Items:
    """N items as int64 tensors: ``labels`` (N,), and ids in the store: ``own`` (N,), -1 for a prompt, and ``copies``
    (N, K), of each row the first ``counts`` (N,)."""

    labels: Tensor
    own: Tensor
    copies: Tensor
    counts: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def draw(self, index: Tensor, probability: float, generator: torch.Generator) -> Tensor:
        """Ids in the store (B,) of what the items ``index`` (B,) are shown as.

        An item without an image of its own is shown as a random one of its copies, any other with ``probability``. The
        numbers asked of ``generator`` depend on B alone.
        """
        chance, choice = torch.rand(2, len(index), generator=generator)
        own, counts = self.own[index], self.counts[index]
        column = (choice * counts).long().clamp(max=(counts - 1).clamp(min=0))
        copy = self.copies[index, column]
        return torch.where((counts > 0) & ((own < 0) | (chance < probability)), copy, own)

    def first(self) -> Tensor:
        """Ids (N,) of the items' own images, or of the first copies of those that have none."""
        return torch.where(self.own < 0, self.copies[:, 0], self.own)


def store_items(shown: Sequence[Shown], store: ImageStore, workers: int | None = None) -> Items:
    """Decodes all images and copies of items into ``store``. Raises ImageError."""
    sources: list[Source] = []
    names: list[str] = []
    for item in shown:
        images = ([item.own] if item.own is not None else []) + list(item.copies)
        sources += images
        names += [item.name] * len(images)
    ids = store.add(sources, names=names, workers=workers)
    width = max((len(item.copies) for item in shown), default=0)
    own = torch.full((len(shown),), -1)
    copies = torch.full((len(shown), max(1, width)), -1)
    at = 0
    for i, item in enumerate(shown):
        if item.own is not None:
            own[i] = ids[at]
            at += 1
        copies[i, : len(item.copies)] = ids[at : at + len(item.copies)]
        at += len(item.copies)
    return Items(
        torch.tensor([item.label for item in shown], dtype=torch.int64),
        own,
        copies,
        torch.tensor([len(item.copies) for item in shown], dtype=torch.int64),
    )
