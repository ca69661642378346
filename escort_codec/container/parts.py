"""Many files into one and one into many: merge, split, extract. Payloads are copied, never decoded."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from os import PathLike
from pathlib import Path

from escort_codec.atomic import sync_folder
from escort_codec.container.locked_file import find_target, partial_path
from escort_codec.container.reader import Reader
from escort_codec.container.writer import Writer
from escort_codec.errors import FormatError, LimitError, OutputError, UsageError
from escort_codec.exemplar import Exemplar, Recipe

AnyPath = str | PathLike[str]


def merge(files: Sequence[AnyPath], out: AnyPath, *, keep_recipes: bool = False, overwrite: bool = False) -> int:
    """Writes the exemplars of all ``files`` into the new file ``out``; returns their number.

    Files whose names (``label/name``) do not overlap are taken in the order of their names, whatever the order of the
    arguments: so the shards of one encoding give byte for byte what a single run gives. Others are taken as given.
    Raises UsageError where their recipes differ, unless ``keep_recipes``; LimitError where a name is there twice.
    """
    if not files:
        raise UsageError("merge needs at least one file")
    parts = [_look_at(Path(path)) for path in files]  # one open at a time: there may be thousands
    if any(Path(out).exists() and part.path.samefile(out) for part in parts):
        raise UsageError(f"{out}: is one of the files to merge: choose another name")
    recipes: dict[Recipe, Path] = {}
    for part in parts:
        for recipe in part.recipes:
            recipes.setdefault(recipe, part.path)
    if len(recipes) > 1 and not keep_recipes:
        one, other, *_ = recipes
        files_named = " and ".join(map(str, dict.fromkeys((recipes[one], recipes[other]))))
        raise UsageError(
            f"different recipes in {files_named} ({one.differences(other)}): --keep-recipes keeps each exemplar's own"
        )
    sources = {part.source for part in parts}
    with Writer(out, source=sources.pop() if len(sources) == 1 else "", overwrite=overwrite) as writer:
        for part in _ordered(parts):
            with Reader(part.path) as reader:
                for exemplar in reader:
                    try:
                        writer.add(exemplar)
                    except LimitError as exc:
                        raise LimitError(f"{part.path}: {exc}") from exc
    return len(writer)


@dataclass(frozen=True, slots=True)
class _Part:
    """A file to merge: its smallest and largest key ("" where it is empty), its recipes and source."""

    path: Path
    low: str
    high: str
    recipes: tuple[Recipe, ...]
    source: str


def _look_at(path: Path) -> _Part:
    with Reader(path) as reader:
        index = reader.state.index
        low, high = min(index.low, default=""), max(index.high, default="")
        return _Part(path, low, high, tuple(reader.recipes), reader.source)


def _ordered(parts: Sequence[_Part]) -> list[_Part]:
    """By their smallest key where their key ranges are disjoint, else as given. Empty files come first."""
    ordered = sorted(parts, key=lambda part: (part.low, part.high))
    disjoint = all(one.high < other.low for one, other in pairwise(ordered))
    return ordered if disjoint else list(parts)


def extract(
    file: AnyPath,
    out: AnyPath,
    *,
    labels: Iterable[str] = (),
    names: Iterable[str] = (),
    overwrite: bool = False,
) -> int:
    """Writes the exemplars of these classes, and those of these keys (``label/name``), into the new file ``out``.

    The file's order is kept. Returns their number; raises UsageError for a class or key that is not there.
    """
    labels, names = set(labels), set(names)
    with Reader(file) as reader:
        _check_apart(reader, out)
        if unknown := labels - set(reader.labels):
            raise UsageError(f"{file}: holds no class {min(unknown)!r} (`escort inspect --classes` lists them)")
        found = {number for label in labels for number in reader.of_label(label)}
        for name in names:
            try:
                found.add(reader.find(name))
            except KeyError as exc:
                raise UsageError(f"{file}: holds no exemplar {name!r}") from exc
        if not found:
            raise UsageError("extract needs a class or a name")
        _write((reader[number] for number in sorted(found)), out, reader.source, overwrite=overwrite)
    return len(found)


def split(
    file: AnyPath, folder: AnyPath, *, parts: int | None = None, by_class: bool = False, overwrite: bool = False
) -> list[Path]:
    """Writes a file's exemplars into several new files in ``folder``, which is made if need be.

    ``parts`` n gives ``<stem>-1-of-n.escx`` ..., runs as even as can be that ``merge`` puts together again;
    ``by_class`` gives ``<stem>-<class>.escx``, the class named as ``escort decode`` names its folder: safe and
    distinct on every system. Raises UsageError for neither or both, or more parts than exemplars.
    """
    if (parts is None) == (not by_class):
        raise UsageError("split needs either a number of parts or --by-class")
    folder, stem = Path(folder), Path(file).stem
    with Reader(file) as reader:
        shares: dict[Path, Callable[[], Iterable[Exemplar]]] = {}
        if parts is not None:
            if not 1 <= parts <= len(reader):
                raise UsageError(f"{file}: {len(reader)} exemplars cannot be split into {parts} parts")
            for k in range(parts):
                run = range(len(reader) * k // parts, len(reader) * (k + 1) // parts)
                shares[folder / f"{stem}-{k + 1}-of-{parts}.escx"] = lambda run=run: (reader[i] for i in run)  # type: ignore[misc]
        else:
            from escort_codec.regenerate.naming import Names

            names = Names(reader.labels)
            for label in reader.labels:
                shares[folder / f"{stem}-{names.folder(label)}.escx"] = lambda label=label: (  # type: ignore[misc]
                    reader[i] for i in reader.of_label(label)
                )
        if not overwrite and (there := next((path for path in shares if path.exists()), None)):
            raise OutputError(f"{there} exists already: choose another folder, or overwrite it (--force)")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise OutputError(f"{folder}: cannot be made: {exc.strerror}") from exc
        for path, exemplars in shares.items():
            _check_apart(reader, path)
            _write(exemplars(), path, reader.source, overwrite=overwrite)
    return list(shares)


def _check_apart(reader: Reader, out: AnyPath) -> None:
    if Path(out).exists() and reader.path.samefile(out):
        raise UsageError(f"{out}: is the file that is read: choose another name")


def _write(exemplars: Iterable[Exemplar], out: AnyPath, source: str, *, overwrite: bool) -> None:
    with Writer(out, source=source, overwrite=overwrite) as writer:
        for exemplar in exemplars:
            writer.add(exemplar)


@dataclass(slots=True)
class Recovery:
    """What was saved, and what was not: a line for each loss."""

    saved: int = 0
    lost: list[str] = field(default_factory=list)


def recover(bad: str | PathLike[str], good: str | PathLike[str], *, overwrite: bool = False) -> Recovery:
    """Writes every exemplar of every whole block of ``bad`` into the new file ``good``; ``bad`` is only read.

    A file with nothing wrong is copied, block by block. Raises UsageError where both are one file, FormatError where
    ``bad`` has not even an .escx file's first 12 bytes or nothing whole is left, OutputError for ``good``.
    """
    bad, good = Path(bad), Path(good)
    with Reader(bad, recover=True) as reader:
        target, there = find_target(good)
        if there and target.samefile(bad):
            raise UsageError(f"{good}: the saved file must be another one than the damaged one")
        if there and not overwrite:
            raise OutputError(f"{good} exists already: choose another name, or overwrite it (--force)")
        result = Recovery(lost=[str(loss) for loss in reader.losses])
        if not len(reader):
            raise FormatError(f"{bad}: no whole block is left")
        # What a killed writer left as GOOD.partial is often what is to be saved: then GOOD cannot be written there.
        aside = partial_path(target)
        clash = aside.exists() and aside.samefile(bad)
        place = _free_name(target) if clash else target
        with Writer(place, source=reader.source, overwrite=overwrite) as writer:
            for exemplar in reader:
                try:
                    writer.add(exemplar)
                except LimitError as exc:  # a name that is there twice: the first one stays
                    result.lost.append(str(exc))
            result.saved = len(writer)
        if clash:
            try:
                place.replace(target)
            except OSError as exc:
                raise OutputError(f"{place} holds what was saved; it cannot become {target}: {exc.strerror}") from exc
            sync_folder(target.parent)
    return result


def _free_name(target: Path) -> Path:
    """A name beside ``target`` under which nothing stands yet: what others keep there is not ours to replace."""
    names = (target.with_name(f"{target.name}.recovered{number or ''}") for number in itertools.count())
    return next(name for name in names if not os.path.lexists(name))
