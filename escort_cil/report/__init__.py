"""Turns run folders into one HTML page that needs no network and no other file."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any, Final
from urllib.parse import quote

from escort_cil.report import plots, tables
from escort_cil.report.drawing import MARKERS, Plot, clean, percent_text, size_text, styles
from escort_cil.report.gallery import ClassBytes, GalleryEntry, gallery, memory_by_class
from escort_cil.report.runs import Run, RunGroup, find_runs, flat, group_runs, read_run
from escort_cil.report.tables import SortableTable
from escort_cil.run.folder import MEMORY, VIEW
from escort_codec.atomic import write_file
from escort_codec.container import Reader
from escort_codec.errors import EscortError, OutputError, TrainingError, UsageError
from escort_codec.regenerate import DEFAULT, Regenerator, make_regenerator
from escort_codec.words import counted

__all__ = ["check_report", "write_report"]

log = logging.getLogger(__name__)

MAX_PICTURES: Final = 200  # exemplars of one run's gallery
PARTS: Final = (
    ("real exemplars (image files, learned pictures)", "var(--real)"),
    ("prompts (edge maps)", "var(--prompt)"),
    ("hints", "var(--hint)"),
)
"""The legend of the memory's plots."""


@dataclass(frozen=True)
class LegendEntry:
    """A group in the legend: its name, and how its line is drawn."""

    name: str
    colour: str
    dash: str
    marker: str
    note: str


@dataclass(frozen=True)
class RunSection:
    """One run on the page."""

    name: str
    group: str
    summary: str
    command: str
    notices: tuple[str, ...]
    plots: tuple[Plot, ...]
    tables: tuple[SortableTable, ...]
    memory: str
    parts: tuple[tuple[str, str], ...]
    gallery: tuple[GalleryEntry, ...]
    gallery_note: str
    view: str
    """The command that shows all of the memory, or ""."""
    view_page: str
    """The address of a page with all of the memory in the run's folder, from the report's page, or ""."""
    config: SortableTable | None


def write_report(runs: Sequence[Path], out: Path, *, pictures: int = 6, regenerator: str = DEFAULT) -> list[RunGroup]:
    """Writes the page of the run folders at or below ``runs`` to ``out``; the same runs give the same page.

    Shows ``pictures`` exemplars of the first run of each configuration; ``regenerator`` makes the images of prompts.
    Returns the configurations with their runs; logs their notices. Raises TrainingError if there is no run or one
    cannot be read, OutputError if ``out`` cannot be written, UsageError for a wrong number of pictures.
    """
    if not 0 <= pictures <= MAX_PICTURES:
        raise UsageError(f"a gallery shows 0 to {MAX_PICTURES} exemplars", setting="pictures", value=pictures)
    check_report(out)
    groups = group_runs([read_run(path, _folder_name(path, runs)) for path in find_runs(runs)])
    for run in (run for group in groups for run in group.runs):
        for notice in run.notices:
            log.warning("%s: %s", run.path, notice)
    with make_regenerator(regenerator) as loaded:
        write_file(out, render(groups, pictures, loaded, out.parent).encode())
    return groups


def check_report(out: Path, example: str = "report.html") -> None:
    """Raises TrainingError if a package for the page is missing, OutputError if ``out`` cannot be its file."""
    if any(find_spec(module) is None for module in ("jinja2", "matplotlib")):
        raise TrainingError("the page needs jinja2 and matplotlib: pip install 'escort[report]'")
    if out.is_dir():
        raise OutputError(f"{out} is a folder; name the file to write, such as {out / example}")


def _folder_name(path: Path, folders: Sequence[Path]) -> str:
    """The name of a run on the page: its path from the given folder on, including that folder's name."""
    for folder in folders:
        if path.is_relative_to(folder):
            return (Path(folder.resolve().name) / path.relative_to(folder)).as_posix()
    return path.name


def render(groups: Sequence[RunGroup], pictures: int, regenerator: Regenerator, folder: Path) -> str:
    """The page as text, for a file in ``folder``."""
    from jinja2 import Environment, StrictUndefined

    sections = [
        _section(run, group.name, f"g{n}r{m}", pictures if m == 0 else 0, regenerator, folder)
        for n, group in enumerate(groups)
        for m, run in enumerate(group.runs)
    ]
    script, style = _asset("page.js"), _asset("page.css")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    several = any(len(group.runs) > 1 for group in groups)
    return environment.from_string(_asset("page.html.j2")).render(
        title=clean("escort report: " + ", ".join(group.name for group in groups)),
        headline=_headline(groups),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=style,
        results=tables.results_table(groups),
        views=tables.views_table(groups),
        differences=tables.differences_table(groups),
        phases=tables.phases_table(groups),
        legend=_legend(groups),
        markers=MARKERS,
        plots=_comparison_plots(groups),
        bands="Lines are means over the seeds, bands and bars one standard deviation to each side." if several else "",
        sections=sections,
    )


def _asset(name: str) -> str:
    return files("escort_cil.report").joinpath(name).read_text(encoding="utf-8")


def _headline(groups: Sequence[RunGroup]) -> str:
    runs = [run for group in groups for run in group.runs]
    classes = sorted({int(run.value("classes")) for run in runs})
    phases = sorted({len(run.records) for run in runs})
    return (
        f"{counted(len(runs), 'run')} of {counted(len(groups), 'configuration')}, "
        f"{_span(classes)} classes in {_span(phases)} phase{'s' if phases != [1] else ''}."
    )


def _span(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _legend(groups: Sequence[RunGroup]) -> list[LegendEntry]:
    entries = []
    for style, group in zip(styles(groups), groups, strict=True):
        note = f"mean of {len(group.runs)}" if len(group.runs) > 1 else ""
        entries.append(LegendEntry(group.name, style.variable, style.dash[0], style.marker, note))
    return entries


def _comparison_plots(groups: Sequence[RunGroup]) -> list[Plot]:
    """Accuracy by phase (each view, and the nearest mean), forgetting, old and new classes, accuracy by bytes."""
    views = tables.views_in_order(view for group in groups for view in group.views)
    accuracy = "top-1 accuracy, %"
    found: list[Plot | None] = []
    for n, view in enumerate(views):
        title = f"Accuracy: {tables.VIEW_NAMES.get(view, view)}" if len(views) > 1 else "Accuracy"
        found.append(plots.curves(groups, "top1", f"top1-{n}", title, accuracy, view))
    found.append(plots.curves(groups, "nme_top1", "nme", "Accuracy of the nearest mean", accuracy))
    found.append(plots.curves(groups, "old", "old", "Accuracy on old classes", accuracy))
    found.append(plots.curves(groups, "new", "new", "Accuracy on new classes", accuracy))
    found.append(plots.curves(groups, "forgetting", "forgetting", "Forgetting", "forgetting, points"))
    found.append(plots.against_bytes(groups))
    found.append(plots.against_bytes(groups, "stored", models=True))
    return [plot for plot in found if plot is not None]


def _section(run: Run, group: str, key: str, pictures: int, regenerator: Regenerator, folder: Path) -> RunSection:
    """The section of a run, with ``pictures`` exemplars in its gallery. Files that cannot be read become notices."""
    notices = list(run.notices)
    memory: dict[str, ClassBytes] | None = None
    entries: list[GalleryEntry] = []
    memory_text = "The run keeps no memory file."
    if run.memory is not None:
        try:
            with Reader(run.memory) as reader:
                memory = memory_by_class(reader)
                memory_text = _memory_text(memory, reader.size)
            entries = gallery(run.memory, pictures, regenerator) if pictures else []
        except EscortError as exc:
            notices.append(f"{run.memory.name} cannot be read: {exc}")
            memory_text = "The memory file cannot be read."
    labels = [*run.labels, *(label for label in memory or {} if label not in run.labels)]
    by_phase = plots.memory_by_phase(run, f"{key}-phases")
    by_class = plots.memory_by_class(labels, memory, f"{key}-classes") if memory else None
    top1, mean = run.value("top1"), run.value("average_incremental_accuracy")
    return RunSection(
        name=clean(run.name),
        group=clean(group),
        summary=f"average incremental accuracy {percent_text(mean)}, last {percent_text(top1)}",
        command=clean(_command(run.config)),
        notices=tuple(clean(notice) for notice in notices),
        plots=tuple(plot for plot in (plots.confusion(run, f"{key}-confusion"), by_phase, by_class) if plot),
        tables=tuple(tables.run_tables(run, labels, memory)),
        memory=memory_text,
        parts=PARTS if memory else PARTS[:2] if by_phase else (),
        gallery=tuple(entries),
        gallery_note=_gallery_note(run, regenerator, entries),
        view=clean(shlex.join(["escort", "view", f"{run.name}/{MEMORY}"])) if run.memory is not None else "",
        view_page=_view_page(run, folder),
        config=tables.configuration_table(run),
    )


def _command(config: Mapping[str, Any]) -> str:
    """The command of the run, as typed, or "" if the configuration has none."""
    command = config.get("command")
    if not isinstance(command, list) or not command:
        return command if isinstance(command, str) else ""
    return shlex.join([PurePath(str(command[0])).name, *(str(part) for part in command[1:])])


def _memory_text(memory: Mapping[str, ClassBytes], file_bytes: int) -> str:
    real = sum(each.real for each in memory.values())
    prompts = sum(each.prompts for each in memory.values())
    payload = sum(each.bytes for each in memory.values())
    exact = f"{file_bytes:,}".replace(",", "\u202f")
    return (
        f"memory.escx has {size_text(file_bytes)} ({exact} bytes): {real} real exemplars and {prompts} prompts of "
        f"{len(memory)} classes. {size_text(payload)} are images, edge maps and hints, "
        f"{size_text(file_bytes - payload)} names, prompts, sizes, checksums and the index."
    )


def _view_page(run: Run, folder: Path) -> str:
    """The relative address, from a page in ``folder``, of the page that `escort view --export` wrote into the run."""
    page = run.path / VIEW
    if not page.is_file() or page.is_symlink():
        return ""
    try:
        return quote(Path(os.path.relpath(page.resolve(), folder.resolve())).as_posix())
    except ValueError:  # another drive
        return ""


def _gallery_note(run: Run, regenerator: Regenerator, entries: Sequence[GalleryEntry]) -> str:
    if not any(entry.kind == "prompt" for entry in entries):
        return ""
    note = f"Regenerated by {regenerator.name} while this page was made."
    used = flat(run.config).get("regenerator", regenerator.name)
    return note + (f" The run itself was trained with {used}." if used != regenerator.name else "")
