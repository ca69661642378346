"""Finds and reads run folders, groups them over their seeds, and names the groups by the settings that differ."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from escort_cil.metrics import RunFigures, mean_and_deviation
from escort_cil.run.figures import load_figures, read_records
from escort_cil.run.folder import CONFIG, CONFUSION, FREE, MEMORY, METRICS, RunFolder
from escort_codec.errors import TrainingError

SEED_KEYS: Final = frozenset({"seed", "model_seed", "class_order"})
"""Settings that differ between repetitions of one experiment."""


@dataclass(frozen=True)
class Run:
    """One run folder: its configuration, a record for each phase, and the counts behind them.

    ``name`` is the folder as the page shows it; ``notices`` are about files that could not be read.
    """

    path: Path
    name: str
    config: Mapping[str, Any]
    records: tuple[Mapping[str, Any], ...]
    figures: RunFigures | None = None
    notices: tuple[str, ...] = ()

    @property
    def memory(self) -> Path | None:
        """The memory file, or None."""
        path = self.path / MEMORY
        return path if path.is_file() and not path.is_symlink() else None

    @property
    def views(self) -> tuple[str, ...]:
        """The evaluation views, the main one first."""
        return tuple(self.records[-1]["views"])

    @property
    def main_view(self) -> str:
        """The view of the figures outside ``views``."""
        return str(self.records[-1]["view"])

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names in class order; numbers if the configuration lists no names."""
        count = int(self.records[-1]["classes"])
        order = self.config.get("class_order")
        if isinstance(order, list) and len(order) >= count and all(isinstance(name, str) for name in order):
            return tuple(order[:count])
        return tuple(f"class {c}" for c in range(count))

    def value(self, key: str, phase: int = -1, view: str | None = None) -> float:
        """A figure of a phase, NaN if it is null or its view was not evaluated; ``view`` None is the main view.

        "stored_bytes" is the memory and the model together.
        """
        if key == "stored_bytes":
            return self.value("memory_bytes", phase) + self.value("model_bytes", phase)
        record = self.records[phase]
        figures = record if view is None else record["views"].get(view, {})
        value = figures.get(key)
        return math.nan if value is None else float(value)


@dataclass(frozen=True)
class RunGroup:
    """Runs of one configuration that differ only in their seeds.

    ``differing`` are its values of all settings in which the groups differ; those in its name come first.
    ``kind`` is the first value: the method, if methods are compared.
    """

    name: str
    runs: tuple[Run, ...]
    differing: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The value of the first setting that differs, or ``""``."""
        return next(iter(self.differing.values()), "")

    @property
    def views(self) -> tuple[str, ...]:
        """The evaluation views of its runs."""
        return tuple(dict.fromkeys(view for run in self.runs for view in run.views))

    def last(self, key: str, view: str | None = None) -> tuple[float, float]:
        """Mean and deviation over the seeds of a figure after the last phase."""
        return _mean(run.value(key, -1, view) for run in self.runs)

    def by_phase(self, key: str, view: str | None = None) -> list[tuple[float, float, float]]:
        """(classes so far, mean, deviation) after each phase, over the seeds that reached it."""
        points = []
        for phase in range(max(len(run.records) for run in self.runs)):
            reached = [run for run in self.runs if len(run.records) > phase]
            mean, deviation = _mean(run.value(key, phase, view) for run in reached)
            points.append((reached[0].value("classes", phase), mean, deviation))
        return points


def _mean(values: Iterable[float]) -> tuple[float, float]:
    return mean_and_deviation([value for value in values if not math.isnan(value)])


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Every folder with a metrics.jsonl at or below ``folders``: in their order, by name within each, none twice.

    Raises TrainingError if a folder is missing or holds no run.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise TrainingError(f"{folder}: there is no such folder; name a run folder of escort train")
        inside = sorted((path.parent for path in folder.rglob(METRICS) if path.is_file()), key=_natural)
        if not inside:
            raise TrainingError(f"{folder}: no {METRICS} in it or below it; name a run folder of escort train")
        for path in inside:
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """Sorts ``run9`` before ``run10``."""
    parts = re.split(r"([0-9]+)", path.as_posix())
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def read_run(path: Path, name: str = "") -> Run:
    """Reads a run folder. Raises TrainingError if its metrics.jsonl or config.json cannot be used.

    A last line that was cut short (the run was killed) and unreadable counts become notices.
    """
    notices: list[str] = []
    records = read_records(path / METRICS, notices=notices)
    if not records:
        raise TrainingError(f"{path / METRICS}: has no whole line: the run has not finished a phase")
    folder = RunFolder(path)
    config: dict[str, Any] = {}
    if folder.has(CONFIG):
        config = folder.read_config()
    else:
        notices.append(f"{CONFIG} is missing: the configuration is not known")
    figures = None
    try:
        figures = load_figures(path / CONFUSION)
    except TrainingError as exc:
        notices.append(f"no confusion matrix: {exc}")
    if figures is not None and len(figures.phases) < len(records):
        notices.append(f"no confusion matrix: {CONFUSION} has {len(figures.phases)} of {len(records)} phases")
        figures = None
    return Run(path, name or path.name, config, tuple(records), figures, tuple(notices))


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A configuration as dotted keys and short texts: ``{"method_options.temperature": "2.0"}``."""
    values: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return values


def _last_part(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def _seeds(run: Run) -> dict[str, str]:
    return {key: value for key, value in flat(run.config).items() if _last_part(key) in SEED_KEYS}


def _experiment(run: Run) -> dict[str, str]:
    """The flat configuration without seeds and without settings of where and how the run ran."""
    left_out = SEED_KEYS | FREE
    return {
        key: value
        for key, value in flat(run.config).items()
        if key.split(".", 1)[0] not in left_out and _last_part(key) not in left_out
    }


def group_runs(runs: Sequence[Run]) -> list[RunGroup]:
    """Groups runs that differ only in their seeds, and names each group by what differs between the groups.

    Runs that also have the same seeds (repeated commands) are named by their folders.
    """
    gathered: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        experiment = tuple(sorted(_experiment(run).items()))
        repeat = 0
        while any(_seeds(other) == _seeds(run) for other in gathered.get((experiment, repeat), ())):
            repeat += 1
        gathered.setdefault((experiment, repeat), []).append(run)
    members = list(gathered.values())
    configs = [_experiment(group[0]) for group in members]
    keys = dict.fromkeys(key for config in configs for key in config)
    differing = [key for key in keys if len({config.get(key) for config in configs}) > 1]
    distinguishing = _distinguishing(configs, differing)
    names = [", ".join(filter(None, (_words(key, config.get(key)) for key in distinguishing))) for config in configs]
    if not differing and len(members) == 1:
        method = members[0][0].config.get("method")
        names = [method if isinstance(method, str) and method else members[0][0].name]
    groups = []
    for group, name, config in zip(members, names, configs, strict=True):
        own = name or ("default" if differing else "")
        if names.count(name) > 1 or not own:
            own = f"{own} ({group[0].name})" if own else group[0].name
        values = {key: config.get(key, "not set") for key in dict.fromkeys((*distinguishing, *differing))}
        groups.append(RunGroup(own, tuple(group), values))
    return groups


def _distinguishing(configs: Sequence[Mapping[str, str]], differing: Sequence[str]) -> list[str]:
    """The differing settings that distinguish the groups: each one separates groups that those before it do not.

    So settings that follow from the method, such as milestones, are not repeated besides the method.
    """
    chosen: list[str] = []
    apart = 1
    for key in differing:
        now = len({tuple(config.get(one) for one in (*chosen, key)) for config in configs})
        if now > apart:
            chosen.append(key)
            apart = now
    return chosen


def _words(key: str, value: str | None) -> str:
    """A setting as a legend shows it: ``icarl`` for the method, ``budget 20KB`` for others, ``""`` if not set."""
    if value in (None, "", "null", "false", "[]"):
        return ""
    if key == "method":
        return str(value)
    words = _last_part(key).replace("_", " ")
    return words if value == "true" else f"{words} {value}"
