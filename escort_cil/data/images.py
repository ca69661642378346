"""The images that a run shows its network, each decoded once, whatever it is shown for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from escort_cil.augment import Transform
from escort_cil.data.decoding import Source, Use, decode_all
from escort_cil.data.store import ImageStore

EVALUATION_SHARE: Final = 5  # one part in so many of the memory: evaluation's squares are read once or twice a phase

_Key: TypeAlias = Path | bytes


class DecodedImages:
    """Squares of images for training, and of those that are evaluated a second one: an image is decoded for both.

    An image file is known by its path and by what it holds, so that it is known as a real exemplar, too. What is known
    is neither read nor decoded again until ``keep`` lets go of it. Of the squares ``cache_bytes`` are kept in memory
    (None: all), the rest in files in ``folder``. Without ``evaluates`` none is wanted for evaluation. For one thread.
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
        share = cache_bytes // EVALUATION_SHARE if apart and cache_bytes is not None else 0
        rest = None if cache_bytes is None else cache_bytes - share
        self.training = transform.training_store(cache_bytes=rest, folder=folder)
        self._evaluates = evaluates
        self._apart: ImageStore | None = None
        if apart:
            self._apart = transform.evaluation_store(cache_bytes=None if rest is None else share, folder=folder)
        self._workers = workers
        self._ids: dict[_Key, int] = {}
        self._evaluated: dict[int, int] = {}  # id in ``training`` -> id in ``_apart``

    def __len__(self) -> int:
        """Images held now."""
        return len(self.training)

    def add(
        self,
        sources: Sequence[Source],
        *,
        names: Sequence[str],
        evaluated: Sequence[bool] | None = None,
        use: Use | None = None,
    ) -> Tensor:
        """The ids in ``training``, int64 (N,), of images; those that are not known yet are decoded in threads.

        ``evaluated`` says which are wanted for evaluation as well (None: all); ``use`` gets each that is decoded, and
        must not use this object. A new file is known by what it holds only after the call.
        Where one is bad none is added: raises ImageError naming it, and OutputError where they cannot be kept.
        """
        wanted = [True] * len(sources) if evaluated is None else evaluated
        keys = [_key(source) for source in sources]
        first: dict[_Key, int] = {}  # of each that is not known, where it comes first
        for i, key in enumerate(keys):
            if not self._knows(key, wanted[i]):
                first.setdefault(key, i)
        for_evaluation = {key for key, wish in zip(keys, wanted, strict=True) if wish}
        if first:
            self._decode(sources, names, first, [key in for_evaluation for key in first], use)
        return torch.tensor([self._ids[key] for key in keys], dtype=torch.int64)

    def decode(self, paths: Sequence[Path], use: Use) -> None:
        """Adds image files, wanted for evaluation as well; ``use`` gets those that were not known."""
        self.add(paths, names=[str(path) for path in paths], use=use)

    def evaluation(self, ids: Tensor) -> tuple[ImageStore, Tensor]:
        """Where the evaluation squares of the images ``ids`` (N,) are: a store, and their ids in it.

        Raises KeyError for an image that was not wanted for evaluation.
        """
        if self._apart is None:
            if not self._evaluates:
                raise KeyError("no image was wanted for evaluation")
            return self.training, ids
        return self._apart, torch.tensor([self._evaluated[i] for i in ids.tolist()], dtype=torch.int64)

    def keep(self, sources: Iterable[Source]) -> None:
        """Lets go of all images but these, as far as they are known."""
        kept = {self._ids[key] for key in map(_key, sources) if key in self._ids}
        gone = [i for i in self.training.ids().tolist() if i not in kept]
        self.training.drop(torch.tensor(gone, dtype=torch.int64))
        if self._apart is not None:
            apart = [self._evaluated.pop(i) for i in gone if i in self._evaluated]
            self._apart.drop(torch.tensor(apart, dtype=torch.int64))
        self._ids = {key: i for key, i in self._ids.items() if i in kept}

    def close(self) -> None:
        """Frees memory and files; nothing is known after it."""
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
        use: Use | None,
    ) -> None:
        """Decodes the sources at the places ``first``; those that ``evaluated`` says get an evaluation square, too."""
        places, digests = list(first.values()), [b""] * len(first)
        rows = np.cumsum(evaluated) - 1
        with ExitStack() as stack:
            training = stack.enter_context(self.training.room(len(places)))
            evaluation = None if self._apart is None else stack.enter_context(self._apart.room(sum(evaluated)))

            def put(n: int, picture: Image.Image) -> None:
                training.put(n, picture)
                if evaluation is not None and evaluated[n]:
                    evaluation.put(int(rows[n]), picture)
                if use is not None:
                    use(places[n], picture)

            def read(n: int, data: bytes) -> None:
                digests[n] = _digest(data)

            decode_all(
                [sources[i] for i in places], put, names=[names[i] for i in places], workers=self._workers, read=read
            )
        ids = training.ids.tolist()
        self._ids |= zip(first, ids, strict=True)
        self._ids |= {digest: i for digest, i in zip(digests, ids, strict=True) if digest}
        if evaluation is not None:
            self._evaluated |= zip(
                (i for i, wish in zip(ids, evaluated, strict=True) if wish), evaluation.ids.tolist(), strict=True
            )


def _key(source: Source) -> _Key:
    if isinstance(source, Path):
        return source
    return _digest(source if isinstance(source, bytes) else repr(source.shape).encode() + source.tobytes())


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
