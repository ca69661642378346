"""The plots of one run: confusion matrix, what the memory holds by phase and by class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from escort_cil.report.plots import WIDTH, Plot, draw
from escort_cil.report.runs import Run, number
from escort_cil.report.svg import GRID, HEAT, INK, PAPER, PROMPT, REAL, Names
from escort_cil.report.tables import percent_text, size_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_NAMED: Final = 30  # classes whose names stand at an axis
MAX_NUMBERED: Final = 10  # classes whose percentages stand in the confusion matrix
LEVELS: Final = 12  # shades of the confusion matrix
SQUARE: Final = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)], dtype=np.float64)


def _font(classes: int) -> int:
    """Points of the class names at an axis."""
    return 9 if classes <= 16 else 7


def _room(labels: Sequence[str]) -> float:
    """Inches that the class names take beside an axis, or the numbers where there are too many names."""
    if len(labels) > MAX_NAMED:
        return 0.5
    longest = min(Names().width, max(len(label) for label in labels))
    return 0.15 + 0.68 * longest * _font(len(labels)) / 72


def confusion(run: Run, key: str) -> Plot | None:
    """The confusion matrix after the last phase, rows in per cent; None where the run has no counts."""
    if run.figures is None:
        return None
    last = run.figures.of()[-1]
    counts = last.linear.confusion
    images = counts.sum(axis=1, keepdims=True)
    share = counts / np.maximum(images, 1)
    classes = len(counts)
    labels = run.labels

    def paint(axes: Axes) -> Names:
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path

        # Shaded by the square root, so that rare confusions show; one path a shade keeps the page small.
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
        axes.set_xlabel("called")
        axes.set_ylabel("is")
        names = Names()
        if classes <= MAX_NAMED:
            middle = np.arange(classes) + 0.5
            axes.set_xticks(middle, [names.hold(label) for label in labels], rotation=90, fontsize=_font(classes))
            axes.set_yticks(middle, [names.hold(label) for label in labels], fontsize=_font(classes))
            axes.tick_params(length=0)
        return names

    room = _room(labels)
    title = "Confusion matrix"
    worst = confused(run)[:5]
    words = (
        f"{classes} classes, {int(images.sum())} images, {percent_text(last.top1)} on the diagonal. "
        + ("Most often confused: " if worst else "Nothing was confused.")
        + "; ".join(f"{labels[i]} called {labels[j]} {n} times" for i, j, n in worst)
    )
    note = f"After phase {len(run.figures.phases)}, in per cent of each class's test images; "
    note += "the stronger the colour, the larger the share (by its square root)."
    if classes > MAX_NAMED:
        note += " Classes stand in the class order."
    margin = 0.3 + room
    svg = draw(key, title, f"{words}.", paint, height=WIDTH - 0.05, left=margin, bottom=margin)  # a square
    return Plot(key, title, svg, note, wide=classes > 12)


def confused(run: Run) -> list[tuple[int, int, int]]:
    """(class, called, images) of all confusions after the last phase, the most frequent first."""
    if run.figures is None:
        return []
    counts = run.figures.of()[-1].linear.confusion.copy()
    np.fill_diagonal(counts, 0)
    found = [(int(i), int(j), int(counts[i, j])) for i, j in np.argwhere(counts > 0)]
    return sorted(found, key=lambda entry: (-entry[2], entry[0], entry[1]))


def memory_by_phase(run: Run, key: str) -> Plot | None:
    """Exemplars in memory after each phase, real ones and prompts stacked; None where there never were any."""
    real = [0 if math.isnan(n) else n for n in (number(record, "memory_real") for record in run.records)]
    prompt = [0 if math.isnan(n) else n for n in (number(record, "memory_prompt") for record in run.records)]
    if not any(real + prompt):
        return None

    def paint(axes: Axes) -> None:
        phases = np.arange(1, len(real) + 1)
        axes.bar(phases, real, width=0.6, color=REAL)
        axes.bar(phases, prompt, width=0.6, bottom=real, color=PROMPT)
        if len(phases) <= 20:
            axes.set_xticks(phases)
        axes.set_xlabel("phase")
        axes.set_ylabel("exemplars")
        axes.grid(visible=False, axis="x")

    title = "Memory after each phase"
    words = "; ".join(
        f"phase {p + 1}: {r:.0f} real, {q:.0f} prompts, {size_text(run.value('memory_bytes', p))}"
        for p, (r, q) in enumerate(zip(real, prompt, strict=True))
        if not math.isnan(run.value("memory_bytes", p))
    )
    return Plot(key, title, draw(key, title, f"Stacked bars. {words}.", paint, height=2.9))


def memory_by_class(labels: Sequence[str], parts: Sequence[tuple[str, str, Sequence[int]]], key: str) -> Plot | None:
    """Bytes in memory by class; ``parts`` are (name, colour, bytes by class), stacked in their order."""
    total = np.sum([values for _, _, values in parts], axis=0)
    if not total.any():
        return None

    def paint(axes: Axes) -> Names:
        classes = np.arange(len(labels))
        bottom = np.zeros(len(labels))
        for _, colour, values in parts:
            axes.bar(classes, values, width=0.8, bottom=bottom, color=colour)
            bottom += np.asarray(values)
        names = Names()
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
