"""Copies of images: regenerated from prompts, or reduced. Regenerated ones are kept in a cache, which is not memory:
they can be made again from the prompts at any time.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from escort_cil.data.decoding import Source
from escort_cil.memory.encoder import Maker, Wanted
from escort_cil.policy import RealKind
from escort_codec.errors import OutputError, RegenerationError
from escort_codec.exemplar import Exemplar
from escort_codec.regenerate.base import Job, Regenerated, Regenerator
from escort_codec.source import SourceImage
from escort_codec.workers import usable_cores

if TYPE_CHECKING:
    from PIL import Image

QUALITY: Final = 95  # of the cache's JPEG files
AHEAD: Final = 16  # images that wait to be saved

Find: TypeAlias = Callable[[Exemplar, int], Path | None]
"""Where the image of an exemplar and a seed is; None where there is none."""


class CopyCache:
    """Regenerated images as files in ``folder``, found by what they were made of; what is missing is made.

    The name of a file is a hash over the prompt, the seed, the regenerator and its whole recipe, so that one folder
    can serve many runs. ``given`` finds an image that was made before, elsewhere; None where there is none.
    """

    def __init__(self, folder: Path, regenerator: Regenerator, given: Find | None = None) -> None:
        self.folder = folder
        self.regenerator = regenerator
        self._given = given
        self.made = 0

    def without_given(self) -> CopyCache:
        """The same folder, without what was made elsewhere."""
        return CopyCache(self.folder, self.regenerator)

    def paths(
        self,
        exemplars: Sequence[Exemplar],
        seeds: Sequence[int],
        watch: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[list[Path]]:
        """The images of prompts, one list an exemplar, in the order of ``seeds``.

        ``watch`` is told, after each that had to be made, how many of how many are.

        Raises RegenerationError where one cannot be made, OutputError where the folder cannot take it.
        """
        places = [[self._place(exemplar, seed) for seed in seeds] for exemplar in exemplars]
        missing = [
            Job(exemplar, seed, place)
            for exemplar, row in zip(exemplars, places, strict=True)
            for seed, place in zip(seeds, row, strict=True)
            if not place.exists()
        ]
        if missing:
            self._make(missing, watch)
        return places

    def find(self, exemplar: Exemplar, seed: int) -> Path | None:
        """The image of a prompt where it was made or given before; None where it was not."""
        place = self._place(exemplar, seed)
        return place if place.exists() else None

    def _place(self, exemplar: Exemplar, seed: int) -> Path:
        if self._given is not None and (path := self._given(exemplar, seed)) is not None:
            return path
        digest = hashlib.sha256()
        for part in (
            self.regenerator.name,
            self.regenerator.recipe(exemplar).digest,
            exemplar.coding,
            repr((exemplar.map_shape, exemplar.size, seed)),
            exemplar.prompt,
        ):
            digest.update(part.encode() + b"\0")
        digest.update(hashlib.sha256(exemplar.payload).digest() + hashlib.sha256(exemplar.hint or b"").digest())
        name = digest.hexdigest()[:32]
        return self.folder / name[:2] / f"{name}.jpg"

    def _make(self, jobs: list[Job], watch: Callable[[int, int], None]) -> None:
        with ThreadPoolExecutor(usable_cores(), thread_name_prefix="copies") as pool:
            for done, _ in enumerate(_ahead(pool, self._results(jobs)), 1):
                self.made += 1
                watch(done, len(jobs))

    def _results(self, jobs: list[Job]) -> Iterator[Regenerated]:
        for result in self.regenerator.regenerate(jobs):
            if result.image is None:
                raise result.error or RegenerationError(f"{result.job.exemplar.key}: no image was made")
            yield result


def _ahead(pool: ThreadPoolExecutor, results: Iterator[Regenerated]) -> Iterator[None]:
    """Saves images while the next ones are made, with a few waiting at a time."""
    waiting: deque[Future[None]] = deque()
    for result in results:
        waiting.append(pool.submit(_save, result))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _save(result: Regenerated) -> None:
    """Writes an image beside its place and puts it there in one step."""
    place: Path = result.job.key
    assert result.image is not None
    beside = place.with_suffix(f".{os.getpid()}.partial")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(_jpeg(result.image))
        beside.replace(place)
    except OSError as exc:
        beside.unlink(missing_ok=True)
        raise OutputError(f"{place}: a regenerated image cannot be written: {exc.strerror or exc}") from exc


def _jpeg(rgb: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


class Copier:
    """The copies of an image under a policy: its prompt regenerated with each seed, its reduced self, or both.

    Where only whole image files are kept, the copies are regenerated ones: every policy can be trained with the same
    augmentation. Of both kinds, each is as likely to be drawn as the other.
    """

    def __init__(
        self,
        maker: Maker,
        cache: CopyCache,
        seeds: Sequence[int],
        *,
        prompts: bool,
        reals: RealKind | None,
        first: Callable[[], AbstractContextManager[None]] = nullcontext,
        say: Callable[[str], None] = lambda line: None,
        watch: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """``prompts``: prompts are kept; ``reals``: what real exemplars are, None where none are kept.

        Of several processes one makes the copies and the others find them: ``first`` lets it go ahead.
        """
        self._maker = maker
        self._cache = cache
        self._seeds = tuple(seeds)
        self._prompts = prompts
        self._reduces = reals is not None and reals.side is not None
        self._whole = reals is not None and not self._reduces
        self._regenerates = prompts or not self._reduces
        self._first = first
        self._say = say
        self._watch = watch

    def wanted(self, *, shown: bool, remembered: bool = False, later: bool = False) -> Wanted:
        """What is made of each image: for its copies, if they are ``shown`` (``later`` as well, should it be a real
        exemplar by then), and for the memory, if it may be ``remembered``."""
        return Wanted(
            prompt=(remembered and self._prompts) or (shown and self._regenerates),
            prompt_of_real=later and shown and self._whole,
            reduced=self._reduces and (remembered or shown),
        )

    def take(self, image: SourceImage, picture: Image.Image, wanted: Wanted) -> None:
        """Makes what is wanted of a decoded image (Pillow, mode RGB), which need not be decoded again for it.

        Many threads may call.
        """
        self._maker.take(image, picture, wanted)

    def take_real(self, exemplar: Exemplar, picture: Image.Image, *, shown: bool) -> None:
        """``take`` of a real exemplar, whose image file was decoded, for its copies, if they are ``shown``."""
        if shown and self._whole:
            self._maker.take_real(exemplar, picture)

    def forget(self, held: Sequence[Exemplar] = ()) -> None:
        """Lets go of what was made of images, but for what the copies of the exemplars ``held`` are made of."""
        self._maker.forget(held)

    def of_images(self, images: Sequence[SourceImage], seeds: Sequence[int] | None = None) -> list[list[Source]]:
        """The copies of images, one list an image; ``seeds`` None means all."""
        seeds = self._seeds if seeds is None else seeds
        copies: list[list[Source]] = [[] for _ in images]
        if self._regenerates:
            for row, paths in zip(copies, self._paths(self._maker.prompts(images), seeds), strict=True):
                row += paths
        if self._reduces:
            times = len(seeds) if self._regenerates else 1
            for row, data in zip(copies, self._maker.files(images), strict=True):
                row += [data] * times
        return copies

    def of_exemplars(self, exemplars: Sequence[Exemplar], *, reals: bool) -> list[list[Source]]:
        """The copies of remembered exemplars: a prompt's images, and with ``reals`` those of whole image files too.

        A reduced image is a copy itself and has none.
        """
        copies: list[list[Source]] = [[] for _ in exemplars]
        prompts = [i for i, exemplar in enumerate(exemplars) if exemplar.kind == "prompt"]
        chosen = [exemplars[i] for i in prompts]
        if reals and not self._reduces:
            wanted = [i for i, exemplar in enumerate(exemplars) if exemplar.kind == "real"]
            chosen += self._maker.prompts_of([exemplars[i] for i in wanted])
            prompts += wanted
        for i, paths in zip(prompts, self._paths(chosen, self._seeds), strict=True):
            copies[i] += paths
        return copies

    def _paths(self, exemplars: Sequence[Exemplar], seeds: Sequence[int]) -> list[list[Path]]:
        before = self._cache.made
        with self._first():
            paths = self._cache.paths(exemplars, seeds, self._watch)
        if made := self._cache.made - before:
            self._say(f"{made} images regenerated ({self._cache.regenerator.name})")
        return paths
