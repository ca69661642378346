"""``latent``: decodes learned pictures with the network of the package and enlarges them to the source image's size.

A seed draws each latent within its quantisation cell; without a seed it is at the centre.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

import cv2
import numpy as np
from PIL import Image

from escort_codec.errors import EscortError, RegenerationError
from escort_codec.exemplar import Exemplar
from escort_codec.latent.picture import prepare
from escort_codec.latent.tables import MODEL
from escort_codec.recipe import Recipe
from escort_codec.regenerate.base import Job, JobResult, Regenerator, RGBImage, image_digest
from escort_codec.settings import check, setting
from escort_codec.workers import in_order

VERSION: Final = "1"
"""Increases when the same exemplar and seed give another image; part of the recipe."""


@dataclass(frozen=True, slots=True)
class LatentOptions:
    """The latent regenerator's options."""

    workers: int | None = setting(None, "Threads that make and save images; one per core if left out.", least=1)

    def __post_init__(self) -> None:
        check(self)


class LearnedPictures(Regenerator):
    """Makes the images of latent exemplars; it cannot regenerate prompts.

    Deterministic: the same exemplar and seed give the same latents everywhere, and the same image up to rounding.
    """

    name: ClassVar[str] = "latent"
    options_class: ClassVar[type] = LatentOptions

    def __init__(self, options: LatentOptions | None = None, near: str | None = None) -> None:
        self.workers: int | None = (options or LatentOptions()).workers

    def recipe(self, exemplar: Exemplar) -> Recipe:
        """As ``extra`` the model, the version of this method, and those of numpy and OpenCV; nothing else applies."""
        return recipe_of(exemplar)

    def regenerate(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        """One result for each job, in the jobs' order; reads at most a few jobs per thread ahead."""
        prepare()
        for _, result in in_order(self._until_stopped(jobs), self._make, self.workers):
            yield result

    def _until_stopped(self, jobs: Iterable[Job]) -> Iterator[Job]:
        for job in jobs:
            if self.stopping:
                return
            yield job

    def _make(self, job: Job) -> JobResult:
        recipe = self.recipe(job.exemplar)
        try:
            return JobResult(job, enlarged(job.exemplar, job.seed), recipe)
        except (EscortError, MemoryError, ValueError, cv2.error) as exc:
            error = RegenerationError(f"{job.exemplar.key}: {exc}")
            error.__cause__ = exc
            return JobResult(job, None, recipe, error)


def recipe_of(exemplar: Exemplar) -> Recipe:
    """See ``LearnedPictures.recipe``."""
    facts = (("latent", VERSION), ("model", str(MODEL)), ("numpy", np.__version__), ("opencv", cv2.__version__))
    return Recipe(preset=exemplar.recipe.preset, extra=facts)


def learned_digest(exemplar: Exemplar, seed: int | None) -> str:
    """``image_digest`` of a learned picture with a seed, or of itself."""
    return image_digest(exemplar, seed, LearnedPictures.name, recipe_of(exemplar).to_map())


def enlarged(exemplar: Exemplar, seed: int | None = None) -> RGBImage:
    """A latent exemplar's picture at the source image's size. Raises EscortError."""
    if 0 in exemplar.size:
        raise RegenerationError("the image has no pixels")
    picture = Image.fromarray(exemplar.picture(seed))
    height, width = exemplar.size
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
