"""The output tree: images, edge maps and real exemplars as files, and the manifest.

    tree/manifest.jsonl
    tree/<class>/<stem>_seed00.jpg ...    a prompt's images, at the source image's size
    tree/<class>/<stem>_edges.png         its edge map, 1 bit per pixel, white on black
    tree/<class>/<name>                   a real exemplar: its own file, byte for byte

``make_plan`` (plan.py) lists the missing files; ``write_tree`` writes them, or one process's share of them. Files are
written under a temporary name, synced and renamed, so an existing file is complete.
"""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from PIL import Image

from escort_codec.atomic import remove_leftovers, write_file
from escort_codec.container import Reader
from escort_codec.errors import EscortError, OutputError
from escort_codec.exemplar import Exemplar
from escort_codec.export.manifest import ManifestEntry, ManifestWriter, repair
from escort_codec.export.options import QUALITIES, ExportOptions
from escort_codec.export.plan import ExportPlan, Task, make_plan
from escort_codec.names import make_folder
from escort_codec.progress import Progress
from escort_codec.regenerate.base import Job, JobResult, Regenerator, RGBImage

SHOWN_FAILURES: Final = 20
"""Failures that get a log line each."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """How many files of each kind were written, and a line for each that failed."""

    images: int = 0
    edges: int = 0
    real: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Adds another outcome's counts and failures."""
        self.images += other.images
        self.edges += other.edges
        self.real += other.real
        self.failures += other.failures

    @property
    def failed(self) -> int:
        """The number of failures."""
        return len(self.failures)


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
    if not plan.tasks:
        return plan, Outcome()
    prepare_tree(out)
    progress = progress or Progress()
    progress.begin("decode", len(plan.tasks), unit="files")
    try:
        return plan, write_tree(reader, out, plan.tasks, regenerator, options, progress=progress)
    finally:
        progress.end()


def write_tree(
    reader: Reader,
    out: Path,
    tasks: list[Task],
    regenerator: Regenerator | None,
    options: ExportOptions,
    *,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    part: int | None = None,
) -> Outcome:
    """Makes the files of ``tasks`` (``make_plan``'s, or a share) in the tree ``out``, which ``prepare_tree`` made.

    ``part`` numbers this process's part of the manifest if several processes write. A task that fails is logged as a
    warning and the others continue; an error that stops the regenerator (a missing model) is raised. Once ``stop`` is
    set no further task begins.
    """
    with _Writer(reader, out, options, progress or Progress(), stop or threading.Event(), part) as writer:
        for task in tasks:
            if task.kind != "image":
                writer.submit(task, writer.copy)
        if regenerator is not None:
            images = (task for task in tasks if task.kind == "image")
            for result in regenerator.regenerate(writer.jobs(images)):
                writer.save(result, regenerator.name)
    return writer.outcome


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
        """The regenerator's jobs, read on demand; the seeds of one exemplar share the object."""
        last: tuple[int, Exemplar] | None = None
        for task in tasks:
            if self._stop.is_set():
                return
            try:
                if last is None or last[0] != task.number:
                    last = (task.number, self._reader[task.number])
            except EscortError as exc:
                self._failed(task, exc)
                continue
            yield Job(last[1], task.seed, task)

    def save(self, result: JobResult, regenerator: str) -> None:
        """Queues an image; waits if the queue is full."""
        task: Task = result.job.key

        def run(_: Task) -> None:
            if result.image is None:
                raise result.error or EscortError("no image was made")
            exemplar, recipe = result.job.exemplar, result.recipe
            entry = _entry(task, exemplar, task.seed, regenerator, recipe.to_map(), recipe.digest)
            self._write(task.path, encode_image(result.image, self._options), entry)

        self.submit(task, run, begun=True)

    def copy(self, task: Task) -> None:
        """An edge map or a real exemplar's file."""
        exemplar = self._reader[task.number]
        if task.kind == "edges":
            file = io.BytesIO()
            Image.fromarray(exemplar.edges).save(file, "PNG", optimize=True)
            self._write(task.path, file.getvalue(), None)
        else:
            self._write(task.path, exemplar.image, _entry(task, exemplar))

    def submit(self, task: Task, run: Callable[[Task], None], *, begun: bool = False) -> None:
        """Queues ``run(task)``; a task that has not begun is left out once ``stop`` is set."""
        if self._stop.is_set() and not begun:
            return
        self._room.acquire()
        self._pool.submit(self._run, task, run)

    def _run(self, task: Task, run: Callable[[Task], None]) -> None:
        try:
            run(task)
            with self._lock:
                self.outcome.images += task.kind == "image"
                self.outcome.edges += task.kind == "edges"
                self.outcome.real += task.kind == "real"
            self._progress.advance()
        except (EscortError, OSError, ValueError, MemoryError) as exc:
            self._failed(task, exc)
        except BaseException as exc:  # a bug: raised in the calling thread
            self._fault = exc
        finally:
            self._room.release()

    def _failed(self, task: Task, exc: BaseException) -> None:
        why = (exc.strerror or str(exc)) if isinstance(exc, OSError) else str(exc) or type(exc).__name__
        line = f"{task.path}: {why.removeprefix(f'{self._out / task.path}: ')}"
        with self._lock:
            self.outcome.failures.append(line)
            count = len(self.outcome.failures)
        if count <= SHOWN_FAILURES:
            log.warning("%s", line)
        elif count == SHOWN_FAILURES + 1:
            log.warning("more files fail; the summary counts them")
        self._progress.advance()

    def _write(self, path: str, data: bytes, entry: ManifestEntry | None) -> None:
        folder, _, name = path.rpartition("/")
        target = make_folder(self._out, folder) / name
        write_file(target, data, (lambda: self._manifest.add(entry)) if entry else None)


def encode_image(image: RGBImage, options: ExportOptions) -> bytes:
    """An image file of uint8 RGB (H, W, 3); raises OSError or ValueError if the format does not support its size."""
    file = io.BytesIO()
    quality = QUALITIES[options.format] if options.quality is None else options.quality
    more = {} if quality is None else {"quality": quality}
    Image.fromarray(image).save(file, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[options.format], **more)
    return file.getvalue()


def _entry(task: Task, exemplar: Exemplar, *made: object) -> ManifestEntry:
    return ManifestEntry(task.path, exemplar.key, exemplar.label, task.number, *made)  # type: ignore[arg-type]
