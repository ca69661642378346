"""Which files to write: the plan, a list of the missing files, made before a model is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal

from escort_codec.container import Reader
from escort_codec.errors import EscortError, OutputError, RegenerationError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.export.manifest import ManifestEntry, read_manifest
from escort_codec.export.options import ExportOptions
from escort_codec.names import SafeNames, refuse_link, there_is
from escort_codec.regenerate.base import Regenerator
from escort_codec.settings import unknown
from escort_codec.words import counted

Kind = Literal["image", "edges", "real"]

SUFFIXES: Final = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp"}


@dataclass(frozen=True, slots=True)
class Task:
    """One file to write: ``path`` in the tree, of exemplar ``number``; ``seed`` is -1 if it is not an image."""

    number: int
    kind: Kind
    path: str
    seed: int = -1


@dataclass(slots=True)
class ExportPlan:
    """``tasks`` in the file's order; ``skipped`` counts existing files. ``failures`` (exemplars that cannot be read)
    and ``notes`` for the user are one line each."""

    tasks: list[Task] = field(default_factory=list)
    exemplars: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def share(self, rank: int, world: int) -> list[Task]:
        """The tasks of process ``rank`` (0 ..) of ``world``: a contiguous part, so that an exemplar's seeds mostly stay
        together. The shares are disjoint and complete."""
        n = len(self.tasks)
        return self.tasks[n * rank // world : n * (rank + 1) // world]


def make_plan(reader: Reader, out: Path, options: ExportOptions, regenerator: Regenerator | None = None) -> ExportPlan:
    """The files of ``options`` that are missing in the tree ``out``. Writes nothing.

    With ``regenerator`` (which loads nothing here) it also counts existing images of another recipe. Raises UsageError
    if no exemplar matches the options, OutputError if ``out`` cannot be used or holds another regenerator's images.
    """
    _check(reader, options)
    tree = _ExistingFiles(out, options, regenerator)
    plan = ExportPlan()
    names = SafeNames(reader.labels)
    unseeded = 0
    for number in _numbers(reader, options.labels):
        if options.limit is not None and plan.exemplars >= options.limit:
            break
        try:
            exemplar = reader[number]
        except EscortError as exc:
            _add_failure(plan, f"exemplar {number}: {exc}")
            continue
        if options.labels and exemplar.label not in options.labels:
            continue
        # Every exemplar gets its path, so that paths do not depend on the options.
        if exemplar.kind == "real":
            suffix = next((s for magic, s in SUFFIXES.items() if exemplar.image.startswith(magic)), ".bin")
            path = names.file(exemplar.label, exemplar.name, number, suffix)
        else:
            path = names.stem(exemplar.label, exemplar.name, number)
        if not _named(exemplar, options.names):
            continue
        plan.exemplars += 1
        tasks = list(_tasks(exemplar, number, path, options))
        unseeded += exemplar.kind == "prompt" and options.images and not any(t.kind == "image" for t in tasks)
        missing = [task for task in tasks if not tree.has(task, exemplar)]
        plan.tasks += missing
        plan.skipped += len(tasks) - len(missing)
    if not plan.exemplars and not plan.failures:
        raise UsageError(f"{reader.path} has no exemplar called {' or '.join(map(repr, options.names))}")
    if unseeded and unseeded == plan.exemplars and not plan.tasks and not plan.skipped:
        raise UsageError(f"{reader.path} records no seeds: give `seeds`, such as 0-4")
    if unseeded:
        plan.notes.append(
            f"{counted(unseeded, 'exemplar')} without recorded seeds, so without images: give `seeds`, such as 0-4"
        )
    if names.changed:
        plan.notes.append(f"{counted(names.changed, 'name')} changed, to be valid on every system: {names.example}")
    if tree.other_recipe:
        plan.notes.append(
            f"made with another recipe and kept: {counted(tree.other_recipe, 'existing image')}; "
            "`overwrite` makes them again"
        )
    return plan


def _check(reader: Reader, options: ExportOptions) -> None:
    labels = reader.labels
    for label in options.labels:
        if label not in labels:
            raise UsageError(unknown(f"{reader.path} has no class {label!r}", label, labels))
    if not labels:
        raise UsageError(f"{reader.path} has no exemplars")


def _numbers(reader: Reader, labels: tuple[str, ...]) -> Iterator[int]:
    """The numbers of the exemplars that may match, in ascending order."""
    if labels:
        try:
            yield from sorted({number for label in labels for number in reader.of_label(label)})
            return
        except EscortError:
            pass  # a damaged block: read all exemplars and report the unreadable ones
    yield from range(len(reader))


def _add_failure(plan: ExportPlan, line: str) -> None:
    """One line for a damaged block, not one for each of its exemplars."""
    cause = line.partition(": ")[2]
    if not plan.failures or plan.failures[-1].partition(": ")[2] != cause:
        plan.failures.append(line)


def _named(exemplar: Exemplar, patterns: tuple[str, ...]) -> bool:
    texts = (exemplar.name, exemplar.key)
    return not patterns or any(text == p or fnmatchcase(text, p) for p in patterns for text in texts)


def _tasks(exemplar: Exemplar, number: int, path: str, options: ExportOptions) -> Iterator[Task]:
    if exemplar.kind == "real":
        if options.images:
            yield Task(number, "real", path)
        return
    if options.edges:
        yield Task(number, "edges", f"{path}_edges.png")
    if options.images:
        for seed in exemplar.seeds if options.seeds is None else options.seeds:
            yield Task(number, "image", f"{path}_seed{seed:02d}.{options.format}", seed)


class _ExistingFiles:
    """The files in the output folder."""

    def __init__(self, out: Path, options: ExportOptions, regenerator: Regenerator | None) -> None:
        if there_is(out) and not out.is_dir():
            raise OutputError(f"{out} is a file: choose another folder (`out`)")
        self._out, self._options, self._regenerator = out, options, regenerator
        self._entries: dict[str, ManifestEntry] = read_manifest(out) if there_is(out) else {}
        self._folders: dict[str, dict[str, bool]] = {}
        self._recipe: tuple[Exemplar, dict[str, object]] | None = None
        self.other_recipe = 0

    def has(self, task: Task, exemplar: Exemplar) -> bool:
        """Whether the file exists, is not empty, and is kept."""
        folder, _, name = task.path.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self._list(folder)
        if not self._folders[folder].get(name, False) or self._options.overwrite:
            return False
        entry = self._entries.get(task.path)
        if task.kind == "image" and self._regenerator and entry and entry.regenerator:
            if entry.regenerator != self._regenerator.name:
                raise OutputError(
                    f"{self._out} holds images by the {entry.regenerator} regenerator: "
                    "choose another folder (`out`), or set `overwrite`"
                )
            self.other_recipe += self._differs(entry, exemplar)
        return True

    def _list(self, folder: str) -> dict[str, bool]:
        """The names in a folder of the tree, and whether each is a file that is not empty."""
        path = self._out
        try:
            for part in folder.split("/"):
                path = path / part
                refuse_link(path)
            with os.scandir(path) as entries:
                return {entry.name: self._whole(entry) for entry in entries}
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise OutputError(f"{path}: cannot be listed ({exc.strerror})") from exc

    @staticmethod
    def _whole(entry: os.DirEntry[str]) -> bool:
        if entry.is_symlink():
            raise OutputError(f"{entry.path} is a symbolic link: remove it or choose another folder (`out`)")
        return entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_size > 0

    def _differs(self, entry: ManifestEntry, exemplar: Exemplar) -> bool:
        """Whether a value in both recipes differs; versions of libraries do not count."""
        assert self._regenerator is not None
        if self._recipe is None or self._recipe[0] is not exemplar:
            try:
                self._recipe = (exemplar, self._regenerator.recipe(exemplar).to_map())
            except RegenerationError:
                return False  # not possible with these options; the existing image stays
        mine, theirs = self._recipe[1], entry.recipe or {}
        return any(mine[key] != theirs[key] for key in mine.keys() & theirs.keys() - {"extra"})
