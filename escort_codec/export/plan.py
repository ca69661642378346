"""Plans an export: counts its files before a model is loaded, and then lists them one by one.

Tasks are made on demand: an ``.escx`` file of a kilobyte can ask for millions of images, and memory must not grow with
their number. Only the names of exemplars and the lines of an existing manifest are in memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from escort_codec.container import Reader
from escort_codec.errors import EscortError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.export.existing import ExistingFiles
from escort_codec.export.options import MOST_FILES, MOST_PIXELS, ExportOptions
from escort_codec.export.real import suffixes_of
from escort_codec.names import SafeNames
from escort_codec.regenerate.base import Regenerator
from escort_codec.settings import unknown
from escort_codec.words import counted, format_pixels, listed

Kind = Literal["image", "edges", "real", "latent"]

SHARE: Final = 4
"""Consecutive tasks of one process, so that an exemplar's seeds mostly stay together."""

SHOWN_FAILURES: Final = 20
"""The most failures with a line each."""

_UNREAD: Final = "exemplar "  # begins the line of an exemplar that cannot be read, whose name is unknown

_BYTES: Final = {"jpg": 0.3, "png": 1.5, "webp": 0.1}
"""Estimated bytes per pixel of a regenerated photograph, by format at its default quality."""


@dataclass(frozen=True, slots=True)
class Task:
    """One file to write: ``path`` in the tree, of exemplar ``number``; ``seed`` is None if there is none."""

    exemplar: Exemplar
    number: int
    kind: Kind
    path: str
    seed: int | None = None


@dataclass(slots=True)
class Amount:
    """Files by kind, their ``pixels``, and an estimate of their ``bytes``."""

    images: int = 0
    edges: int = 0
    real: int = 0
    latent: int = 0
    pixels: int = 0
    bytes: float = 0.0

    @property
    def files(self) -> int:
        """All files."""
        return self.images + self.edges + self.real + self.latent

    def add(self, kind: Kind, exemplar: Exemplar, count: int, options: ExportOptions) -> None:
        """Adds ``count`` files of one exemplar."""
        height, width = exemplar.map_shape if kind == "edges" else exemplar.size
        self.pixels += count * height * width
        if kind in ("image", "latent"):
            self.images += count * (kind == "image")
            self.latent += count * (kind == "latent")
            self.bytes += count * height * width * _BYTES[options.format]
        elif kind == "edges":
            self.edges += count
            self.bytes += count * (100 + 2 * len(exemplar.payload))
        else:
            self.real += count
            self.bytes += count * len(exemplar.payload)

    def __str__(self) -> str:
        """``12 images and 2 edge maps, 3.1 megapixels, about 2 MB``."""
        kinds = [counted(self.images, "image")] if self.images else []
        kinds += [counted(self.edges, "edge map")] if self.edges else []
        kinds += [counted(self.real, "real image")] if self.real else []
        kinds += [counted(self.latent, "learned picture")] if self.latent else []
        return f"{listed(kinds)}, {format_pixels(self.pixels)}, about {max(1, round(self.bytes / 1e6)):,} MB"


@dataclass(slots=True)
class ExportPlan:
    """``missing`` is what to write, ``shares`` the number of tasks of each process; ``skipped`` counts existing files.
    ``failures`` has lines about exemplars that cannot be read or have no file (``failed`` counts them), ``notes`` has
    lines for the user."""

    missing: Amount = field(default_factory=Amount)
    shares: list[int] = field(default_factory=lambda: [0])
    exemplars: int = 0
    skipped: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    new_folder: bool = False

    def fail(self, line: str) -> None:
        """Records a failure. The first ones get lines, and the exemplars of a damaged block share one."""
        self.failed += 1
        known = {each.partition(": ")[2] for each in self.failures[-1:] if line.startswith(_UNREAD)}
        if len(self.failures) < SHOWN_FAILURES and line.partition(": ")[2] not in known:
            self.failures.append(line)


def make_plan(
    reader: Reader, out: Path, options: ExportOptions, regenerator: Regenerator | None = None, *, world: int = 1
) -> ExportPlan:
    """The plan of the files that are missing in the tree ``out``, for ``world`` processes. Writes nothing.

    ``regenerator``, which loads nothing here, checks whether it would make the existing images. Raises
    UsageError if no exemplar matches the options, or if they are above the limits and ``options.yes`` is not set;
    OutputError if ``out`` cannot be used, or holds images that were made in another way.
    """
    _check(reader, options)
    tree = ExistingFiles(out, options, regenerator)
    plan = ExportPlan(shares=[0] * world, new_folder=tree.empty)
    names = SafeNames(reader.labels)
    chosen = Amount()
    unseeded = index = 0
    for number, exemplar, path in _chosen(reader, options, names, plan.fail):
        plan.exemplars += 1
        files = _counts(exemplar, options)
        unseeded += exemplar.kind == "prompt" and options.images and not any(kind == "image" for kind, _ in files)
        for kind, count in files:
            chosen.add(kind, exemplar, count, options)
        if not options.yes and (chosen.files > MOST_FILES or chosen.pixels > MOST_PIXELS):
            continue  # the total will be too large
        if tree.empty and world == 1:
            plan.shares[0] += sum(count for _, count in files)
            for kind, count in files:
                plan.missing.add(kind, exemplar, count, options)
            continue
        for task in _tasks(exemplar, number, path, options):
            if tree.has(task):
                plan.skipped += 1
            else:
                plan.missing.add(task.kind, exemplar, 1, options)
                plan.shares[index // SHARE % world] += 1
            index += 1
    if not plan.exemplars and not plan.failures:
        raise UsageError(f"{reader.path} has no exemplar called {' or '.join(map(repr, options.names))}")
    if not options.yes and (chosen.files > MOST_FILES or chosen.pixels > MOST_PIXELS):
        limit = f"{MOST_FILES:,} files or {format_pixels(MOST_PIXELS)}"
        raise UsageError(
            f"{reader.path} asks for {chosen}: above {limit} set `yes`, or choose fewer (`seeds`, `limit`)"
        )
    if unseeded and unseeded == plan.exemplars and not plan.missing.files and not plan.skipped:
        what = "prompts alone, which have no plain pictures" if options.plain else "no seeds"
        raise UsageError(f"{reader.path} records {what}: give `seeds`, such as 0-4")
    if unseeded:
        without = "a plain picture" if options.plain else "recorded seeds, so without images"
        plan.notes.append(f"{counted(unseeded, 'exemplar')} without {without}: give `seeds`, such as 0-4")
    if names.changed:
        plan.notes.append(f"{counted(names.changed, 'name')} changed, to be safe on every system: {names.example}")
    if tree.other:
        plan.notes.append(
            f"{counted(tree.other, 'existing file')} made of other exemplars with the same names: made anew"
        )
    return plan


def missing_tasks(
    reader: Reader,
    out: Path,
    options: ExportOptions,
    regenerator: Regenerator | None = None,
    *,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Task]:
    """Yields the tasks of process ``rank`` (0 ..) of ``world``, in the file's order.

    The shares are disjoint and together complete. Raises what ``make_plan`` raises.
    """
    tree = ExistingFiles(out, options, regenerator)
    index = 0
    for number, exemplar, path in _chosen(reader, options, SafeNames(reader.labels), lambda line: None):
        for task in _tasks(exemplar, number, path, options):
            if index // SHARE % world == rank and not tree.has(task):
                yield task
            index += 1


def _check(reader: Reader, options: ExportOptions) -> None:
    labels = reader.labels
    for label in options.labels:
        if label not in labels:
            raise UsageError(unknown(f"{reader.path} has no class {label!r}", label, labels))
    if not labels:
        raise UsageError(f"{reader.path} has no exemplars")


def _chosen(
    reader: Reader, options: ExportOptions, names: SafeNames, fail: Callable[[str], None]
) -> Iterator[tuple[int, Exemplar, str]]:
    """The exemplars that match the options, with their numbers and paths."""
    named = _name_test(options.names)
    count = 0
    for number in _numbers(reader, options.labels):
        if options.limit is not None and count >= options.limit:
            return
        try:
            exemplar = reader[number]
        except EscortError as exc:
            fail(f"{_UNREAD}{number}: {exc}")
            continue
        if options.labels and exemplar.label not in options.labels:
            continue
        # Every exemplar gets its path, so that paths do not depend on the options.
        try:
            if exemplar.kind == "real":
                path = names.file(exemplar.label, exemplar.name, number, suffixes_of(exemplar))
            else:
                path = names.stem(exemplar.label, exemplar.name, number)
        except EscortError as exc:
            if named(exemplar):
                count += 1
                fail(str(exc))
            continue
        if named(exemplar):
            count += 1
            yield number, exemplar, path


def _numbers(reader: Reader, labels: tuple[str, ...]) -> Iterator[int]:
    """The numbers of the exemplars that may match, in ascending order."""
    if labels:
        try:
            yield from sorted({number for label in labels for number in reader.of_label(label)})
            return
        except EscortError:
            pass  # a damaged block: read all exemplars and report the unreadable ones
    yield from range(len(reader))


def _name_test(patterns: tuple[str, ...]) -> Callable[[Exemplar], bool]:
    """Whether an exemplar's name or key is one of ``patterns``."""
    if not patterns:
        return lambda exemplar: True
    wild = {"*": ".*", "?": "."}
    texts = ("".join(wild.get(char) or re.escape(char) for char in pattern) for pattern in patterns)
    match = re.compile("|".join(f"(?:{text})" for text in texts), re.DOTALL).fullmatch
    return lambda exemplar: (
        exemplar.name in patterns or exemplar.key in patterns or bool(match(exemplar.name) or match(exemplar.key))
    )


def _counts(exemplar: Exemplar, options: ExportOptions) -> list[tuple[Kind, int]]:
    """How many files of each kind an exemplar has."""
    if exemplar.kind == "real":
        return [("real", 1)] if options.images else []
    found: list[tuple[Kind, int]] = [("edges", 1)] if options.edges and exemplar.kind == "prompt" else []
    seeds = _seeds(exemplar, options)
    return found + ([("image" if exemplar.kind == "prompt" else "latent", len(seeds))] if seeds else [])


def _seeds(exemplar: Exemplar, options: ExportOptions) -> Sequence[int | None]:
    """The seeds of an exemplar's images. None stands for a learned picture without a seed."""
    if not options.images:
        return ()
    if options.plain:
        return (None,) if exemplar.kind == "latent" else ()
    seeds = exemplar.seeds if options.seeds is None else options.seeds
    return seeds or ((None,) if exemplar.kind == "latent" else ())


def _tasks(exemplar: Exemplar, number: int, path: str, options: ExportOptions) -> Iterator[Task]:
    """The tasks of an exemplar, as many as ``_counts`` says."""
    for kind, _ in _counts(exemplar, options):
        if kind == "real":
            yield Task(exemplar, number, kind, path)
        elif kind == "edges":
            yield Task(exemplar, number, kind, f"{path}_edges.png")
        else:
            for seed in _seeds(exemplar, options):
                which = "plain" if seed is None else f"seed{seed:02d}"
                yield Task(exemplar, number, kind, f"{path}_{which}.{options.format}", seed)
