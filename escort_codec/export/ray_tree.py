"""An export on a Ray cluster: workers make the bytes of files, this process writes them.

Workers need neither the ``.escx`` file nor the output folder, and one that dies leaves nothing behind.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import escort_codec
from escort_codec.container import Reader
from escort_codec.errors import EscortError, RegenerationError
from escort_codec.export.file_data import FileData, exemplar_file, image_file
from escort_codec.export.options import ExportOptions
from escort_codec.export.plan import ExportPlan, Task, missing_tasks
from escort_codec.export.tree import FAULTS, Outcome, TreeWriter
from escort_codec.progress import Progress
from escort_codec.ray_engine import RayEngine, check_version, parse_engine
from escort_codec.regenerate.base import Job, Regenerator, make_regenerator

SHARD: Final = 256
"""The most files of a shard: many batches of a GPU, and the work that is lost if a worker dies."""

SHARD_PIXELS: Final = 1 << 27
"""The most pixels of a shard, unless a single image has more."""

OPEN: Final = 16 * SHARD
"""Tasks that may wait for their shards to fill."""


def shards_of(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """The tasks in shards of images of one size, so that only the last batch of a shard is not full."""
    groups: dict[tuple[int, int], list[Task]] = {}
    count = 0
    for task in tasks:
        group = groups.setdefault(task.exemplar.size, [])
        group.append(task)
        count += 1
        height, width = task.exemplar.size
        if len(group) >= SHARD or len(group) * height * width >= SHARD_PIXELS:
            count -= len(group)
            yield groups.pop(task.exemplar.size)
        elif count >= OPEN:
            size = max(groups, key=lambda size: len(groups[size]))
            count -= len(groups[size])
            yield groups.pop(size)
    rest: list[Task] = []  # rare sizes share shards, so that many sizes do not make many small shards
    for group in groups.values():
        rest += group
    for start in range(0, len(rest), SHARD):
        yield rest[start : start + SHARD]


@dataclass(slots=True)
class ClusterWork:
    """What a worker makes images with: a regenerator's name and settings."""

    regenerator: str
    settings: Mapping[str, Any] = field(default_factory=dict)


class TreeMaker:
    """In a worker: makes shards. It loads the regenerator's models once, with the first shard that needs them."""

    def __init__(self, version: str, work: ClusterWork, options: ExportOptions) -> None:
        check_version(version)
        self._options = options
        self._regenerator: Regenerator = make_regenerator(work.regenerator, work.settings, workers=1)

    def ready(self) -> None:
        """Returns when the worker has started."""

    def make(self, tasks: Sequence[Task]) -> list[FileData | EscortError]:
        """The files of a shard, or why one could not be made. Raises what stops the regenerator."""
        made: dict[int, FileData | EscortError] = {}
        for number, task in enumerate(tasks):
            if task.kind != "image":
                try:
                    made[number] = exemplar_file(task, self._options)
                except FAULTS as exc:
                    made[number] = _as_escort_error(exc)
        jobs = (Job(task.exemplar, task.seed or 0, number) for number, task in enumerate(tasks) if task.kind == "image")
        for result in self._regenerator.regenerate(jobs):
            task = tasks[result.job.key]
            try:
                made[result.job.key] = image_file(task, result, self._regenerator.name, self._options)
            except FAULTS as exc:
                made[result.job.key] = _as_escort_error(exc)
        return [made.get(number) or RegenerationError("no image was made") for number in range(len(tasks))]


def _as_escort_error(exc: BaseException) -> EscortError:
    """An error that can be pickled."""
    return exc if isinstance(exc, EscortError) else EscortError(str(exc) or type(exc).__name__)


def write_tree_with_ray(
    reader: Reader,
    out: Path,
    plan: ExportPlan,
    regenerator: Regenerator,
    options: ExportOptions,
    work: ClusterWork,
    *,
    progress: Progress = Progress(),
    stop: threading.Event | None = None,
) -> Outcome:
    """``write_tree`` with the engine ``options.engine``; ``regenerator`` only plans.

    Raises EngineError, and what stops the regenerator.
    """
    stop = stop or threading.Event()
    gpus = options.gpus_per_worker
    tasks = missing_tasks(reader, out, options, regenerator if options.images else None)

    def shards() -> Iterator[list[Task]]:
        for shard in shards_of(tasks):
            if stop.is_set():
                return
            yield shard

    try:
        with (
            RayEngine(parse_engine(options.engine) or "") as engine,
            TreeWriter(reader, out, options, progress, stop, None) as writer,
        ):
            remote = engine.ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(TreeMaker)
            start = functools.partial(remote.remote, escort_codec.__version__, work, options)
            for shard, files in engine.spread(start, shards(), gpus=gpus, progress=progress):
                for task, made in zip(shard, files, strict=True):
                    memory = 0 if isinstance(made, EscortError) else len(made.data)
                    writer.submit(task, functools.partial(_unwrap, made), memory)
        return writer.outcome
    finally:
        if plan.new_folder:
            with suppress(OSError):  # it is not empty
                out.rmdir()


def _unwrap(made: FileData | EscortError) -> FileData:
    if isinstance(made, EscortError):
        raise made
    return made
