"""Many files into one and one into many: merge, split, extract. Payloads are copied, never decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from os import PathLike
from pathlib import Path

from escort_codec.container import Reader, Writer
from escort_codec.errors import LimitError, OutputError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import Recipe

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
            from escort_codec.export.names import SafeNames

            names = SafeNames(reader.labels)
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
