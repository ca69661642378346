"""The comparison: tables over all groups, and the plots that lay them over one another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from escort_cil.report.plots import Plot, against_bytes, curves, styles
from escort_cil.report.runs import Group, number
from escort_cil.report.tables import Cell, Column, Table, figure, size, word

VIEW_NAMES = {
    "real": "images as they are",
    "regenerated": "images regenerated",
    "both": "mean of both softmax outputs",
}


@dataclass(frozen=True)
class LegendEntry:
    """A group's line as the page draws it in front of its name."""

    name: str
    colour: str
    dash: str
    marker: str
    note: str


def legend(groups: Sequence[Group]) -> list[LegendEntry]:
    """How each group is drawn, in the order of the groups."""
    entries = []
    for style, group in zip(styles(groups), groups, strict=True):
        note = f"mean of {len(group.runs)}" if len(group.runs) > 1 else ""
        entries.append(LegendEntry(group.name, style.variable, style.dash[0], style.marker, note))
    return entries


_RUN = Column("Run", "named by what differs between the configurations", numeric=False)
_SEEDS = Column("Seeds", "how many runs, with other seeds, the means are of")
_FIGURES: dict[str, Column] = {
    "average_incremental_accuracy": Column(
        "Average", "average incremental accuracy: the mean of top-1 after each phase, linear head, %"
    ),
    "top1": Column("Last", "top-1 accuracy after the last phase, linear head, %"),
    "old": Column("Old", "accuracy after the last phase on the classes of all earlier phases, %"),
    "new": Column("New", "accuracy after the last phase on its own classes, %"),
    "forgetting": Column(
        "Forgetting", "mean over the earlier phases' classes of the best earlier accuracy less the last, points"
    ),
    "memory_bytes": Column("Memory", "memory.escx on disk after the last phase"),
    "memory_real": Column("Real", "real exemplars in memory after the last phase"),
    "memory_prompt": Column("Prompts", "prompt exemplars in memory after the last phase"),
    "memory_units": Column("Units", "the memory in the paper's count: a real exemplar is 1, a prompt 1/24"),
    "top5": Column("Top-5", "top-5 accuracy after the last phase, linear head, %"),
    "nme_average_incremental_accuracy": Column("NME average", "average incremental accuracy, nearest mean, %"),
    "nme_top1": Column("NME last", "top-1 accuracy after the last phase, nearest mean, %"),
}
_COUNTS = {"memory_real": 0, "memory_prompt": 0, "memory_units": 1}


def results_table(groups: Sequence[Group]) -> Table:
    """One row a group: what is left after the last phase, means over the seeds with one standard deviation."""
    known = {key: [group.last(key)[0] for group in groups] for key in _FIGURES}
    present = {key: column for key, column in _FIGURES.items() if not all(map(math.isnan, known[key]))}
    seen = [tuple(dict.fromkeys(run.main_view for run in group.runs)) for group in groups]
    rows = tuple(
        (
            word(group.name, f"view {' and '.join(seen[n])}" if seen[n] != ("real",) else ""),
            figure(len(group.runs), 0),
            *(_cell(group, key) for key in present),
        )
        for n, group in enumerate(groups)
    )
    return Table("After the last phase", (_RUN, _SEEDS, *present.values()), rows)


def _cell(group: Group, key: str, view: str | None = None) -> Cell:
    mean, deviation = group.last(key, view)
    if key == "memory_bytes":
        return size(mean)
    return figure(mean, _COUNTS[key]) if key in _COUNTS else figure(mean, deviation=deviation)


def views_table(groups: Sequence[Group]) -> Table | None:
    """One row a group and view; None where there is one view only."""
    if all(len(group.views) < 2 for group in groups):
        return None
    keys = ("average_incremental_accuracy", "top1", "old", "new", "forgetting")
    rows = tuple(
        (word(group.name), word(view, VIEW_NAMES.get(view, "")), *(_cell(group, key, view) for key in keys))
        for group in groups
        for view in _in_order(group.views)
    )
    view_column = Column("View", "what the network was shown", numeric=False)
    return Table("Evaluation views", (_RUN, view_column, *(_FIGURES[key] for key in keys)), rows)


def differences_table(groups: Sequence[Group]) -> Table | None:
    """The options in which the groups differ, a row a group; None where there is nothing to tell apart."""
    keys = list(groups[0].differing) if groups else []
    if len(groups) < 2 or not keys:
        return None
    columns = (_RUN, *(Column(key, numeric=False) for key in keys))
    rows = tuple((word(group.name), *(word(group.differing[key]) for key in keys)) for group in groups)
    return Table("What differs", columns, rows)


_CURVES = {
    "top1": Column("Top-1", "linear head, %"),
    "top5": Column("Top-5", "linear head, %"),
    "nme_top1": Column("NME", "top-1 of the nearest mean, %"),
    "old": Column("Old", "top-1 on the classes of all earlier phases, %"),
    "new": Column("New", "top-1 on the phase's own classes, %"),
    "forgetting": Column("Forgetting", "points"),
}


def phases_table(groups: Sequence[Group]) -> Table:
    """The numbers behind the curves, a row a group and phase."""
    series = {key: [group.by_phase(key) for group in groups] for key in _CURVES}
    present = [
        key for key, one in series.items() if not all(math.isnan(mean) for points in one for _, mean, _ in points)
    ]
    rows = []
    for n, group in enumerate(groups):
        for phase, (classes, memory, _) in enumerate(group.by_phase("memory_bytes")):
            points = [series[key][n][phase] for key in present]
            cells = [figure(mean, deviation=deviation) for _, mean, deviation in points]
            rows.append((word(group.name), figure(phase + 1, 0), figure(classes, 0), *cells, size(memory)))
    start = (_RUN, Column("Phase"), Column("Classes", "classes so far"))
    columns = (*start, *(_CURVES[key] for key in present), Column("Memory", "bytes of memory.escx on disk"))
    return Table("After each phase", columns, tuple(rows))


def bands_note(groups: Sequence[Group]) -> str:
    """What lines and bands are, empty where no configuration has several seeds."""
    if all(len(group.runs) < 2 for group in groups):
        return ""
    return "Lines are means over the seeds, bands and bars one standard deviation to either side."


def comparison_plots(groups: Sequence[Group]) -> list[Plot]:
    """Accuracy by phase (each view; nearest mean where there is one), forgetting, old and new, accuracy by bytes."""
    views = _in_order(view for group in groups for view in group.views)
    plots: list[Plot | None] = []
    for n, view in enumerate(views):
        shown = f": {VIEW_NAMES.get(view, view)}" if len(views) > 1 else ""
        plots.append(curves(groups, "top1", f"top1-{n}", f"Accuracy{shown}", "top-1 accuracy, %", view))
    plots.append(curves(groups, "nme_top1", "nme", "Accuracy of the nearest mean", "top-1 accuracy, %"))
    plots.append(curves(groups, "old", "old", "Accuracy on old classes", "top-1 accuracy, %"))
    plots.append(curves(groups, "new", "new", "Accuracy on new classes", "top-1 accuracy, %"))
    plots.append(curves(groups, "forgetting", "forgetting", "Forgetting", "forgetting, points"))
    plots.append(against_bytes(groups))
    return [plot for plot in plots if plot is not None]


def headline(groups: Sequence[Group]) -> str:
    """One sentence on what is compared."""
    runs = [run for group in groups for run in group.runs]
    classes = sorted({int(number(run.records[-1], "classes")) for run in runs})
    phases = sorted({len(run.records) for run in runs})
    return (
        f"{_count(len(runs), 'run')} of {_count(len(groups), 'configuration')}, "
        f"{_span(classes)} classes in {_span(phases)} phase{'s' if phases != [1] else ''}."
    )


def _count(number_: int, noun: str) -> str:
    return f"{number_} {noun}{'' if number_ == 1 else 's'}"


def _span(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _in_order(views: Iterable[str]) -> list[str]:
    """Each view once, those that are known in their order first."""
    found = dict.fromkeys(views)
    return [view for view in VIEW_NAMES if view in found] + [view for view in found if view not in VIEW_NAMES]
