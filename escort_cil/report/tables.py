"""The tables of the page: comparisons of groups, and tables of one run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from escort_cil.report.drawing import clean, size_text
from escort_cil.report.gallery import ClassBytes
from escort_cil.report.runs import Run, RunGroup, flat

VIEW_NAMES: Final = {
    "real": "images as they are",
    "regenerated": "images regenerated",
    "both": "mean of both softmax outputs",
}
MAX_CONFUSIONS: Final = 15  # rows of the table of confusions


@dataclass(frozen=True)
class Cell:
    """A cell's text; ``sort`` is the number it sorts by (None: by its text, or last if the text is a dash).

    ``heat`` in 0..1 shades it; ``note`` is a second, quieter text.
    """

    text: str
    sort: float | None = None
    heat: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Column:
    """A column's heading; ``note`` explains it in a few words, in a tooltip and for screen readers."""

    title: str
    note: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class SortableTable:
    """A sortable table; the first cell of each row is its heading."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def text_cell(text: str, note: str = "") -> Cell:
    """A cell of text from a file."""
    return Cell(clean(text), note=clean(note))


def number_cell(value: float, digits: int = 1, *, deviation: float = math.nan, shade: bool = False) -> Cell:
    """A number, with its deviation over seeds if known; a dash for NaN. ``shade`` expects a percentage."""
    if math.isnan(value):
        return Cell("–")
    note = "" if math.isnan(deviation) else f"± {deviation:.{digits}f}"
    heat = min(max(value / 100, 0.0), 1.0) if shade else None
    return Cell(f"{value:,.{digits}f}".replace(",", "\u202f"), value, heat, note)


def bytes_cell(value: float) -> Cell:
    """A number of bytes, sorted by the bytes."""
    return Cell("–") if math.isnan(value) else Cell(size_text(value), value)


# Tables that compare groups.

_RUN: Final = Column("Run", "named by the settings that differ", numeric=False)
_SEEDS: Final = Column("Seeds", "number of runs with different seeds")
_FIGURES: Final[dict[str, Column]] = {
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
    "model_bytes": Column("Model", "all weights after the last phase, as model.safetensors holds them"),
    "stored_bytes": Column("Both", "memory and model together"),
    "memory_real": Column("Real", "image files and learned pictures in memory after the last phase"),
    "memory_prompt": Column("Prompts", "prompt exemplars in memory after the last phase"),
    "memory_units": Column("Units", "the memory in the paper's count: a real exemplar is 1, a prompt 1/24"),
    "top5": Column("Top-5", "top-5 accuracy after the last phase, linear head, %"),
    "nme_average_incremental_accuracy": Column("NME average", "average incremental accuracy, nearest mean, %"),
    "nme_top1": Column("NME last", "top-1 accuracy after the last phase, nearest mean, %"),
}
_COUNTS: Final = {"memory_real": 0, "memory_prompt": 0, "memory_units": 1}
_CURVES: Final = {
    "top1": Column("Top-1", "linear head, %"),
    "top5": Column("Top-5", "linear head, %"),
    "nme_top1": Column("NME", "top-1 of the nearest mean, %"),
    "old": Column("Old", "top-1 on the classes of all earlier phases, %"),
    "new": Column("New", "top-1 on the phase's own classes, %"),
    "forgetting": Column("Forgetting", "points"),
}


def results_table(groups: Sequence[RunGroup]) -> SortableTable:
    """One row for each group: figures after the last phase, means over the seeds with one standard deviation."""
    present = {
        key: column for key, column in _FIGURES.items() if not all(math.isnan(group.last(key)[0]) for group in groups)
    }
    rows = []
    for group in groups:
        views = tuple(dict.fromkeys(run.main_view for run in group.runs))
        name = text_cell(group.name, f"view {' and '.join(views)}" if views != ("real",) else "")
        rows.append((name, number_cell(len(group.runs), 0), *(_figure(group, key) for key in present)))
    return SortableTable("After the last phase", (_RUN, _SEEDS, *present.values()), tuple(rows))


def _figure(group: RunGroup, key: str, view: str | None = None) -> Cell:
    mean, deviation = group.last(key, view)
    if key.endswith("_bytes"):
        return bytes_cell(mean)
    return number_cell(mean, _COUNTS[key]) if key in _COUNTS else number_cell(mean, deviation=deviation)


def views_table(groups: Sequence[RunGroup]) -> SortableTable | None:
    """One row for each group and view, or None if there is one view only."""
    if all(len(group.views) < 2 for group in groups):
        return None
    keys = ("average_incremental_accuracy", "top1", "old", "new", "forgetting")
    rows = tuple(
        (text_cell(group.name), text_cell(view, VIEW_NAMES.get(view, "")), *(_figure(group, key, view) for key in keys))
        for group in groups
        for view in views_in_order(group.views)
    )
    view_column = Column("View", "what the network was shown", numeric=False)
    return SortableTable("Evaluation views", (_RUN, view_column, *(_FIGURES[key] for key in keys)), rows)


def views_in_order(views: Iterable[str]) -> list[str]:
    """Each view once, the known ones first and in their order."""
    found = dict.fromkeys(views)
    return [view for view in VIEW_NAMES if view in found] + [view for view in found if view not in VIEW_NAMES]


def differences_table(groups: Sequence[RunGroup]) -> SortableTable | None:
    """The settings in which the groups differ, a row for each group, or None if nothing differs."""
    keys = list(groups[0].differing) if groups else []
    if len(groups) < 2 or not keys:
        return None
    columns = (_RUN, *(Column(key, numeric=False) for key in keys))
    rows = tuple((text_cell(group.name), *(text_cell(group.differing[key]) for key in keys)) for group in groups)
    return SortableTable("What differs", columns, rows)


def phases_table(groups: Sequence[RunGroup]) -> SortableTable:
    """The numbers behind the curves, a row for each group and phase."""
    series = {key: [group.by_phase(key) for group in groups] for key in _CURVES}
    present = [
        key for key, one in series.items() if not all(math.isnan(mean) for points in one for _, mean, _ in points)
    ]
    rows = []
    for n, group in enumerate(groups):
        models = [mean for _, mean, _ in group.by_phase("model_bytes")]
        for phase, (classes, memory, _) in enumerate(group.by_phase("memory_bytes")):
            points = [series[key][n][phase] for key in present]
            cells = [number_cell(mean, deviation=deviation) for _, mean, deviation in points]
            start = (text_cell(group.name), number_cell(phase + 1, 0), number_cell(classes, 0))
            rows.append((*start, *cells, bytes_cell(memory), bytes_cell(models[phase])))
    columns = (_RUN, Column("Phase"), Column("Classes", "classes so far"), *(_CURVES[key] for key in present))
    columns += (Column("Memory", "bytes of memory.escx on disk"), Column("Model", "bytes of all weights"))
    return SortableTable("After each phase", columns, tuple(rows))


# Tables of one run.


def run_tables(run: Run, labels: Sequence[str], memory: Mapping[str, ClassBytes] | None) -> list[SortableTable]:
    """The tables for which the run has numbers; ``labels`` are its classes, ``memory`` its memory file's contents."""
    tables = (_accuracy_matrix(run), _classes(run, labels, memory), _composition(run), _confusions(run))
    return [table for table in tables if table is not None]


def _accuracy_matrix(run: Run) -> SortableTable:
    rows = []
    for p, record in enumerate(run.records):
        values = record["accuracy_by_phase"]
        cells = [number_cell(math.nan if value is None else float(value), shade=True) for value in values]
        rows.append((number_cell(p + 1, 0), *cells, *[Cell("")] * (len(run.records) - len(cells))))
    columns = (Column("After"), *(Column(f"Phase {q + 1}") for q in range(len(run.records))))
    return SortableTable("Accuracy on each phase’s classes, %", columns, tuple(rows))


def _classes(run: Run, labels: Sequence[str], memory: Mapping[str, ClassBytes] | None) -> SortableTable:
    columns = [Column("Class", numeric=False), Column("No.", "position in the class order")]
    rows = [[text_cell(label), number_cell(c, 0)] for c, label in enumerate(labels)]
    if run.figures is not None:
        columns += [
            Column("Phase", "the phase that brought it"),
            Column("Images", "test images"),
            Column("Accuracy", "after the last phase, linear head, %"),
            Column("Mistaken for", "most often, and how many times", numeric=False),
        ]
        last = run.figures.of()[-1]
        phases = np.repeat(np.arange(len(last.groups)), last.groups)
        worst = {i: (j, images) for i, j, images in reversed(confusions(run))}
        for c, row in enumerate(rows):
            known = c < len(phases)
            row += [
                number_cell(phases[c] + 1 if known else math.nan, 0),
                number_cell(last.linear.images[c] if known else math.nan, 0),
                number_cell(last.linear.accuracy(c, c + 1) if known else math.nan, shade=True),
                text_cell(labels[worst[c][0]], f"{worst[c][1]}") if c in worst else Cell("–"),
            ]
    if memory is not None:
        columns += [Column("Real", "exemplars in memory"), Column("Prompts", "exemplars in memory"), Column("Bytes")]
        for label, row in zip(labels, rows, strict=True):
            own = memory.get(label, ClassBytes())
            row += [number_cell(own.real, 0), number_cell(own.prompts, 0), bytes_cell(own.bytes)]
    return SortableTable("Classes", tuple(columns), tuple(map(tuple, rows)))


def _composition(run: Run) -> SortableTable | None:
    """Exemplars by class and phase, "3 + 12" for 3 real ones and 12 prompts, or None if there is no memory."""
    counts = []
    for record in run.records:
        real, prompt = record["memory_real_by_class"], record["memory_prompt_by_class"]
        counts.append([Cell(f"{r} + {p}", r + p) for r, p in zip(real, prompt, strict=True)])
    if not any(counts):
        return None
    rows = tuple(
        (text_cell(label), *(phase[c] if c < len(phase) else Cell("") for phase in counts))
        for c, label in enumerate(run.labels)
    )
    columns = (Column("Class", numeric=False), *(Column(f"Phase {p + 1}") for p in range(len(counts))))
    return SortableTable("Memory by class and phase: real + prompts", columns, rows)


def confusions(run: Run) -> list[tuple[int, int, int]]:
    """(class, predicted class, images) of all confusions after the last phase, the most frequent first."""
    if run.figures is None:
        return []
    counts = run.figures.of()[-1].linear.confusion.copy()
    np.fill_diagonal(counts, 0)
    found = [(int(i), int(j), int(counts[i, j])) for i, j in np.argwhere(counts > 0)]
    return sorted(found, key=lambda entry: (-entry[2], entry[0], entry[1]))


def _confusions(run: Run) -> SortableTable | None:
    found = confusions(run)[:MAX_CONFUSIONS]
    if not found or run.figures is None:
        return None
    images = run.figures.of()[-1].linear.images
    rows = tuple(
        (
            text_cell(run.labels[i]),
            text_cell(run.labels[j]),
            number_cell(n, 0),
            number_cell(100 * n / int(images[i]), shade=True),
        )
        for i, j, n in found
    )
    columns = (Column("True", numeric=False), Column("Predicted", numeric=False), Column("Images"))
    return SortableTable("Most frequent confusions", (*columns, Column("Share", "of the class's test images, %")), rows)


def configuration_table(run: Run) -> SortableTable | None:
    """All settings of the run, or None if they are not known."""
    rows = tuple((text_cell(key), text_cell(value)) for key, value in flat(run.config).items())
    columns = (Column("Option", numeric=False), Column("Value", numeric=False))
    return SortableTable("Configuration", columns, rows) if rows else None
