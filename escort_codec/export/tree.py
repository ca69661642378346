"""The output tree: images, edge maps and real exemplars as files, and the manifest.

    tree/manifest.jsonl
    tree/<class>/<stem>_seed00.jpg ...    a prompt's images, at the source image's size
    tree/<class>/<stem>_edges.png         its edge map, 1 bit per pixel, white on black
    tree/<class>/<stem>_plain.jpg         a learned picture at that size; with seeds as a prompt's images
    tree/<class>/<name>                   a real exemplar: its own file, byte for byte

``make_plan`` (plan.py) counts the missing files; ``write_tree`` writes them, or one process's share of them. Files are
written under a temporary name, synced and renamed, so an existing file is complete.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from escort_codec.atomic import remove_leftovers, write_file
from escort_codec.container import Reader
from escort_codec.errors import EscortError, OutputError
from escort_codec.export.file_data import FileData, exemplar_file, image_file, memory_needed
from escort_codec.export.manifest import ManifestEntry, ManifestWriter, repair
from escort_codec.export.options import ExportOptions
from escort_codec.export.plan import SHOWN_FAILURES, ExportPlan, Task, make_plan, missing_tasks
from escort_codec.names import make_folder, make_folders
from escort_codec.progress import Progress
from escort_codec.regenerate.base import Job, JobResult, Regenerator
from escort_codec.workers import ByteGate

IN_FLIGHT: Final = 256 << 20
"""The most bytes of pixels that are being saved or wait for it; a larger image is saved alone."""

FAULTS: Final = (EscortError, OSError, ValueError, MemoryError)
"""Errors of one file, after which the others continue."""

log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """The number of files written by kind, the number of failures, and lines about the first failures."""

    images: int = 0
    edges: int = 0
    real: int = 0
    latent: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Adds another outcome's counts and failures."""
        self.images += other.images
        self.edges += other.edges
        self.real += other.real
        self.latent += other.latent
        self.failed += other.failed
        self.failures += other.failures


def prepare_tree(out: Path) -> None:
    """Makes the folder, removes partial files of killed processes, and repairs the manifest.

    Call it in one process before ``write_tree``, and again afterwards if several processes wrote. Raises OutputError.
    """
    make_folders(out)
    try:
        repair(out)
        remove_leftovers(out)
    except OSError as exc:
        raise OutputError(f"{out}: cannot be written ({exc.strerror or exc})") from exc


def export_file(
    reader: Reader, out: Path, options: ExportOptions, regenerator: Regenerator, *, progress: Progress | None = None
) -> tuple[ExportPlan, Outcome]:
    """Writes the missing files of ``options`` into the tree ``out``: ``make_plan`` and ``write_tree`` in one process.

    Returns the plan and what was written; raises what these two raise.
    """
    plan = make_plan(reader, out, options, regenerator if options.images else None)
    if not plan.missing.files:
        return plan, Outcome()
    if plan.missing.images:
        regenerator.check(reader.recipes)
    prepare_tree(out)
    progress = progress or Progress()
    progress.begin("decode", plan.missing.files, unit="files")
    try:
        return plan, write_tree(reader, out, plan, regenerator, options, progress=progress)
    finally:
        progress.end()


def write_tree(
    reader: Reader,
    out: Path,
    plan: ExportPlan,
    regenerator: Regenerator | None,
    options: ExportOptions,
    *,
    rank: int = 0,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Makes the missing files, or the share of process ``rank``, in the tree ``out``, which ``prepare_tree`` made.

    Without a regenerator only edge maps and real exemplars are written. A task that fails is logged as a warning and
    the others continue; an error that stops the regenerator (a missing model) is raised, and a new folder is
    removed if nothing was written to it. No task begins after ``stop`` is set.
    """
    world = len(plan.shares)
    part = rank if world > 1 else None
    tasks = missing_tasks(reader, out, options, regenerator if options.images else None, rank=rank, world=world)
    try:
        with TreeWriter(reader, out, options, progress or Progress(), stop or threading.Event(), part) as writer:
            jobs = writer.jobs(tasks)
            for result in () if regenerator is None else regenerator.regenerate(jobs):
                writer.save(result, regenerator.name if regenerator else "")
            for _ in jobs:  # the tasks that the regenerator did not request; all, if there is none
                pass
        return writer.outcome
    finally:
        if plan.new_folder and world == 1:
            with suppress(OSError):  # it is not empty
                out.rmdir()


class TreeWriter:
    """Saves files in threads behind a bounded queue, and counts them."""

    def __init__(
        self,
        reader: Reader,
        out: Path,
        options: ExportOptions,
        progress: Progress,
        stop: threading.Event,
        part: int | None,
    ) -> None:
        self.outcome: Outcome = Outcome()
        self._reader, self._out, self._options = reader, out, options
        self._progress, self._stop = progress, stop
        self._manifest = ManifestWriter(out, part)
        self._pool = ThreadPoolExecutor(options.workers, thread_name_prefix="save")
        self._room = threading.BoundedSemaphore(3 * options.workers)
        self._bytes = ByteGate(IN_FLIGHT)
        self._lock = threading.Lock()
        self._fault: BaseException | None = None

    def __enter__(self) -> TreeWriter:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        self._pool.shutdown()
        self._manifest.close()
        if self._fault and kind is None:
            raise self._fault

    def jobs(self, tasks: Iterator[Task]) -> Iterator[Job]:
        """The regenerator's jobs, on demand; the threads do the tasks in between."""
        for task in tasks:
            if self._stop.is_set():
                return
            if task.kind == "image":
                assert task.seed is not None
                yield Job(task.exemplar, task.seed, task)
            else:
                self.submit(task, functools.partial(exemplar_file, task, self._options), memory_needed(task))

    def save(self, result: JobResult, regenerator: str) -> None:
        """Queues an image; waits if the queue is full."""
        task: Task = result.job.key
        memory = 0 if result.image is None else result.image.nbytes
        self.submit(task, lambda: image_file(task, result, regenerator, self._options), memory)

    def submit(self, task: Task, make: Callable[[], FileData], memory: int) -> None:
        """Queues a file, whose bytes ``make`` returns; it needs ``memory`` bytes."""
        self._room.acquire()
        self._bytes.take(memory)
        self._pool.submit(self._run, task, make, memory)

    def _run(self, task: Task, make: Callable[[], FileData], memory: int) -> None:
        try:
            self._write(task, make())
            with self._lock:
                self.outcome.images += task.kind == "image"
                self.outcome.edges += task.kind == "edges"
                self.outcome.real += task.kind == "real"
                self.outcome.latent += task.kind == "latent"
            self._progress.advance()
        except FAULTS as exc:
            self._failed(task, exc)
        except BaseException as exc:  # a bug: raised in the calling thread
            self._fault = exc
        finally:
            self._bytes.give(memory)
            self._room.release()

    def _failed(self, task: Task, exc: BaseException) -> None:
        why = (exc.strerror or str(exc)) if isinstance(exc, OSError) else str(exc) or type(exc).__name__
        line = f"{task.path}: {why.removeprefix(f'{self._out / task.path}: ')}"
        with self._lock:
            self.outcome.failed += 1
            count = self.outcome.failed
            if count <= SHOWN_FAILURES:
                self.outcome.failures.append(line)
        if count <= SHOWN_FAILURES:
            log.warning("%s", line)
        elif count == SHOWN_FAILURES + 1:
            log.warning("more files fail; the summary counts them")
        self._progress.advance()

    def _write(self, task: Task, made: FileData) -> None:
        exemplar = task.exemplar
        about = (exemplar.key, exemplar.label, task.number, task.kind, task.seed)
        quality = self._options.used_quality if task.kind in ("image", "latent") else None
        entry = ManifestEntry(task.path, *about, made.regenerator, made.recipe, made.digest, quality)
        folder, _, name = task.path.rpartition("/")
        write_file(make_folder(self._out, folder) / name, made.data, lambda: self._manifest.add(entry))
