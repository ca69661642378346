"""Tables of the page: what stands in a cell, and what it sorts by."""

from __future__ import annotations

import math
from dataclasses import dataclass

from escort_cil.report.svg import clean


@dataclass(frozen=True)
class Cell:
    """A cell's text; ``sort`` is the number it sorts by (None: by its text, or last where the text is a dash).

    ``heat`` in 0..1 shades it; ``note`` is a second, quieter text.
    """

    text: str
    sort: float | None = None
    heat: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Column:
    """A column's heading; ``note`` says in a few words what is meant, in a tooltip and for screen readers."""

    title: str
    note: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A sortable table; the first cell of each row is its heading."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def word(text: str, note: str = "") -> Cell:
    """A cell of text from a file."""
    return Cell(clean(text), note=clean(note))


def figure(value: float, digits: int = 1, *, deviation: float = math.nan, shade: bool = False, unit: str = "") -> Cell:
    """A number, with its deviation over seeds where there is one; a dash for NaN. ``shade`` expects a percentage."""
    if math.isnan(value):
        return Cell("–")
    note = "" if math.isnan(deviation) else f"± {deviation:.{digits}f}"
    heat = min(max(value / 100, 0.0), 1.0) if shade else None
    return Cell(f"{value:,.{digits}f}".replace(",", "\u202f") + unit, value, heat, note)


def size(value: float) -> Cell:
    """A number of bytes, sorted by the bytes."""
    return Cell("–") if math.isnan(value) else Cell(size_text(value), value)


def size_text(value: float, *, short: bool = False) -> str:
    """Bytes as people read them: ``812 B``, ``20.5 kB``, ``2.00 MB`` (powers of 1000); ``short``: ``2 MB``."""
    if value < 1000:
        return f"{value:.0f} B"
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5 or unit == "GB":
            break
    return f"{value:.3g} {unit}" if short else f"{value:.{max(0, 2 - (value >= 10) - (value >= 100))}f} {unit}"


def percent_text(value: float) -> str:
    """``61.2 %``, or ``unknown``."""
    return "unknown" if math.isnan(value) else f"{value:.1f} %"
