"""Several runs in one command: each is started, resumed or skipped if finished; a common first phase trains once.

A sweep file (TOML or JSON) holds a table of settings: ``all`` for every run, ``runs`` with a table each, and ``grid``
with lists of which every combination is a run. See docs/training.md.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from escort_cil.run.command import configure
from escort_cil.run.folder import MAX_CONFIG, RunFolder
from escort_cil.run.plan import plan_of
from escort_cil.run.settings import TrainConfig
from escort_cil.trainer import RunResult, train
from escort_codec.errors import ConfigError, EscortError, UsageError
from escort_codec.progress import Progress
from escort_codec.seeds import parse_seeds
from escort_codec.untrusted import parse_json, read_file

log = logging.getLogger(__name__)

PARTS: Final = ("all", "runs", "grid")
NOT_SETTINGS: Final = ("name", "config", "seed")
"""Keys of a run in a sweep file that are not settings: its name, a configuration file, its seeds."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of several: its configuration and its folder (None: named by its settings)."""

    config: TrainConfig
    out: Path | None


@dataclass(frozen=True, slots=True)
class SweepResult:
    """The results of several runs, and the error message of each failed run by folder."""

    results: tuple[RunResult, ...]
    failed: Mapping[Path, str]


def train_several(
    runs: Sequence[PlannedRun],
    *,
    progress: Progress | None = None,
    force: bool = False,
    resume: bool = False,
    first_phase: Path | None = None,
    keep_going: bool = False,
) -> SweepResult:
    """Trains runs one after the other; runs with the same first phase train it once.

    ``resume`` resumes runs that were started before; ``first_phase`` is a run whose first phase all others reuse. With
    ``keep_going`` an error of one run is logged and the others continue. Raises as ``trainer.train`` does.
    """
    results: list[RunResult] = []
    failed: dict[Path, str] = {}
    for number, run in enumerate(runs, start=1):
        if len(runs) > 1:
            log.info("run %d of %d: %s", number, len(runs), run.out or f"class order {run.config.seed}")
        before = [result.folder for result in results]
        try:
            result = train(
                run.config,
                out=run.out,
                progress=progress,
                force=force,
                resume=resume,
                first_phase=first_phase,
                shared=before,
            )
        except EscortError as exc:
            if not keep_going or run.out is None:
                raise
            log.error("%s: %s", run.out, exc)
            failed[run.out] = str(exc)
        else:
            results.append(result)
    return SweepResult(tuple(results), failed)


def plan_sweep(path: Path, out: Path) -> list[PlannedRun]:
    """The runs of a sweep file, in folders of ``out``. Checks each run's settings, its data and its folder.

    All share the cache of synthetic images ``out/cache`` unless they set another. Raises EscortError.
    """
    rows = read_sweep(path)
    planned: list[PlannedRun] = []
    for name, row in zip(_names(rows, path), rows, strict=True):
        typed = {key: value for key, value in row.items() if key not in NOT_SETTINGS and value is not None}
        typed.setdefault("cache", str(out / "cache"))
        try:
            asked = configure(typed, file=_file_of(row, path), seeds=_seeds(row.get("seed")))
        except UsageError as exc:
            raise type(exc)(f"{path}: run {name!r}: {exc}") from exc
        for seed in asked.seeds:
            folder = out / name / f"seed{seed}" if len(asked.seeds) > 1 else out / name
            planned.append(PlannedRun(replace(asked.config, seed=seed), folder))
    for run in planned:
        assert run.out is not None
        there = RunFolder(run.out)
        with plan_of(run.config, there) as plan:
            if there.exists:
                there.check_config(plan.values())
    return planned


def read_sweep(path: Path) -> list[dict[str, Any]]:
    """The settings of each run in a sweep file. Raises ConfigError."""
    data = read_file(path, ConfigError, most=MAX_CONFIG, follow=True)
    try:
        values = tomllib.loads(data.decode()) if path.suffix.lower() == ".toml" else parse_json(data)
    except ValueError as exc:
        kind = "TOML" if path.suffix.lower() == ".toml" else "JSON (TOML is read from a file named .toml)"
        raise ConfigError(f"{path}: is not {kind}: {exc}") from exc
    if not isinstance(values, dict) or not set(values) <= set(PARTS):
        raise ConfigError(f"{path}: is no sweep: it holds {' and '.join(PARTS)}, and nothing else")
    every, rows, grid = values.get("all", {}), values.get("runs", [{}]), values.get("grid", {})
    if not isinstance(every, dict) or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{path}: all is a table, and runs is a list of tables")
    if not isinstance(grid, dict) or not all(isinstance(cells, list) and cells for cells in grid.values()):
        raise ConfigError(f"{path}: grid is a table of lists, such as keep = ['original', 'prompt']")
    if not rows or not any((every, *rows, grid)):
        raise ConfigError(f"{path}: names no run: add runs or a grid")
    cells = [dict(zip(grid, combination, strict=True)) for combination in itertools.product(*grid.values())]
    return [{**every, **row, **cell} for row in rows for cell in cells]


def folder_name(text: str) -> str:
    """``text`` as a folder's name: ``webp-64-20`` for ``webp:64:20``."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.") or "run"


def _names(rows: Sequence[Mapping[str, Any]], path: Path) -> list[str]:
    """A unique name for each run: its own, or its own and what differs between the runs. Raises ConfigError."""
    keys = dict.fromkeys(key for row in rows for key in row if key not in NOT_SETTINGS)
    shown = {key: {json.dumps(row.get(key)) for row in rows} for key in keys}
    named = [row.get("name") for row in rows]
    differing = [key for key in keys if len(shown[key]) > 1]
    names = []
    for row in rows:
        own = str(row.get("name") or "")
        parts = [own] if own and named.count(row.get("name")) == 1 else []
        if not parts:
            parts = [own, *(_words(key, row[key]) for key in differing if key in row)]
        names.append(folder_name("-".join(filter(None, parts))))
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{path}: two runs are called {name!r}: give each a `name` of its own")
    return names


def _words(key: str, value: Any) -> str:
    return str(value) if key in ("method", "keep", "budget") else f"{key.rpartition('.')[2]}-{value}"


def _file_of(row: Mapping[str, Any], path: Path) -> Path | None:
    file = row.get("config")
    if file is not None and not isinstance(file, str):
        raise ConfigError(f"{path}: config = {file!r}: give the name of a configuration file")
    return None if file is None else Path(file)


def _seeds(value: Any) -> tuple[int, ...]:
    """Seeds as a number, a list of them, or a text such as 1993,7. Raises UsageError."""
    if value is None:
        return ()
    texts = [str(each) for each in value] if isinstance(value, list) else str(value).split(",")
    return tuple(dict.fromkeys(seed for text in texts for seed in parse_seeds(text)))
