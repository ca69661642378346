"""Run folders into one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from escort_cil.report.results import (
    bands_note,
    comparison_plots,
    differences_table,
    headline,
    legend,
    phases_table,
    results_table,
    views_table,
)
from escort_cil.report.run_section import section
from escort_cil.report.runs import Group, find_runs, group_runs, read_run
from escort_cil.report.svg import clean
from escort_codec.errors import OutputError, TrainingError, UsageError
from escort_codec.regenerate import DEFAULT, Regenerator, make_regenerator

MAX_PICTURES: Final = 200  # exemplars of one run's gallery
MARKERS: Final = {  # the legend's, in a box from -5 to 5; as matplotlib's of the same letter
    "o": "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",
    "s": "M-3.2-3.2h6.4v6.4h-6.4z",
    "^": "M0-4L4 3.5h-8z",
    "D": "M0-4.5L4.5 0L0 4.5L-4.5 0z",
    "v": "M0 4L4-3.5h-8z",
    "P": "M-1.5-4h3v2.5h2.5v3h-2.5v2.5h-3v-2.5h-2.5v-3h2.5z",
    "X": "M-4-2L-2-4L0-2L2-4L4-2L2 0L4 2L2 4L0 2L-2 4L-4 2L-2 0z",
}


def write_report(runs: Sequence[Path], out: Path, *, pictures: int = 6, regenerator: str = DEFAULT) -> list[Group]:
    """Writes the page of the run folders at or beneath ``runs`` to ``out``, beside it first and then renamed.

    ``pictures`` exemplars of the first run of each configuration are shown, prompts as the regenerator of that
    name makes images of them. Returns the configurations, each with its runs. The same runs give the same page.
    Raises TrainingError where there is no run or one cannot be read, OutputError where ``out`` cannot be written,
    UsageError for a number of pictures that cannot be meant.
    """
    if any(find_spec(module) is None for module in ("jinja2", "matplotlib")):
        raise TrainingError("a report needs jinja2 and matplotlib: pip install 'escort[report]'")
    if not 0 <= pictures <= MAX_PICTURES:
        raise UsageError(f"a gallery shows 0 to {MAX_PICTURES} exemplars, not {pictures}")
    if out.is_dir():
        raise OutputError(f"{out} is a folder; name the file to write, such as {out / 'report.html'}")
    groups = group_runs([read_run(path, _name(path, runs)) for path in find_runs(runs)])
    with make_regenerator(regenerator) as maker:
        _write(out, render(groups, pictures, maker))
    return groups


def _name(path: Path, folders: Sequence[Path]) -> str:
    """A run's folder as it is shown: beneath the folder that was named, with that folder's own name first."""
    for folder in folders:
        if path.is_relative_to(folder):
            return (Path(folder.resolve().name) / path.relative_to(folder)).as_posix()
    return path.name


def render(groups: Sequence[Group], pictures: int, regenerator: Regenerator) -> str:
    """The page as text."""
    from jinja2 import Environment, StrictUndefined

    sections = [
        section(run, group.name, f"g{n}r{m}", pictures if m == 0 else 0, regenerator)
        for n, group in enumerate(groups)
        for m, run in enumerate(group.runs)
    ]
    script, style = _asset("page.js"), _asset("page.css")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("page.html.j2")).render(
        title=clean("escort report: " + ", ".join(group.name for group in groups)),
        headline=headline(groups),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=style,
        results=results_table(groups),
        views=views_table(groups),
        differences=differences_table(groups),
        phases=phases_table(groups),
        legend=legend(groups),
        markers=MARKERS,
        plots=comparison_plots(groups),
        bands=bands_note(groups),
        sections=sections,
    )


def _asset(name: str) -> str:
    return files("escort_cil.report").joinpath(name).read_text(encoding="utf-8")


def _write(out: Path, page: str) -> None:
    beside = out.with_name(f"{out.name}.partial")
    try:
        with beside.open("w", encoding="utf-8", newline="\n") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(out)
    except OSError as exc:
        beside.unlink(missing_ok=True)
        raise OutputError(f"{out} cannot be written: {exc.strerror or exc}") from exc
