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

import io
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from PIL import Image

from escort_codec.atomic import remove_leftovers, write_file
from escort_codec.container import Reader
from escort_codec.errors import EscortError, OutputError
from escort_codec.export.manifest import ManifestEntry, ManifestWriter, repair
from escort_codec.export.options import LONGEST, ExportOptions
from escort_codec.export.plan import SHOWN_FAILURES, ExportPlan, Task, make_plan, missing_tasks
from escort_codec.export.real import check_real
from escort_codec.names import make_folder
from escort_codec.progress import Progress
from escort_codec.regenerate.base import Job, JobResult, Regenerator, RGBImage, image_digest
from escort_codec.regenerate.latent import LearnedPictures, enlarged, learned_digest, recipe_of
from escort_codec.workers import ByteGate

IN_FLIGHT: Final = 256 << 20
"""Bytes of pixels that wait to be saved or are being saved, at most; a larger image is alone."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """How many files of each kind were written, how many failed, and a line for each of the first that did."""

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
    try:
        out.mkdir(parents=True, exist_ok=True)
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
    the others continue; an error that stops the regenerator (a missing model) is raised, and a new folder in which
    nothing was written by then is removed. Once ``stop`` is set no further task begins.
    """
    world = len(plan.shares)
    part = rank if world > 1 else None
    tasks = missing_tasks(reader, out, options, regenerator if options.images else None, rank=rank, world=world)
    try:
        with _Writer(reader, out, options, progress or Progress(), stop or threading.Event(), part) as writer:
            jobs = writer.jobs(tasks)
            for result in () if regenerator is None else regenerator.regenerate(jobs):
                writer.save(result, regenerator.name if regenerator else "")
            for _ in jobs:  # what the regenerator did not ask for, and all if there is none
                pass
        return writer.outcome
    finally:
        if plan.new_folder and world == 1:
            with suppress(OSError):  # it is not empty
                out.rmdir()


class _Writer:
    """Saves in threads behind a bounded queue, and counts."""

    def __init__(
        self,
        reader: Reader,
        out: Path,
        options: ExportOptions,
        progress: Progress,
        stop: threading.Event,
        part: int | None,
    ) -> None:
        self.outcome = Outcome()
        self._reader, self._out, self._options = reader, out, options
        self._progress, self._stop = progress, stop
        self._manifest = ManifestWriter(out, part)
        self._pool = ThreadPoolExecutor(options.workers, thread_name_prefix="save")
        self._room = threading.BoundedSemaphore(3 * options.workers)
        self._bytes = ByteGate(IN_FLIGHT)
        self._lock = threading.Lock()
        self._fault: BaseException | None = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        self._pool.shutdown()
        self._manifest.close()
        if self._fault and kind is None:
            raise self._fault

    def jobs(self, tasks: Iterator[Task]) -> Iterator[Job]:
        """The regenerator's jobs, read on demand; other tasks on the way are done by the threads."""
        for task in tasks:
            if self._stop.is_set():
                return
            if task.kind == "image":
                assert task.seed is not None
                yield Job(task.exemplar, task.seed, task)
            else:
                self._submit(task, self._copy, _memory_of(task))

    def save(self, result: JobResult, regenerator: str) -> None:
        """Queues an image; waits if the queue is full."""
        task: Task = result.job.key

        def run(_: Task) -> None:
            if result.image is None:
                raise result.error or EscortError("no image was made")
            recipe = result.recipe.to_map()
            digest = image_digest(task.exemplar, task.seed, regenerator, recipe)
            self._write(task, encode_image(result.image, self._options), regenerator, recipe, digest)

        self._submit(task, run, 0 if result.image is None else result.image.nbytes)

    def _copy(self, task: Task) -> None:
        """An edge map, a real exemplar's file or a learned picture."""
        digest = image_digest(task.exemplar)
        if task.kind == "latent":
            data = encode_image(enlarged(task.exemplar, task.seed), self._options)
            recipe = recipe_of(task.exemplar).to_map()
            self._write(task, data, LearnedPictures.name, recipe, learned_digest(task.exemplar, task.seed))
        elif task.kind == "edges":
            file = io.BytesIO()
            Image.fromarray(task.exemplar.edges).save(file, "PNG", optimize=True)
            self._write(task, file.getvalue(), None, None, digest)
        else:
            check_real(task.exemplar)
            self._write(task, task.exemplar.image, None, None, digest)

    def _submit(self, task: Task, run: Callable[[Task], None], memory: int) -> None:
        """Queues ``run(task)``, which needs ``memory`` bytes."""
        self._room.acquire()
        self._bytes.take(memory)
        self._pool.submit(self._run, task, run, memory)

    def _run(self, task: Task, run: Callable[[Task], None], memory: int) -> None:
        try:
            run(task)
            with self._lock:
                self.outcome.images += task.kind == "image"
                self.outcome.edges += task.kind == "edges"
                self.outcome.real += task.kind == "real"
                self.outcome.latent += task.kind == "latent"
            self._progress.advance()
        except (EscortError, OSError, ValueError, MemoryError) as exc:
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

    def _write(
        self, task: Task, data: bytes, regenerator: str | None, recipe: dict[str, Any] | None, digest: str
    ) -> None:
        exemplar = task.exemplar
        entry = ManifestEntry(
            task.path,
            exemplar.key,
            exemplar.label,
            task.number,
            task.kind,
            task.seed,
            regenerator,
            recipe,
            digest,
            self._options.used_quality if task.kind in ("image", "latent") else None,
        )
        folder, _, name = task.path.rpartition("/")
        write_file(make_folder(self._out, folder) / name, data, lambda: self._manifest.add(entry))


def _memory_of(task: Task) -> int:
    """Bytes that an edge map, a real exemplar or a learned picture needs while it is written."""
    height, width = task.exemplar.map_shape if task.kind != "latent" else task.exemplar.size
    return len(task.exemplar.payload) + 3 * height * width


def encode_image(image: RGBImage, options: ExportOptions) -> bytes:
    """An image file of uint8 RGB (H, W, 3). Raises OutputError if it is too long for the format."""
    longest = LONGEST[options.format]
    if max(image.shape) > longest:
        raise OutputError(
            f"has {max(image.shape):,} pixels a side, and {options.format} takes {longest:,}: set `format` to png"
        )
    file = io.BytesIO()
    more = {} if options.used_quality is None else {"quality": options.used_quality}
    Image.fromarray(image).save(file, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[options.format], **more)
    return file.getvalue()
