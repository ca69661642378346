"""Synthetic images: what training shows in place of prompts, and of images under data augmentation.

Regenerated images are cached. The cache is not memory: they can be made again from the prompts at any time.
"""

from __future__ import annotations

import io
import logging
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from escort_cil.data.decoding import Source, stored_source
from escort_cil.memory.encoder import ExemplarEncoder, Needs
from escort_cil.memory.keep import Keep
from escort_cil.memory.kinds import ExemplarKind, Prompt, is_regenerated
from escort_codec.atomic import write_file
from escort_codec.errors import RegenerationError, SourceError
from escort_codec.exemplar import Exemplar
from escort_codec.export.manifest import read_manifest
from escort_codec.export.options import LONGEST
from escort_codec.names import make_folder, make_folders
from escort_codec.progress import Progress
from escort_codec.regenerate.base import Job, JobResult, Regenerator, image_digest
from escort_codec.source import SourceImage
from escort_codec.source.layout import CACHE_SIGNATURE, CACHE_TAG
from escort_codec.workers import usable_cores

log = logging.getLogger(__name__)

QUALITY: Final = 95  # of the cache's JPEG files
QUEUE: Final = 16  # images that wait to be saved

Find: TypeAlias = Callable[[Exemplar, int], Path | None]
"""Finds the image of an exemplar and a seed; None if there is none."""


class ExportedImages:
    """The images in a folder that ``escort decode`` wrote; ``regenerators`` names those that made them, sorted.

    Raises SourceError if the folder has no manifest.
    """

    def __init__(self, folder: Path) -> None:
        entries = read_manifest(folder)
        if not entries:
            raise SourceError(f"{folder}: has no manifest.jsonl: give a folder that `escort decode` wrote")
        self.folder = folder
        self.regenerators = tuple(sorted({entry.regenerator for entry in entries.values() if entry.regenerator}))
        self._entries = {(each.exemplar, each.seed): each for each in entries.values() if each.kind == "image"}
        self._other = False

    def find(self, exemplar: Exemplar, seed: int) -> Path | None:
        """The image of an exemplar and a seed, or None.

        It is found by ``label/name``, and must be made of this very exemplar. The first image that was made of another
        exemplar with that name is logged as a warning.
        """
        entry = self._entries.get((exemplar.key, seed))
        if entry is None or not (path := self.folder / entry.image).is_file():
            return None
        if entry.digest == image_digest(exemplar, seed, entry.regenerator or "", entry.recipe):
            return path
        if not self._other:
            self._other = True
            log.warning(
                "%s: the images of %s are of another exemplar with that name (other data, or other settings of "
                "encode): such images are made anew",
                self.folder,
                exemplar.key,
            )
        return None


class SyntheticCache:
    """Regenerated images as files in ``folder``; missing ones are made.

    The name of a file is the digest of prompt, seed and recipe, so that many runs can share one folder. ``elsewhere``
    finds images that exist in another place.
    """

    def __init__(self, folder: Path, regenerator: Regenerator, elsewhere: Find | None = None) -> None:
        self.folder = folder
        self.regenerator = regenerator
        self._elsewhere = elsewhere
        self.made = 0

    def paths(
        self, exemplars: Sequence[Exemplar], seeds: Sequence[int], progress: Progress | None = None
    ) -> list[list[Path]]:
        """The images of prompts, one list per exemplar, in the order of ``seeds``.

        Raises RegenerationError if one cannot be made, OutputError if it cannot be written.
        """
        places: list[list[Path]] = []
        missing: dict[Path, Job] = {}  # images with equal bytes have one copy
        for exemplar in exemplars:
            places.append([])
            for seed in seeds:
                place = self.find(exemplar, seed)
                if place is None:
                    place = self._place(exemplar, seed)
                    missing[place] = Job(exemplar, seed, place)
                places[-1].append(place)
        if missing:
            self._make(list(missing.values()), progress or Progress())
        return places

    def find(self, exemplar: Exemplar, seed: int) -> Path | None:
        """The image of a prompt and a seed if there is one, here or elsewhere, or None."""
        if self._elsewhere is not None and (path := self._elsewhere(exemplar, seed)) is not None:
            return path
        place = self._place(exemplar, seed)
        return place if _is_there(place) else None

    def _place(self, exemplar: Exemplar, seed: int) -> Path:
        name = image_digest(exemplar, seed, self.regenerator.name, self.regenerator.recipe(exemplar).to_map())
        return self.folder / name[:2] / f"{name}.jpg"

    def _make(self, jobs: list[Job], progress: Progress) -> None:
        self.regenerator.check({job.exemplar.recipe for job in jobs})
        _mark(self.folder)
        progress.begin("synthetic images", len(jobs))
        with ThreadPoolExecutor(usable_cores(), thread_name_prefix="synthetic") as pool:
            for _ in _save_in_turn(pool, self._results(jobs)):
                self.made += 1
                progress.advance()
        progress.end()

    def _results(self, jobs: list[Job]) -> Iterator[JobResult]:
        for result in self.regenerator.regenerate(jobs):
            if result.image is None:
                raise result.error or RegenerationError(f"{result.job.exemplar.key}: no image was made")
            yield result


def _is_there(place: Path) -> bool:
    """Whether the image exists: not a link, and not empty, as after a power cut."""
    try:
        about = place.lstat()
    except OSError:
        return False
    return stat.S_ISREG(about.st_mode) and about.st_size > 0 and not place.parent.is_symlink()


def _mark(folder: Path) -> None:
    """Marks the folder as a cache, so that backups skip it and no data folder takes it for a class."""
    tag = folder / CACHE_TAG
    if not tag.is_file():
        make_folders(folder)
        write_file(tag, CACHE_SIGNATURE + b"\n# Images that escort regenerated; they can be made again.\n")


def _save_in_turn(pool: ThreadPoolExecutor, results: Iterator[JobResult]) -> Iterator[None]:
    """Saves images while the next ones are made."""
    waiting: deque[Future[None]] = deque()
    for result in results:
        waiting.append(pool.submit(_save, result))
        if len(waiting) > QUEUE:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _save(result: JobResult) -> None:
    place: Path = result.job.key
    assert result.image is not None
    make_folder(place.parents[1], place.parent.name)
    write_file(place, _jpeg(result.image))


def _jpeg(rgb: NDArray[np.uint8]) -> bytes:
    file, picture = io.BytesIO(), Image.fromarray(rgb)
    picture.thumbnail((LONGEST["jpg"], LONGEST["jpg"]))  # only changes images that are too long for JPEG
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


class SyntheticImages:
    """The copies that training may show in place of images and exemplars. They depend on ``keep``.

    The copies of an image are the images regenerated from its prompt, one per seed, or its reduced version, or both. If
    only originals are kept, its prompt is regenerated, so that every memory can use the same augmentation. With both
    kinds, each is as likely to be drawn as the other.
    """

    def __init__(
        self,
        encoder: ExemplarEncoder,
        cache: SyntheticCache,
        keep: Keep,
        seeds: Sequence[int],
        *,
        main_first: Callable[[], AbstractContextManager[None]] = nullcontext,
        progress: Progress | None = None,
    ) -> None:
        """``main_first``: a block that the main process runs before the others, so that it makes the images."""
        self.encoder = encoder
        self._cache = cache
        self._seeds = tuple(seeds)
        self._kept = tuple(kind for kind in keep.kinds if kind.decodes)
        self._reduced = tuple(kind for kind in keep.kinds if kind.is_copy and not kind.regenerated)
        regenerated: tuple[ExemplarKind, ...] = tuple(kind for kind in keep.kinds if kind.regenerated)
        self._regenerated = regenerated or (() if self._reduced else (Prompt(),))
        self._keeps_originals = any(not kind.is_copy for kind in keep.kinds)
        self._main_first = main_first
        self._progress = progress

    def needs(self, *, shown: bool, remembered: bool = False, later: bool = False) -> Needs:
        """What to derive from each image when it is decoded: for its copies if they are ``shown`` (``later`` also, as a
        real exemplar), and for the memory if it may be ``remembered``."""
        kinds = set(self._kept) if remembered else set()
        if shown:
            kinds |= {*self._reduced, *self._regenerated}
        return Needs(tuple(sorted(kinds, key=str)), self.of_real(shown) if later else None)

    def of_real(self, shown: bool) -> ExemplarKind | None:
        """The kind from which real exemplars are regenerated, if copies are ``shown`` and originals are kept; else
        None."""
        return self._regenerated[0] if shown and self._keeps_originals else None

    def of_images(self, images: Sequence[SourceImage], seeds: Sequence[int] | None = None) -> list[list[Source]]:
        """The copies of images, one list per image; ``seeds`` None means all."""
        seeds = self._seeds if seeds is None else seeds
        copies: list[list[Source]] = [[] for _ in images]
        for kind in self._regenerated:
            for row, paths in zip(copies, self._paths(self.encoder.exemplars(kind, images), seeds), strict=True):
                row += paths
        for kind in self._reduced:
            times = len(seeds) if self._regenerated else 1
            for row, exemplar in zip(copies, self.encoder.exemplars(kind, images), strict=True):
                row += [stored_source(exemplar)] * times
        return copies

    def of_exemplars(self, exemplars: Sequence[Exemplar], *, reals: bool) -> list[list[Source]]:
        """The copies of remembered exemplars: images regenerated from prompts and, with ``reals``, from original files.

        A reduced image is itself a copy and has none.
        """
        copies: list[list[Source]] = [[] for _ in exemplars]
        places = [i for i, exemplar in enumerate(exemplars) if is_regenerated(exemplar)]
        chosen = [exemplars[i] for i in places]
        if reals and not self._reduced:
            originals = [i for i, exemplar in enumerate(exemplars) if not is_regenerated(exemplar)]
            chosen += self.encoder.of_reals(self._regenerated[0], [exemplars[i] for i in originals])
            places += originals
        for i, paths in zip(places, self._paths(chosen, self._seeds), strict=True):
            copies[i] += paths
        return copies

    def _paths(self, exemplars: Sequence[Exemplar], seeds: Sequence[int]) -> list[list[Path]]:
        before = self._cache.made
        with self._main_first():
            paths = self._cache.paths(exemplars, seeds, self._progress)
        if made := self._cache.made - before:
            log.info("%d images regenerated (%s)", made, self._cache.regenerator.name)
        return paths
