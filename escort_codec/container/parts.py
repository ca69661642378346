"""Files made of other files: merge, extract, split, recover. Payloads are copied, never decoded."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from escort_codec.atomic import sync_folder
from escort_codec.container.locked_file import find_target, partial_path
from escort_codec.container.reader import Reader
from escort_codec.container.shards import by_key, open_memory, parts_of, read_part
from escort_codec.container.writer import Writer
from escort_codec.errors import FormatError, LimitError, OutputError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.names import SafeNames, make_folders, there_is
from escort_codec.recipe import Recipe
from escort_codec.store.urls import Place, place, same_place

AnyPath = str | PathLike[str]


def merge(files: Sequence[AnyPath], out: AnyPath, *, keep_recipes: bool = False, overwrite: bool = False) -> int:
    """Writes the exemplars of all ``files`` into the new file ``out``; returns their number.

    Files whose key ranges (``label/name``) do not overlap are sorted by key, so that the shards of one encoding give
    the bytes of a single run in any order. Other files keep the order of ``files``. Raises UsageError if recipes
    differ, unless ``keep_recipes``; LimitError if two exemplars have the same key. Each of ``files`` may also be a
    folder or a pattern (``parts_of``).
    """
    if not files:
        raise UsageError("merge needs at least one file")
    # One file is open at a time: there may be thousands.
    parts = [read_part(path) for file in files for path in parts_of(file)]
    if any(same_place(part.place, place(out)) for part in parts):
        raise UsageError(f"{out}: is one of the files to merge: choose another name")
    recipes: dict[Recipe, Place] = {}
    for part in parts:
        for recipe in part.recipes:
            recipes.setdefault(recipe, part.place)
    if len(recipes) > 1 and not keep_recipes:
        one, other, *_ = recipes
        both = " and ".join(map(str, dict.fromkeys((recipes[one], recipes[other]))))
        raise UsageError(
            f"different recipes in {both} ({one.differences(other)}): set `keep_recipes` to keep each exemplar's own"
        )
    sources, backgrounds = {part.head.source for part in parts}, {part.head.background for part in parts}
    with Writer(
        out,
        source=sources.pop() if len(sources) == 1 else "",
        background=backgrounds.pop() if len(backgrounds) == 1 else "",
        overwrite=overwrite,
    ) as writer:
        for part in by_key(parts)[0]:
            with Reader(part.place) as reader:
                for exemplar in reader:
                    try:
                        writer.add(exemplar)
                    except LimitError as exc:
                        raise LimitError(f"{part.place}: {exc}") from exc
    return len(writer)


def extract(
    file: AnyPath,
    out: AnyPath,
    *,
    labels: Iterable[str] = (),
    names: Iterable[str] = (),
    overwrite: bool = False,
) -> int:
    """Writes the exemplars of these classes and of these keys (``label/name``) into the new file ``out``.

    Keeps the file order. Returns their number. Raises UsageError for an unknown class or key.
    """
    labels, names = set(labels), set(names)
    with open_memory(file) as reader:
        _check_apart(reader, out)
        if unknown := labels - set(reader.labels):
            raise UsageError(f"{file}: holds no class {min(unknown)!r} (`escort inspect --classes` lists the classes)")
        found = {number for label in labels for number in reader.of_label(label)}
        for name in names:
            try:
                found.add(reader.find(name))
            except KeyError as exc:
                raise UsageError(f"{file}: holds no exemplar {name!r}") from exc
        if not found:
            raise UsageError("name a class or an exemplar to extract")
        _write((reader[number] for number in sorted(found)), out, reader, overwrite=overwrite)
    return len(found)


def split(
    file: AnyPath, folder: AnyPath, *, parts: int | None = None, by_class: bool = False, overwrite: bool = False
) -> list[Path]:
    """Writes the exemplars of a file into several new files in ``folder``, which is created if needed.

    ``parts`` n gives ``<stem>-1-of-n.escx`` ..., runs of equal length (plus or minus one) that ``merge`` joins again.
    ``by_class`` gives ``<stem>-<class>.escx``, with class names as safe as those of the folders of ``escort decode``.
    All are written or none: after an error no new file is left. Raises UsageError for neither or both, and for more
    parts than exemplars; FormatError for a damaged file.
    """
    if (parts is None) == (not by_class):
        raise UsageError("set either `parts` or `by_class`")
    folder, stem = Path(folder), place(file).stem
    with open_memory(file) as reader:
        shares: dict[Path, Callable[[], Iterable[Exemplar]]] = {}
        if parts is not None:
            if not 1 <= parts <= len(reader):
                raise UsageError(f"{file} has {len(reader)} exemplars", setting="parts", value=parts)
            for k in range(parts):
                run = range(len(reader) * k // parts, len(reader) * (k + 1) // parts)
                shares[folder / f"{stem}-{k + 1}-of-{parts}.escx"] = lambda run=run: (reader[i] for i in run)  # type: ignore[misc]
        else:
            names = SafeNames(reader.labels)
            for label in reader.labels:
                shares[folder / f"{stem}-{names.folder(label)}.escx"] = lambda label=label: (  # type: ignore[misc]
                    reader[i] for i in reader.of_label(label)
                )
        if not overwrite and (existing := next((path for path in shares if there_is(path)), None)):
            raise OutputError(f"{existing} exists already: choose another folder, or set `overwrite`")
        make_folders(folder)
        new: list[Path] = []
        try:
            for path, exemplars in shares.items():
                _check_apart(reader, path)
                new += [] if there_is(path) else [path]
                _write(exemplars(), path, reader, overwrite=overwrite)
        except BaseException:
            for path in new:
                path.unlink(missing_ok=True)
            raise
    return list(shares)


def _check_apart(reader: Reader, out: AnyPath) -> None:
    if any(same_place(part, place(out)) for part in reader.parts):
        raise UsageError(f"{out}: is also the input: choose another name")


def _write(exemplars: Iterable[Exemplar], out: AnyPath, of: Reader, *, overwrite: bool) -> None:
    with Writer(out, source=of.source, background=of.background, overwrite=overwrite) as writer:
        for exemplar in exemplars:
            writer.add(exemplar)


@dataclass(slots=True)
class Recovery:
    """How many exemplars were saved, and a line for each loss."""

    saved: int = 0
    lost: list[str] = field(default_factory=list)


def recover(bad: str | PathLike[str], good: str | PathLike[str], *, overwrite: bool = False) -> Recovery:
    """Writes the exemplars of all whole blocks of ``bad`` into the new file ``good``; never writes to ``bad``.

    Raises UsageError if both are the same file, FormatError if ``bad`` lacks the first 12 bytes of an .escx file or has
    no whole block, OutputError for ``good``.
    """
    bad, good = Path(bad), Path(good)
    with Reader(bad, recover=True) as reader:
        target, exists = find_target(good)
        if exists and target.samefile(bad):
            raise UsageError(f"{good}: is also the input: choose another name")
        if exists and not overwrite:
            raise OutputError(f"{good} exists already: choose another name, or set `overwrite`")
        result = Recovery(lost=[str(loss) for loss in reader.losses])
        if not len(reader):
            raise FormatError(f"{bad}: no whole block is left")
        # BAD may be the GOOD.partial of a killed writer: then GOOD is written under another name first.
        aside = partial_path(target)
        clash = there_is(aside) and aside.samefile(bad)
        place = _free_name(target) if clash else target
        with Writer(place, source=reader.source, background=reader.background, overwrite=overwrite) as writer:
            for exemplar in reader:
                try:
                    writer.add(exemplar)
                except LimitError as exc:  # a name that occurs twice: the first one stays
                    result.lost.append(str(exc))
            result.saved = len(writer)
        if clash:
            try:
                place.replace(target)
            except OSError as exc:
                raise OutputError(f"{place} (what was saved) cannot be renamed to {target}: {exc.strerror}") from exc
            sync_folder(target.parent)
    return result


def _free_name(target: Path) -> Path:
    """An unused name beside ``target``."""
    names = (target.with_name(f"{target.name}.recovered{number or ''}") for number in itertools.count())
    return next(name for name in names if not os.path.lexists(name))
