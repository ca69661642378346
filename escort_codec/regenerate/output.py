"""The output tree: images, edge maps and real exemplars as files, and the manifest.

    tree/manifest.jsonl
    tree/<class>/<stem>_seed00.jpg ...    a prompt's images, at the source image's size
    tree/<class>/<stem>_edges.png         its edge map, 1 bit a pixel, white on black
    tree/<class>/<name>                   a real exemplar: its own file, byte for byte

``make_plan`` (plan.py) lists what is missing; ``write_tree`` makes it, in this process, or a share of it in each of
several. Every file is written beside, flushed and renamed: what is there is whole.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from PIL import Image

from escort_codec.container import Reader
from escort_codec.errors import EscortError, OutputError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.regenerate.base import Job, Regenerated, Regenerator, RGBImage
from escort_codec.regenerate.files import make_folder, sweep, write_beside
from escort_codec.regenerate.manifest import Entry, ManifestWriter, repair
from escort_codec.regenerate.plan import Task

QUALITIES: Final = {"jpg": 95, "png": None, "webp": 90}
"""Each format's quality where none is asked for; PNG is lossless and has none."""


@dataclass(frozen=True, slots=True)
class Saving:
    """How images are saved: ``format`` jpg, png or webp; ``quality`` 1..100, None: 95 for jpg, 90 for webp;
    ``threads`` that save while the regenerator goes on. Raises UsageError for what cannot be meant."""

    format: str = "jpg"
    quality: int | None = None
    threads: int = 2

    def __post_init__(self) -> None:
        if self.format not in QUALITIES:
            raise UsageError(f"--format {self.format}: write {', '.join(QUALITIES)}")
        if self.quality is not None and self.format == "png":
            raise UsageError("--quality means nothing to png, which is lossless")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"--quality is 1 to 100, not {self.quality}")
        if self.threads < 1:
            raise UsageError(f"--workers is at least 1, not {self.threads}")


@dataclass(slots=True)
class Outcome:
    """What became of the tasks: files made by kind, and the files that failed."""

    images: int = 0
    edges: int = 0
    real: int = 0
    failed: int = 0


@dataclass(slots=True)
class Watch:
    """Who looks on: ``advance`` is called once a task that is done or failed, from any thread; ``fail`` with one line
    for each that failed. Once ``stop`` is set no further task is begun."""

    advance: Callable[[], None] = lambda: None
    fail: Callable[[str], None] = lambda line: None
    stop: threading.Event = field(default_factory=threading.Event)


def prepare_tree(out: Path) -> None:
    """Makes the folder, clears away what killed processes left, and puts the manifest right.

    Once before ``write_tree``, and once after it where several processes wrote; by one process alone. Raises
    OutputError.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        repair(out)
        sweep(out)
    except OSError as exc:
        raise OutputError(f"{out}: cannot be written ({exc.strerror or exc})") from exc


def write_tree(
    reader: Reader,
    out: Path,
    tasks: list[Task],
    regenerator: Regenerator | None,
    saving: Saving,
    *,
    watch: Watch | None = None,
    part: str = "",
) -> Outcome:
    """Makes the files of ``tasks`` (``make_plan``'s, or a share) in the tree ``out``, which ``prepare_tree`` made.

    ``part``: the name of this process's part of the manifest, where several write. A task that fails is reported and
    the rest goes on; what stops the regenerator as a whole (a model that is missing) is raised.
    """
    with _Writer(reader, out, saving, watch or Watch(), part) as writer:
        for task in tasks:
            if task.kind != "image":
                writer.submit(task, writer.copy)
        if regenerator is not None:
            images = (task for task in tasks if task.kind == "image")
            for result in regenerator.regenerate(writer.jobs(images)):
                writer.save(result, regenerator.name)
    return writer.outcome


class _Writer:
    """Saves in threads behind a queue of bounded length, and counts."""

    def __init__(self, reader: Reader, out: Path, saving: Saving, watch: Watch, part: str) -> None:
        self.outcome = Outcome()
        self._reader, self._out, self._saving, self._watch = reader, out, saving, watch
        self._manifest = ManifestWriter(out, part)
        self._pool = ThreadPoolExecutor(saving.threads, thread_name_prefix="save")
        self._room = threading.BoundedSemaphore(3 * saving.threads)
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
        """The regenerator's jobs, read as it takes them; seeds of one exemplar share the object."""
        last: tuple[int, Exemplar] | None = None
        for task in tasks:
            if self._watch.stop.is_set():
                return
            try:
                if last is None or last[0] != task.number:
                    last = (task.number, self._reader[task.number])
            except EscortError as exc:
                self._failed(task, exc)
                continue
            yield Job(last[1], task.seed, task)

    def save(self, result: Regenerated, regenerator: str) -> None:
        """Queues an image; waits where the queue is full."""
        task: Task = result.job.key

        def run(_: Task) -> None:
            if result.image is None:
                raise result.error or EscortError("no image was made")
            exemplar, recipe = result.job.exemplar, result.recipe
            entry = _entry(task, exemplar, task.seed, regenerator, recipe.to_map(), recipe.digest)
            self._write(task.path, encode_image(result.image, self._saving), entry)

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
        """Queues ``run(task)``; a task that has not begun is left out once the end was asked for."""
        if self._watch.stop.is_set() and not begun:
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
            self._watch.advance()
        except (EscortError, OSError, ValueError, MemoryError) as exc:
            self._failed(task, exc)
        except BaseException as exc:  # a fault of ours: raised where the work was asked for
            self._fault = exc
        finally:
            self._room.release()

    def _failed(self, task: Task, exc: BaseException) -> None:
        with self._lock:
            self.outcome.failed += 1
        why = (exc.strerror or str(exc)) if isinstance(exc, OSError) else str(exc) or type(exc).__name__
        self._watch.fail(f"{task.path}: {why}")
        self._watch.advance()

    def _write(self, path: str, data: bytes, entry: Entry | None) -> None:
        folder, _, name = path.rpartition("/")
        target = make_folder(self._out, folder) / name
        write_beside(target, data, (lambda: self._manifest.add(entry)) if entry else None)


def encode_image(image: RGBImage, saving: Saving) -> bytes:
    """An image file of uint8 RGB (H, W, 3); raises OSError or ValueError where the format cannot hold it."""
    file = io.BytesIO()
    quality = QUALITIES[saving.format] if saving.quality is None else saving.quality
    options = {} if quality is None else {"quality": quality}
    Image.fromarray(image).save(file, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[saving.format], **options)
    return file.getvalue()


def _entry(task: Task, exemplar: Exemplar, *made: object) -> Entry:
    return Entry(task.path, exemplar.key, exemplar.label, task.number, *made)  # type: ignore[arg-type]
