"""The list of the missing files, made before anything is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from escort_codec.container import Reader
from escort_codec.errors import EscortError, OutputError, RegenerationError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.export.manifest import ManifestEntry, read_manifest
from escort_codec.names import SafeNames, refuse_link
from escort_codec.regenerate.base import Regenerator

Kind = Literal["image", "edges", "real"]

SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp"}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which files to write.

    ``seeds`` None: those recorded in each exemplar. ``images`` False: no images, ``edges`` alone. ``labels``: only
    these classes. ``names``: only exemplars whose name or ``label/name`` is, or matches, one of these (``*`` and ``?``
    as in a shell). ``limit``: at most so many exemplars, the first of the file. ``overwrite``: existing files are made
    again.
    """

    seeds: tuple[int, ...] | None = None
    images: bool = True
    edges: bool = False
    labels: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    limit: int | None = None
    format: str = "jpg"
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """One file to write: ``path`` relative to the tree, of exemplar ``number``; ``seed`` is -1 but for an image."""

    number: int
    kind: Kind
    path: str
    seed: int = -1


@dataclass(slots=True)
class ExportPlan:
    """``tasks`` in the file's order; ``skipped`` counts existing files. ``failures`` are exemplars that cannot be read,
    ``notes`` are for the user; one line each."""

    tasks: list[Task] = field(default_factory=list)
    exemplars: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def share(self, rank: int, world: int) -> list[Task]:
        """The tasks of process ``rank`` (0 ..) of ``world``: together all of them, none twice, in runs that keep an
        exemplar's seeds together where they can."""
        n = len(self.tasks)
        return self.tasks[n * rank // world : n * (rank + 1) // world]


def make_plan(reader: Reader, out: Path, choice: Choice, regenerator: Regenerator | None = None) -> ExportPlan:
    """The files of ``choice`` that the tree ``out`` lacks. Reads the file and lists the folders; writes nothing.

    ``regenerator`` tells which recipe it would use, to find images of another recipe; it loads nothing. Raises
    UsageError if the choice matches nothing, OutputError if ``out`` cannot take the files or holds another
    regenerator's images.
    """
    _check(reader, choice)
    tree = _ExistingFiles(out, choice, regenerator)
    plan = ExportPlan()
    names = SafeNames(reader.labels)
    unseeded = 0
    for number in _numbers(reader, choice.labels):
        if choice.limit is not None and plan.exemplars >= choice.limit:
            break
        try:
            exemplar = reader[number]
        except EscortError as exc:
            _add_failure(plan, f"exemplar {number}: {exc}")
            continue
        if choice.labels and exemplar.label not in choice.labels:
            continue
        # Named before it is chosen, so that names do not depend on the choice.
        if exemplar.kind == "real":
            suffix = next((s for magic, s in SUFFIXES.items() if exemplar.image.startswith(magic)), ".bin")
            path = names.file(exemplar.label, exemplar.name, number, suffix)
        else:
            path = names.stem(exemplar.label, exemplar.name, number)
        if not _named(exemplar, choice.names):
            continue
        plan.exemplars += 1
        tasks = list(_tasks(exemplar, number, path, choice))
        unseeded += exemplar.kind == "prompt" and choice.images and not any(t.kind == "image" for t in tasks)
        missing = [task for task in tasks if not tree.has(task, exemplar)]
        plan.tasks += missing
        plan.skipped += len(tasks) - len(missing)
    if not plan.exemplars and not plan.failures:
        raise UsageError(f"{reader.path} has no exemplar called {' or '.join(map(repr, choice.names))}")
    if unseeded and unseeded == plan.exemplars and not plan.tasks and not plan.skipped:
        raise UsageError(f"{reader.path} records no seeds: give `seeds`, such as 0-4")
    if unseeded:
        plan.notes.append(f"{unseeded} exemplars record no seeds and get no image: give `seeds`, such as 0-4")
    if names.changed:
        plan.notes.append(f"{names.changed} names were made safe for every system; {names.example}")
    if tree.other_recipe:
        plan.notes.append(
            f"{tree.other_recipe} existing images were made with another recipe and are kept: "
            "`overwrite` makes them anew"
        )
    return plan


def _check(reader: Reader, choice: Choice) -> None:
    if not choice.images and not choice.edges:
        raise UsageError("there is nothing to write: without images, ask for `edges`")
    if choice.limit is not None and choice.limit < 1:
        raise UsageError("at least 1", setting="limit", value=choice.limit)
    labels = reader.labels
    for label in choice.labels:
        if label not in labels:
            import difflib

            near = difflib.get_close_matches(label, labels, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"{reader.path} has no class {label!r}{hint} (escort inspect --classes lists them)")
    if not labels:
        raise UsageError(f"{reader.path} has no exemplars")


def _numbers(reader: Reader, labels: tuple[str, ...]) -> Iterator[int]:
    """The numbers of the exemplars that may match, rising."""
    if labels:
        try:
            yield from sorted({number for label in labels for number in reader.of_label(label)})
            return
        except EscortError:
            pass  # a damaged block: go through all, and report what cannot be read
    yield from range(len(reader))


def _add_failure(plan: ExportPlan, line: str) -> None:
    """One line for a damaged block, not one for each of its exemplars."""
    cause = line.partition(": ")[2]
    if not plan.failures or plan.failures[-1].partition(": ")[2] != cause:
        plan.failures.append(line)


def _named(exemplar: Exemplar, patterns: tuple[str, ...]) -> bool:
    texts = (exemplar.name, exemplar.key)
    return not patterns or any(text == p or fnmatchcase(text, p) for p in patterns for text in texts)


def _tasks(exemplar: Exemplar, number: int, path: str, choice: Choice) -> Iterator[Task]:
    if exemplar.kind == "real":
        if choice.images:
            yield Task(number, "real", path)
        return
    if choice.edges:
        yield Task(number, "edges", f"{path}_edges.png")
    if choice.images:
        for seed in exemplar.seeds if choice.seeds is None else choice.seeds:
            yield Task(number, "image", f"{path}_seed{seed:02d}.{choice.format}", seed)


class _ExistingFiles:
    """The files in the output folder."""

    def __init__(self, out: Path, choice: Choice, regenerator: Regenerator | None) -> None:
        if out.exists() and not out.is_dir():
            raise OutputError(f"{out} is a file: choose another folder (`out`)")
        self._out, self._choice, self._regenerator = out, choice, regenerator
        self._entries: dict[str, ManifestEntry] = read_manifest(out) if out.is_dir() else {}
        self._folders: dict[str, dict[str, bool]] = {}
        self._recipe: tuple[Exemplar, dict[str, object]] | None = None
        self.other_recipe = 0

    def has(self, task: Task, exemplar: Exemplar) -> bool:
        """Whether the file exists, is not empty, and is to be kept."""
        folder, _, name = task.path.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self._list(folder)
        if not self._folders[folder].get(name, False) or self._choice.overwrite:
            return False
        entry = self._entries.get(task.path)
        if task.kind == "image" and self._regenerator and entry and entry.regenerator:
            if entry.regenerator != self._regenerator.name:
                raise OutputError(
                    f"{self._out} holds images by the {entry.regenerator} regenerator: "
                    "choose another folder (`out`), or `overwrite`"
                )
            self.other_recipe += self._differs(entry, exemplar)
        return True

    def _list(self, folder: str) -> dict[str, bool]:
        """The names in a folder of the tree: whether each is a file that is not empty."""
        path = self._out
        for part in folder.split("/"):
            path = path / part
            refuse_link(path)
        try:
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
        """Whether a value that both recipes name differs; versions of libraries do not count."""
        assert self._regenerator is not None
        if self._recipe is None or self._recipe[0] is not exemplar:
            try:
                self._recipe = (exemplar, self._regenerator.recipe(exemplar).to_map())
            except RegenerationError:
                return False  # it cannot be made with these options; the existing image stays
        mine, theirs = self._recipe[1], entry.recipe or {}
        return any(mine[key] != theirs[key] for key in mine.keys() & theirs.keys() - {"extra"})
