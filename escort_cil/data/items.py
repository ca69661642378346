"""What a phase is trained on: images of the new classes and remembered ones, each with its copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from escort_cil.data.decoding import Source
from escort_cil.data.images import DecodedImages


@dataclass(frozen=True, slots=True)
class Item:
    """One item: class number, image (None for a prompt), copies, and its name in messages."""

    label: int
    own: Source | None
    copies: Sequence[Source]
    name: str

    @property
    def sources(self) -> list[Source]:
        """The image, if there is one, and the copies."""
        return [*([] if self.own is None else [self.own]), *self.copies]


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
        """Ids (B,) of the images that the items ``index`` (B,) are shown as.

        An item without an image of its own is shown as a random one of its copies, any other with ``probability``. How
        many numbers ``generator`` draws depends on B alone.
        """
        chance, choice = torch.rand(2, len(index), generator=generator)
        own, counts = self.own[index], self.counts[index]
        column = (choice * counts).long().clamp(max=(counts - 1).clamp(min=0))
        copy = self.copies[index, column]
        return torch.where((counts > 0) & ((own < 0) | (chance < probability)), copy, own)


def store_items(shown: Sequence[Item], images: DecodedImages, *, evaluated: bool, prompts: bool = False) -> Items:
    """The items, with their images and copies decoded. Raises ImageError, OutputError.

    With ``evaluated`` these are stored for evaluation as well: the images; the first copies of prompts, and of images
    if these may become ``prompts``; reduced copies, which may become real exemplars.
    """
    sources: list[Source] = []
    names: list[str] = []
    evaluates: list[bool] = []
    for item in shown:
        sources += item.sources
        names += [item.name] * len(item.sources)
        evaluates += [True] * (item.own is not None)
        first = item.own is None or prompts
        evaluates += [(first and n == 0) or isinstance(copy, bytes) for n, copy in enumerate(item.copies)]
    ids = images.add(sources, names=names, evaluated=[each and evaluated for each in evaluates])
    width = max((len(item.copies) for item in shown), default=0)
    own_ids = torch.full((len(shown),), -1)
    copies = torch.full((len(shown), max(1, width)), -1)
    at = 0
    for i, item in enumerate(shown):
        if item.own is not None:
            own_ids[i] = ids[at]
            at += 1
        copies[i, : len(item.copies)] = ids[at : at + len(item.copies)]
        at += len(item.copies)
    return Items(
        torch.tensor([item.label for item in shown], dtype=torch.int64),
        own_ids,
        copies,
        torch.tensor([len(item.copies) for item in shown], dtype=torch.int64),
    )
