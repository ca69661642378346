"""Run folders: found, read, gathered over their seeds, and named by what differs between them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from escort_cil.metrics import RunFigures, mean_and_deviation
from escort_cil.report.tables import size_text
from escort_cil.run.confusion import FILE_NAME as CONFUSION
from escort_cil.run.confusion import load_figures
from escort_codec.errors import TrainingError

MEMORY: Final = "memory.escx"
METRICS: Final = "metrics.jsonl"
CONFIG: Final = "config.json"
MAX_TEXT: Final = 256 << 20  # bytes of a metrics.jsonl or config.json

# Keys (the last part of them) that tell one repetition of an experiment from another, and those that say how it ran,
# not what was run.
SEED_KEYS: Final = frozenset({"seed", "model_seed", "class_order"})
PLACE_KEYS: Final = frozenset(
    {"cache", "device", "cache_memory", "workers", "num_workers", "checkpoint_every", "track", "command", "version"}
)
BUDGET_KEYS: Final = frozenset(
    ["budget", "budget_per_class", "memory_size", "memory_per_class", "real_per_class", "syn_per_class"]
)


@dataclass(frozen=True)
class Run:
    """One run folder: its configuration, a record a phase, and the counts behind them.

    ``name`` is the folder as it is shown; ``notices`` say what could not be read.
    """

    path: Path
    name: str
    config: Mapping[str, Any]
    records: tuple[Mapping[str, Any], ...]
    figures: RunFigures | None = None
    notices: tuple[str, ...] = ()

    @property
    def memory(self) -> Path | None:
        """The memory file, None where the run has none."""
        path = self.path / MEMORY
        return path if path.is_file() else None

    @property
    def views(self) -> tuple[str, ...]:
        """The evaluation views, the main one first."""
        views = self.records[-1].get("views")
        return tuple(views) if isinstance(views, Mapping) and views else ("real",)

    @property
    def main_view(self) -> str:
        """The view of the figures outside ``views``."""
        view = self.records[-1].get("view", "real")
        return view if isinstance(view, str) else "real"

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names in class order; numbers where the configuration does not tell."""
        count = int(number(self.records[-1], "classes"))
        order = self.config.get("class_order")
        if isinstance(order, list) and len(order) >= count and all(isinstance(name, str) for name in order):
            return tuple(order[:count])
        return tuple(f"class {c}" for c in range(count))

    def value(self, key: str, phase: int = -1, view: str | None = None) -> float:
        """A figure of a phase, NaN where it is null or missing; ``view`` None is the main view."""
        record = self.records[phase]
        views = record.get("views")
        if view is not None and isinstance(views, Mapping):
            record = views.get(view) or {}
        return number(record, key)


@dataclass(frozen=True)
class Group:
    """Runs of one configuration, apart from their seeds.

    ``differing`` are its values of all options in which the groups differ, those that its name is made of first;
    ``kind`` is the first of them: the method where methods are compared.
    """

    name: str
    runs: tuple[Run, ...]
    differing: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The value of the first option that differs, ``""`` where none does."""
        return next(iter(self.differing.values()), "")

    def last(self, key: str, view: str | None = None) -> tuple[float, float]:
        """Mean and deviation over the seeds of a figure after the last phase."""
        return mean_and_deviation(_known(run.value(key, -1, view) for run in self.runs))

    def by_phase(self, key: str, view: str | None = None) -> list[tuple[float, float, float]]:
        """(classes so far, mean, deviation) after each phase, over the seeds that reached it."""
        points = []
        for phase in range(max(len(run.records) for run in self.runs)):
            reached = [run for run in self.runs if len(run.records) > phase]
            mean, deviation = mean_and_deviation(_known(run.value(key, phase, view) for run in reached))
            points.append((number(reached[0].records[phase], "classes"), mean, deviation))
        return points

    @property
    def views(self) -> tuple[str, ...]:
        """The evaluation views of its runs."""
        return tuple(dict.fromkeys(view for run in self.runs for view in run.views))


def number(record: Mapping[str, Any], key: str) -> float:
    """A number of a record; NaN where it is missing, null or no number."""
    value = record.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Every folder with a metrics.jsonl at or beneath ``folders``, in their order, by name within each, none twice.

    Raises TrainingError where a folder is missing or holds no run.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise TrainingError(f"{folder}: there is no such folder; name a run folder of escort train")
        inside = sorted((path.parent for path in folder.rglob(METRICS) if path.is_file()), key=_in_order)
        if not inside:
            raise TrainingError(f"{folder}: no {METRICS} in it or beneath it; name a run folder of escort train")
        for path in inside:
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _in_order(path: Path) -> list[tuple[bool, int, str]]:
    """Sorts ``run9`` before ``run10``."""
    parts = re.split(r"([0-9]+)", path.as_posix())
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def read_run(path: Path, name: str = "") -> Run:
    """Reads a run folder; raises TrainingError for a metrics.jsonl or config.json that cannot be used.

    A last line that was cut short (the run was killed) and unreadable counts become notices.
    """
    notices: list[str] = []
    records = _read_records(path / METRICS, notices)
    config: dict[str, Any] = {}
    if (path / CONFIG).is_file():
        loaded = _parse(_text(path / CONFIG), path / CONFIG)
        if not isinstance(loaded, dict):
            raise TrainingError(f"{path / CONFIG} is not a configuration: it holds a {type(loaded).__name__}")
        config = loaded
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


def _read_records(path: Path, notices: list[str]) -> list[Mapping[str, Any]]:
    lines = _text(path).split("\n")
    records: list[Mapping[str, Any]] = []
    for position, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            record = _parse(line, path)
        except TrainingError as exc:
            if position == len(lines) - 1:  # no newline after it: the write was cut short
                notices.append(f"the last line of {METRICS} is incomplete and was left out")
                break
            raise TrainingError(f"{exc}, line {position + 1}") from exc
        if not isinstance(record, dict) or math.isnan(number(record, "classes")):
            raise TrainingError(f"{path} is not a run's metrics: line {position + 1} does not say how many classes")
        records.append(record)
    if not records:
        raise TrainingError(f"{path} is empty: the run has not finished its first phase")
    return records


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_TEXT:
            raise TrainingError(f"{path} is larger than {MAX_TEXT} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as exc:
        raise TrainingError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise TrainingError(f"{path} is not UTF-8 text") from exc


def _parse(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise TrainingError(f"{path} is not JSON") from exc


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A configuration as dotted keys and short texts: ``{"method.temperature": "2.0"}``."""
    values: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, str):
            values[f"{prefix}{key}"] = value
        else:
            values[f"{prefix}{key}"] = json.dumps(value, ensure_ascii=False)
    return values


def _last_part(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def without(config: Mapping[str, Any], *left_out: frozenset[str]) -> dict[str, str]:
    """The flat configuration without the keys whose first or last part is in one of ``left_out``."""
    return {
        key: value
        for key, value in flat(config).items()
        if not any({key.split(".", 1)[0], _last_part(key)} & keys for keys in left_out)
    }


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Gathers runs that differ only in their seeds, and names each group by what differs between the groups.

    Runs with the same seeds as well (a command given twice) are told apart by their folders.
    """
    gathered: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        what = tuple(sorted(without(run.config, SEED_KEYS, PLACE_KEYS).items()))
        seeds = tuple(sorted(item for item in flat(run.config).items() if _last_part(item[0]) in SEED_KEYS))
        repeat = 0
        while any(_seeds(other) == seeds for other in gathered.get((what, repeat), ())):
            repeat += 1
        gathered.setdefault((what, repeat), []).append(run)
    members = list(gathered.values())
    configs = [without(group[0].config, SEED_KEYS, PLACE_KEYS) for group in members]
    keys = list(dict.fromkeys(key for config in configs for key in config))
    differing = [key for key in keys if len({config.get(key) for config in configs}) > 1]
    telling = _telling(configs, differing)
    names = [", ".join(filter(None, (_named(key, config.get(key)) for key in telling))) for config in configs]
    if not differing and len(members) == 1:
        names = [_plain_name(members[0][0])]
    groups = []
    for group, name, config in zip(members, names, configs, strict=True):
        own = name or ("default" if differing else "")
        if names.count(name) > 1 or not own:
            own = f"{own} ({group[0].name})" if own else group[0].name
        known = {key: config.get(key, "not set") for key in dict.fromkeys((*telling, *differing))}
        groups.append(Group(own, tuple(group), known))
    return groups


def _telling(configs: Sequence[Mapping[str, str]], differing: Sequence[str]) -> list[str]:
    """Of the options that differ those that tell the groups apart: each splits what the ones before it do not.

    What a method brings along, such as its milestones, is not repeated beside the method.
    """
    chosen: list[str] = []
    apart = 1
    for key in differing:
        now = len({tuple(config.get(one) for one in (*chosen, key)) for config in configs})
        if now > apart:
            chosen.append(key)
            apart = now
    return chosen


def _seeds(run: Run) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(item for item in flat(run.config).items() if _last_part(item[0]) in SEED_KEYS))


def _named(key: str, value: str | None) -> str:
    """``icarl`` for the method, ``budget 20 kB`` for the rest, as a legend has it; ``""`` for what is not set."""
    if value in (None, "", "null", "false", "[]"):
        return ""
    if key in ("method", "model_name"):
        return str(value)
    words = _last_part(key).replace("_", " ")
    if value == "true":
        return words
    if _last_part(key) in ("budget", "budget_per_class") and str(value).isdecimal():
        value = size_text(int(str(value)), short=True)
    return f"{words} {value}"


def _plain_name(run: Run) -> str:
    """What a configuration that is alone is called."""
    method = run.config.get("method", run.config.get("model_name"))
    return method if isinstance(method, str) and method else run.name
