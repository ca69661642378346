"""The decoded images of a run; each is decoded once for all purposes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from escort_cil.augment import Transform
from escort_cil.data.base import Room, Store
from escort_cil.data.decoding import Source, T, decode_all
from escort_cil.data.pictures import training_store
from escort_cil.data.store import ImageStore

EVALUATION_SHARE: Final = 5  # a fifth of the memory: evaluation squares are read once or twice per phase

_Key: TypeAlias = Path | bytes


class DecodedImages:
    """Images for training (pictures or squares), and squares of images for evaluation, made in one decoding.

    An image file is identified by its path and by its bytes, so that it is also found as a real exemplar. A known image
    is not read or decoded again until ``keep`` drops it. ``cache_bytes`` of the pixels are kept in memory (None: all),
    the rest in files in ``folder``. Without ``evaluates`` no image is stored for evaluation. Not thread-safe.
    """

    def __init__(
        self,
        transform: Transform,
        *,
        evaluates: bool = True,
        cache_bytes: int | None = None,
        folder: Path | None = None,
        workers: int | None = None,
    ) -> None:
        apart = evaluates and not transform.one_store
        share = rest = None
        if cache_bytes is not None:
            share = cache_bytes // EVALUATION_SHARE if apart else 0
            rest = cache_bytes - share
        self.training = training_store(transform, cache_bytes=rest, folder=folder)
        self._evaluates = evaluates
        self._apart: ImageStore | None = None
        if apart:
            self._apart = ImageStore.for_evaluation(transform, cache_bytes=share, folder=folder)
        self._workers = workers
        self._background = transform.background
        self._ids: dict[_Key, int] = {}
        self._evaluated: dict[int, int] = {}  # id in ``training`` -> id in ``_apart``

    def __len__(self) -> int:
        """Images held now."""
        return len(self.training)

    def add(
        self, sources: Sequence[Source], *, names: Sequence[str], evaluated: Sequence[bool] | None = None
    ) -> Tensor:
        """The ids in ``training``, int64 (N,), of images; new ones are decoded in threads.

        ``evaluated`` says which are stored for evaluation as well (None: all). If one is bad none is added: raises
        ImageError naming it, and OutputError if they cannot be stored.
        """
        self.decode(sources, lambda i, picture: None, names=names, evaluated=evaluated)
        return torch.tensor([self._ids[key] for key in map(_key, sources)], dtype=torch.int64)

    def decode(
        self,
        sources: Sequence[Source],
        derive: Callable[[int, Image.Image], T],
        *,
        names: Sequence[str],
        evaluated: Sequence[bool] | None = None,
    ) -> list[T]:
        """Adds images; returns what ``derive`` makes of each new one from its index and picture.

        ``derive`` is called in threads, with a Pillow image of mode RGB. Raises as ``add`` does.
        """
        evaluates = [True] * len(sources) if evaluated is None else evaluated
        keys = [_key(source) for source in sources]
        first: dict[_Key, int] = {}  # the first index of each new image
        for i, key in enumerate(keys):
            if not self._knows(key, evaluates[i]):
                first.setdefault(key, i)
        if not first:
            return []
        for_evaluation = {key for key, each in zip(keys, evaluates, strict=True) if each}
        return self._decode(sources, names, first, [key in for_evaluation for key in first], derive)

    def evaluation(self, ids: Tensor) -> tuple[ImageStore, Tensor]:
        """The evaluation squares of the images ``ids`` (N,): a store, and their ids in it.

        Raises KeyError for an image that was not stored for evaluation.
        """
        if self._apart is None:
            if not self._evaluates:
                raise KeyError("no image was stored for evaluation")
            assert isinstance(self.training, ImageStore)  # one store serves both
            return self.training, ids
        return self._apart, torch.tensor([self._evaluated[i] for i in ids.tolist()], dtype=torch.int64)

    def keep(self, sources: Iterable[Source]) -> None:
        """Drops all images but these."""
        kept = {self._ids[key] for key in map(_key, sources) if key in self._ids}
        dropped = [i for i in self.training.ids().tolist() if i not in kept]
        self.training.drop(torch.tensor(dropped, dtype=torch.int64))
        if self._apart is not None:
            apart = [self._evaluated.pop(i) for i in dropped if i in self._evaluated]
            self._apart.drop(torch.tensor(apart, dtype=torch.int64))
        self._ids = {key: i for key, i in self._ids.items() if i in kept}

    def close(self) -> None:
        """Frees memory and files and forgets all images."""
        self._ids.clear()
        self._evaluated.clear()
        self.training.close()
        if self._apart is not None:
            self._apart.close()

    def _knows(self, key: _Key, evaluated: bool) -> bool:
        known = self._ids.get(key)
        return known is not None and (not evaluated or self._apart is None or known in self._evaluated)

    def _decode(
        self,
        sources: Sequence[Source],
        names: Sequence[str],
        first: dict[_Key, int],
        evaluated: Sequence[bool],
        derive: Callable[[int, Image.Image], T],
    ) -> list[T]:
        """Decodes the sources at the places ``first``; ``evaluated`` says which get an evaluation square as well."""
        places, digests = list(first.values()), [b""] * len(first)
        rows = np.cumsum(evaluated) - 1
        with ExitStack() as stack:
            store_of_all: Store = self.training
            training = stack.enter_context(store_of_all.room(len(places)))
            evaluation: Room | None = None
            if self._apart is not None:
                evaluation = stack.enter_context(self._apart.room(sum(evaluated)))

            def store(n: int, picture: Image.Image) -> T:
                training.put(n, picture)
                if evaluation is not None and evaluated[n]:
                    evaluation.put(int(rows[n]), picture)
                return derive(places[n], picture)

            def read(n: int, data: bytes) -> None:
                digests[n] = _digest(data)

            derived = decode_all(
                [sources[i] for i in places],
                store,
                names=[names[i] for i in places],
                workers=self._workers,
                read=read,
                background=self._background,
            )
        ids = training.ids.tolist()
        self._ids |= zip(first, ids, strict=True)
        self._ids |= {digest: i for digest, i in zip(digests, ids, strict=True) if digest}
        if evaluation is not None:
            self._evaluated |= zip(
                (i for i, each in zip(ids, evaluated, strict=True) if each), evaluation.ids.tolist(), strict=True
            )
        return derived


def _key(source: Source) -> _Key:
    if isinstance(source, Path):
        return source
    return _digest(source if isinstance(source, bytes) else repr(source.shape).encode() + source.tobytes())


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def half_of_memory() -> int:
    """Half of the machine's memory in bytes; 4 GiB if it is unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return 4 << 30


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

    def of(self, chosen: Tensor) -> Items:
        """The items ``chosen``, int64."""
        return Items(self.labels[chosen], self.own[chosen], self.copies[chosen], self.counts[chosen])

    def draw(self, index: Tensor, probability: float, generator: torch.Generator) -> Tensor:
        """Ids (B,) of the images that the items ``index`` (B,) are shown as.

        An item without an image of its own is shown as a random one of its copies, any other with ``probability``. The
        number of draws from ``generator`` depends only on B.
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
