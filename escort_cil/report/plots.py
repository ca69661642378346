"""How plots are drawn, and the plots that compare runs: curves over phases, accuracy against bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from escort_cil.report.runs import BUDGET_KEYS, Group
from escort_cil.report.svg import MUTED, SERIES, STYLE, Names, to_svg
from escort_cil.report.tables import size_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH: Final = 4.8  # inches; 1 inch is 96 pixels of the page at most
DASHES: Final = (("none", "-"), ("6 3", (0, (6, 3))), ("2 2", (0, (2, 2))), ("8 2 2 2", (0, (8, 2, 2, 2))))
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True)
class Plot:
    """An SVG element and what stands above it; a ``wide`` one scrolls in its own box where it would be too small."""

    key: str
    title: str
    svg: str
    note: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Style:
    """How a group is drawn; each is a number into ``SERIES``, ``MARKERS`` and ``DASHES``."""

    colour_number: int
    dash_number: int = 0

    @property
    def colour(self) -> str:
        """The stand-in of its colour."""
        return SERIES[self.colour_number % len(SERIES)]

    @property
    def variable(self) -> str:
        """The CSS variable of its colour."""
        return f"var(--s{self.colour_number % len(SERIES)})"

    @property
    def dash(self) -> tuple[str, Any]:
        """(SVG's stroke-dasharray, matplotlib's linestyle)."""
        return DASHES[self.dash_number % len(DASHES)]

    @property
    def marker(self) -> str:
        """matplotlib's marker; seven markers and eight colours make 56 pairs."""
        return MARKERS[self.colour_number % len(MARKERS)]


def styles(groups: Sequence[Group]) -> list[Style]:
    """A style for each group: a colour for each value of the first option that differs, dashes for the rest.

    Where that would take more dashes than there are, or the groups differ in one option alone, each has a colour.
    """
    values = [group.kind for group in groups]
    colours = list(dict.fromkeys(values))
    dashes = [values[:n].count(value) for n, value in enumerate(values)]
    if len(colours) == 1 or max(dashes, default=0) >= len(DASHES):
        return [Style(n, n // len(SERIES)) for n in range(len(groups))]
    return [Style(colours.index(value), dash) for value, dash in zip(values, dashes, strict=True)]


def draw(
    key: str,
    title: str,
    description: str,
    paint: Callable[[Axes], Names | None],
    *,
    height: float = 3.2,
    left: float = 0.62,
    bottom: float = 0.55,
) -> str:
    """Lets ``paint`` draw on axes and gives the SVG element; ``height`` and the margins are in inches.

    The margins are given rather than found by matplotlib, which would lay out every text twice.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        figure.subplots_adjust(left=left / WIDTH, bottom=bottom / height, right=1 - 0.15 / WIDTH, top=1 - 0.1 / height)
        return to_svg(figure, key, title, description, paint(figure.add_subplot()))


def curves(
    groups: Sequence[Group], figure: str, key: str, title: str, axis: str, view: str | None = None
) -> Plot | None:
    """A figure by phase, a line a group with its deviation over seeds as a band; None where no group has it."""
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


def against_bytes(groups: Sequence[Group], key: str = "bytes") -> Plot | None:
    """Average incremental accuracy against the memory's bytes after the last phase, a point a group.

    Groups that differ in their budget alone are joined by a line. None where no group has a memory.
    """
    points = []
    for style, group in zip(styles(groups), groups, strict=True):
        accuracy, deviation = group.last("average_incremental_accuracy")
        memory, _ = group.last("memory_bytes")
        if not math.isnan(accuracy) and not math.isnan(memory):
            points.append((style, group, memory, accuracy, deviation))
    if not any(memory > 0 for _, _, memory, _, _ in points):
        return None
    families: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for _, group, memory, accuracy, _ in points:
        family = tuple((k, v) for k, v in group.differing.items() if k.rsplit(".", 1)[-1] not in BUDGET_KEYS)
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
        axes.set_xlabel("memory.escx after the last phase")
        axes.set_ylabel("average incremental accuracy, %")
        _percent_limits(axes, signed=False)

    title = "Accuracy against memory bytes"
    words = "; ".join(f"{g.name}: {accuracy:.1f} % with {size_text(memory)}" for _, g, memory, accuracy, _ in points)
    note = "Average incremental accuracy; the bytes are those of the memory file on disk."
    if any(len(family) > 1 for family in families.values()):
        note += " A line joins runs that differ in their budget alone."
    return Plot(key, title, draw(key, title, f"Scatter plot. {words}.", paint, left=0.75), note)
