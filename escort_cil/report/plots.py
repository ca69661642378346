"""The plots of the page: curves over phases and accuracy against bytes compare runs; the others are of one run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from escort_cil.report.drawing import (
    GRID,
    HEAT,
    HINT,
    INK,
    MUTED,
    PAPER,
    PROMPT,
    REAL,
    WIDTH,
    Placeholders,
    Plot,
    draw,
    percent_text,
    size_text,
    styles,
)
from escort_cil.report.gallery import ClassBytes
from escort_cil.report.runs import Run, RunGroup
from escort_cil.report.tables import confusions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_NAMED: Final = 30  # classes that are named at an axis
MAX_NUMBERED: Final = 10  # classes whose percentages are written into the confusion matrix
LEVELS: Final = 12  # shades of the confusion matrix
SQUARE: Final = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)], dtype=np.float64)


def curves(
    groups: Sequence[RunGroup], figure: str, key: str, title: str, axis: str, view: str | None = None
) -> Plot | None:
    """A figure by phase: a line for each group, its deviation over seeds as a band. None if no group has the figure."""
    known = [_known(group.by_phase(figure, view)) for group in groups]
    series = list(zip(styles(groups), groups, known, strict=True))
    series = [entry for entry in series if entry[2]]
    if not series:
        return None

    alpha = 0.18 if len(series) <= 4 else 0.1

    def paint(axes: Axes) -> None:
        for style, _, points in series:
            x, mean, deviation = (np.array(values) for values in zip(*points, strict=True))
            axes.plot(
                x, mean, color=style.colour, linestyle=style.dash[1], marker=style.marker, markersize=5, linewidth=1.8
            )
            if len(x) == 1 and not np.isnan(deviation).all():  # a band of one point has no width
                axes.errorbar(x, mean, yerr=deviation, color=style.colour, capsize=3)
            elif not np.isnan(deviation).all():
                band = np.nan_to_num(deviation)
                axes.fill_between(
                    x,
                    mean - band,
                    mean + band,
                    color=style.colour,
                    alpha=alpha,
                    linewidth=0,
                )
        axes.set_xlabel("classes so far")
        axes.set_ylabel(axis)
        _percent_limits(axes, signed="forgetting" in figure)
        ticks = sorted({x for _, _, points in series for x, _, _ in points})
        if len(ticks) <= 12:
            axes.set_xticks(ticks)

    words = "; ".join(
        f"{group.name}: " + ", ".join(f"{mean:.1f} at {x:.0f} classes" for x, mean, _ in points)
        for _, group, points in series
    )
    return Plot(key, title, draw(key, title, f"Line plot, in per cent. {words}.", paint))


def _known(points: Sequence[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    return [point for point in points if not math.isnan(point[1])]


def _percent_limits(axes: Axes, *, signed: bool) -> None:
    low, high = axes.get_ylim()
    axes.set_ylim(low if signed else max(0.0, low), min(100.0, high) if high > low else None)


def against_bytes(groups: Sequence[RunGroup], key: str = "bytes", *, models: bool = False) -> Plot | None:
    """Average incremental accuracy against the memory's bytes after the last phase, a point for each group; with
    ``models`` against those of memory and model together.

    A line joins groups that differ in their budget alone. None if no group has a memory.
    """
    points = []
    for style, group in zip(styles(groups), groups, strict=True):
        accuracy, deviation = group.last("average_incremental_accuracy")
        memory, _ = group.last("stored_bytes" if models else "memory_bytes")
        if not math.isnan(accuracy) and not math.isnan(memory):
            points.append((style, group, memory, accuracy, deviation))
    if not any(group.last("memory_bytes")[0] > 0 for _, group, *_ in points):
        return None
    families: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for _, group, memory, accuracy, _ in points:
        family = tuple((k, v) for k, v in group.differing.items() if k != "budget")
        families.setdefault(family, []).append((memory, accuracy))

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        for family in families.values():
            if len(family) > 1:
                axes.plot(*zip(*sorted(family), strict=True), color=MUTED, linewidth=1, zorder=1)
        for style, _, memory, accuracy, deviation in points:
            error = None if math.isnan(deviation) else deviation
            axes.errorbar(
                memory, accuracy, yerr=error, color=style.colour, marker=style.marker, markersize=7, capsize=3
            )
        sizes = [memory for _, _, memory, _, _ in points if memory > 0]
        if max(sizes) > 8 * min(sizes) and all(memory > 0 for _, _, memory, _, _ in points):
            axes.set_xscale("log")
        else:
            axes.set_xlim(left=0, right=max(sizes) * 1.08)
            axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(lambda value, _: size_text(value, short=True))
        axes.xaxis.set_minor_formatter(lambda _value, _: "")
        axes.set_xlabel(f"memory{' and model' if models else ''} after the last phase")
        axes.set_ylabel("average incremental accuracy, %")
        _percent_limits(axes, signed=False)

    title = f"Accuracy against {'memory and model' if models else 'memory'} bytes"
    words = "; ".join(f"{g.name}: {accuracy:.1f} % with {size_text(memory)}" for _, g, memory, accuracy, _ in points)
    what = "the memory file on disk and of all weights" if models else "the memory file on disk"
    note = f"Average incremental accuracy; the bytes are those of {what}."
    if any(len(family) > 1 for family in families.values()):
        note += " A line joins runs that differ in their budget alone."
    return Plot(key, title, draw(key, title, f"Scatter plot. {words}.", paint, left=0.75), note)


def _font(classes: int) -> int:
    """Points of the class names at an axis."""
    return 9 if classes <= 16 else 7


def _room(labels: Sequence[str]) -> float:
    """Inches for the class names beside an axis, or for numbers if there are too many names."""
    if len(labels) > MAX_NAMED:
        return 0.5
    longest = min(Placeholders().width, max(len(label) for label in labels))
    return 0.15 + 0.68 * longest * _font(len(labels)) / 72


def confusion(run: Run, key: str) -> Plot | None:
    """The confusion matrix after the last phase, rows in per cent; None if the run has no counts."""
    if run.figures is None:
        return None
    last = run.figures.of()[-1]
    counts = last.linear.confusion
    images = counts.sum(axis=1, keepdims=True)
    share = counts / np.maximum(images, 1)
    classes = len(counts)
    labels = run.labels

    def paint(axes: Axes) -> Placeholders:
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path

        # Shaded by the square root, so that rare confusions are visible; one path per shade keeps the page small.
        corners = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
        levels = np.ceil(np.sqrt(share) * LEVELS).astype(int)
        for level in range(1, LEVELS + 1):
            cells = [np.add(SQUARE, (x, y)) for y, x in np.argwhere(levels == level)]
            if cells:
                codes = np.tile(corners, len(cells))
                axes.add_patch(
                    PathPatch(Path(np.concatenate(cells), codes), facecolor=HEAT, alpha=level / LEVELS, linewidth=0)
                )
        for bound in np.cumsum(last.groups)[:-1]:
            axes.axhline(bound, color=GRID, linewidth=0.8)
            axes.axvline(bound, color=GRID, linewidth=0.8)
        if classes <= MAX_NUMBERED:
            for y, x in np.argwhere(counts > 0):
                ink = PAPER if share[y, x] > 0.4 else INK
                axes.text(x + 0.5, y + 0.5, f"{100 * share[y, x]:.0f}", color=ink, ha="center", va="center", fontsize=9)
        axes.set_xlim(0, classes)
        axes.set_ylim(classes, 0)
        axes.set_aspect("equal")
        axes.grid(visible=False)
        for side in ("top", "right"):
            axes.spines[side].set_visible(True)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        names = Placeholders()
        if classes <= MAX_NAMED:
            middle = np.arange(classes) + 0.5
            axes.set_xticks(middle, [names.hold(label) for label in labels], rotation=90, fontsize=_font(classes))
            axes.set_yticks(middle, [names.hold(label) for label in labels], fontsize=_font(classes))
            axes.tick_params(length=0)
        return names

    room = _room(labels)
    title = "Confusion matrix"
    worst = confusions(run)[:5]
    words = (
        f"{classes} classes, {int(images.sum())} images, {percent_text(last.head().top1)} on the diagonal. "
        + ("Most often confused: " if worst else "Nothing was confused.")
        + "; ".join(f"{labels[i]} predicted as {labels[j]} {n} times" for i, j, n in worst)
    )
    note = f"After phase {len(run.figures.phases)}, in per cent of each class's test images; "
    note += "the stronger the colour, the larger the share (by its square root)."
    if classes > MAX_NAMED:
        note += " Classes are in the class order."
    margin = 0.3 + room
    svg = draw(key, title, f"{words}.", paint, height=WIDTH - 0.05, left=margin, bottom=margin)  # a square
    return Plot(key, title, svg, note, wide=classes > 12)


def memory_by_phase(run: Run, key: str) -> Plot | None:
    """Exemplars in memory after each phase, real ones and prompts stacked; None if there never were any."""
    phases = range(len(run.records))
    real, prompt = ([run.value(f"memory_{kind}", p) for p in phases] for kind in ("real", "prompt"))
    if not any(real + prompt):
        return None

    def paint(axes: Axes) -> None:
        numbers = np.arange(1, len(real) + 1)
        axes.bar(numbers, real, width=0.6, color=REAL)
        axes.bar(numbers, prompt, width=0.6, bottom=real, color=PROMPT)
        if len(numbers) <= 20:
            axes.set_xticks(numbers)
        axes.set_xlabel("phase")
        axes.set_ylabel("exemplars")
        axes.grid(visible=False, axis="x")

    title = "Memory after each phase"
    words = "; ".join(
        f"phase {p + 1}: {r:.0f} real, {q:.0f} prompts, {size_text(run.value('memory_bytes', p))}"
        for p, (r, q) in enumerate(zip(real, prompt, strict=True))
    )
    return Plot(key, title, draw(key, title, f"Stacked bars. {words}.", paint, height=2.9))


def memory_by_class(labels: Sequence[str], memory: Mapping[str, ClassBytes], key: str) -> Plot | None:
    """Bytes in memory by class: image files, edge maps and hints, stacked; None if there are none."""
    rows = [memory.get(label, ClassBytes()) for label in labels]
    parts = (
        ("image files", REAL, [row.real_bytes for row in rows]),
        ("edge maps", PROMPT, [row.edge_bytes for row in rows]),
        ("hints", HINT, [row.hint_bytes for row in rows]),
    )
    total = np.sum([values for _, _, values in parts], axis=0)
    if not total.any():
        return None

    def paint(axes: Axes) -> Placeholders:
        classes = np.arange(len(labels))
        bottom = np.zeros(len(labels))
        for _, colour, values in parts:
            axes.bar(classes, values, width=0.8, bottom=bottom, color=colour)
            bottom += np.asarray(values)
        names = Placeholders()
        if len(labels) <= MAX_NAMED:
            axes.set_xticks(classes, [names.hold(label) for label in labels], rotation=90, fontsize=_font(len(labels)))
            axes.tick_params(axis="x", length=0)
        else:
            axes.set_xlabel("class, in class order")
        axes.yaxis.set_major_formatter(lambda value, _: size_text(value, short=True))
        axes.grid(visible=False, axis="x")
        axes.set_xlim(-0.7, len(labels) - 0.3)
        return names

    room = _room(labels)
    title = "Memory by class"
    low, high = int(np.argmin(total)), int(np.argmax(total))
    words = (
        ", ".join(f"{name} {size_text(sum(values))}" for name, _, values in parts if any(values))
        + f". Least: {labels[low]} with {size_text(total[low])}; most: {labels[high]} with {size_text(total[high])}"
    )
    svg = draw(key, title, f"Stacked bars. {words}.", paint, height=2.5 + room, left=0.75, bottom=room)
    return Plot(key, title, svg, wide=len(labels) > 12)
