"""The regenerator: jobs in, images out, in batches."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from escort_codec.errors import ModelError, RegenerationError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import Recipe
from escort_codec.regenerate.base import Job, JobResult, Regenerator
from escort_codec.regenerate.controlnet.models import ModelChoice, Pins, pin
from escort_codec.regenerate.controlnet.options import ControlNetOptions
from escort_codec.regenerate.controlnet.presets import to_source_size
from escort_codec.regenerate.controlnet.resolve import (
    GenerationSettings,
    ModelInput,
    Request,
    check_choice,
    check_recipe,
    prepare,
    resolve,
    unapproved_models,
    with_pins,
)
from escort_codec.regenerate.controlnet.session import JobGroups, ModelSession, format_size, is_out_of_memory
from escort_codec.words import first_line

log: Final = logging.getLogger(__name__)

THREADS: Final = 4
"""Threads that decode edge maps and resize images while the device works."""

SIZED: Final = 256 << 20
"""The most bytes of finished images that wait for the caller."""


@dataclass(frozen=True, slots=True)
class PendingJob:
    """A job with its settings, and its model input, which a thread prepares."""

    job: Job
    request: Request
    model_input: Future[ModelInput]


class ControlNetRegenerator(Regenerator):
    """Stable Diffusion with a Canny ControlNet, as in the paper.

    Nothing is loaded before the first job, and the weights stay until ``close``. Jobs are gathered into batches by
    generation size. The starting noise depends on the seed and the size alone, to the bit; the image also depends on
    the kernels that the device chooses for the batch's shape (``docs/regeneration.md``).
    """

    name: ClassVar[str] = "controlnet"
    options_class: ClassVar[type] = ControlNetOptions

    def __init__(self, options: ControlNetOptions | None = None, near: str | None = None) -> None:
        self.options: ControlNetOptions = options or ControlNetOptions()
        self.session: ModelSession = ModelSession(self.options, near)
        self._pins: dict[ModelChoice, Pins] = {}
        self._pool: ThreadPoolExecutor | None = None

    def recipe(self, exemplar: Exemplar) -> Recipe:
        """See the base class. A Hub model's revision is filled in if its files are in the local cache."""
        return self._filled(self._resolve(exemplar))

    def wanted(self, recipes: Iterable[Recipe]) -> list[str]:
        """See the base class."""
        return list(dict.fromkeys(each for recipe in recipes for each in unapproved_models(recipe, self.options)))

    def check(self, recipes: Iterable[Recipe]) -> None:
        """See the base class. Raises UsageError for a device that does not exist and for settings that no recipe
        allows, ModelError for a model that the user has not allowed."""
        _ = self.session.device
        recipes, fault = list(recipes), None
        for recipe in recipes:
            check_choice(recipe, self.options)
        for recipe in recipes:
            try:
                check_recipe(recipe, self.options)
            except UsageError as exc:
                fault = fault or exc
            else:
                return
        if fault is not None:
            raise fault

    def regenerate(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        """See the base class. Raises ModelError if the model cannot or may not be loaded, UsageError for the device."""
        groups: JobGroups[GenerationSettings, PendingJob] = JobGroups(self.session.batch_size)
        for job in jobs:
            if self.stopping:
                return
            _ = self.session.device  # a missing device stops everything
            try:
                request = self._resolve(job.exemplar)
            except ModelError:
                raise
            except RegenerationError as exc:
                yield JobResult(job, None, job.exemplar.recipe, exc)
                continue
            prepared = PendingJob(job, request, self._threads.submit(prepare, job, request))
            height, width = request.settings.size
            for settings, batch in groups.add(request.settings, prepared, 6 * height * width):
                yield from self._make(settings, batch)
        for settings, batch in groups.rest():
            if self.stopping:
                return
            yield from self._make(settings, batch)

    def close(self) -> None:
        """Frees the weights and the device's memory."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self.session.close()

    @property
    def seconds(self) -> dict[str, float]:
        """See the base class: ``load``, and ``warm_up`` (measuring the batch size, compiling)."""
        return dict(self.session.seconds)

    @property
    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="controlnet")
        return self._pool

    def _resolve(self, exemplar: Exemplar) -> Request:
        return resolve(exemplar, self.options, self.session.default_dtype)

    def _filled(self, request: Request) -> Recipe:
        """The recipe with the models' names and revisions."""
        choice = request.settings.choice
        if choice not in self._pins:
            try:
                self._pins[choice] = pin(choice)
            except ModelError:  # loading reports it in full
                self._pins[choice] = Pins(choice.model_revision, choice.controlnet, choice.controlnet_revision)
        return with_pins(request.recipe, choice, self._pins[choice])

    def _make(self, settings: GenerationSettings, batch: list[PendingJob]) -> Iterator[JobResult]:
        """The results of one group's jobs, in as many batches as memory needs."""
        ready: list[tuple[PendingJob, ModelInput]] = []
        for prepared in batch:
            try:
                ready.append((prepared, prepared.model_input.result()))
            except RegenerationError as exc:
                yield JobResult(prepared.job, None, self._filled(prepared.request), exc)
        if not ready:
            return
        if self.session.load(settings.choice):
            self._pins.pop(settings.choice, None)  # now the Hub model's commit is known
        self.session.measure(settings, ready[0][1])
        while ready and not self.stopping:
            count = self.session.batch_size(settings)
            part, ready = ready[:count], ready[count:]
            made, failure = self._try(settings, [picture for _, picture in part])
            if made is not None:
                yield from self._finish(settings, part, *made)
            elif failure:
                yield from (self._failed(prepared, failure) for prepared, _ in part)
            else:
                self.session.free()
                half = self.session.sizes.ran_out(settings.size, len(part))
                if half:
                    size = format_size(settings.size)
                    log.warning("out of memory at %d images of %s: continuing with %d", len(part), size, half)
                    ready = part + ready
                else:
                    yield self._failed(part[0][0], self._too_large(settings))

    def _try(
        self, settings: GenerationSettings, pictures: list[ModelInput]
    ) -> tuple[tuple[NDArray[np.uint8], list[bool]] | None, str]:
        """A batch's images, or what went wrong, or neither if memory ran out (the batch's tensors are free by then)."""
        try:
            return self.session.run(settings, pictures), ""
        except (RuntimeError, ValueError, MemoryError) as exc:
            return None, "" if is_out_of_memory(exc) else f"{type(exc).__name__}: {first_line(exc)}"

    def _finish(
        self,
        settings: GenerationSettings,
        part: list[tuple[PendingJob, ModelInput]],
        images: NDArray[np.uint8],
        finite: list[bool],
    ) -> Iterator[JobResult]:
        """A batch's results at the source images' sizes. Images that are not finite are made again in fp32."""
        waiting: deque[tuple[PendingJob, ModelInput, Future[NDArray[np.uint8]] | None]] = deque()

        def first() -> JobResult:
            prepared, picture, image = waiting.popleft()
            if image is None:
                return self._again_in_fp32(settings, prepared, picture)
            return JobResult(prepared.job, image.result(), self._filled(prepared.request))

        for (prepared, picture), image, good in zip(part, images, finite, strict=True):
            size = prepared.job.exemplar.size
            while waiting and sum(3 * math.prod(each[0].job.exemplar.size) for each in waiting) > SIZED:
                yield first()
            future = self._threads.submit(to_source_size, image, size) if good else None
            waiting.append((prepared, picture, future))
        while waiting:
            yield first()

    def _again_in_fp32(self, settings: GenerationSettings, prepared: PendingJob, picture: ModelInput) -> JobResult:
        dtype, job = settings.choice.dtype, prepared.job
        if dtype == "fp32":
            return self._failed(prepared, "the model's values are not finite")
        try:
            images, finite = self.session.run_in_fp32(settings, picture)
        except (RuntimeError, ValueError, MemoryError) as exc:
            return self._failed(prepared, f"not finite in {dtype}, and in fp32: {first_line(exc)}")
        if not finite[0]:
            return self._failed(prepared, f"the model's values are not finite, in {dtype} and in fp32")
        log.warning("%s, seed %d: not finite in %s, made again in fp32", job.exemplar.key, job.seed, dtype)
        recipe = self._filled(prepared.request)
        recipe = replace(recipe, extra=tuple(sorted((*recipe.extra, ("retried_in", "fp32")))))
        return JobResult(job, to_source_size(images[0], job.exemplar.size), recipe)

    def _too_large(self, settings: GenerationSettings) -> str:
        return (
            f"one image of {format_size(settings.size)} does not fit into the memory of {self.session.device}; "
            "a smaller `resolution` or the `dtype` bf16 needs less"
        )

    def _failed(self, prepared: PendingJob, why: str) -> JobResult:
        job = prepared.job
        error = RegenerationError(f"{job.exemplar.key}, seed {job.seed}: {why}")
        return JobResult(job, None, self._filled(prepared.request), error)
