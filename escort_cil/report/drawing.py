"""The look of the page: numbers as text, colours and line styles, and matplotlib figures as SVG elements.

Plots are drawn in placeholder colours that become CSS variables of the page, so that one plot is legible in light, dark
and print. Names from files never pass through matplotlib (which would read ``$`` as mathematics and warn about missing
glyphs): it draws a placeholder of the same length, which is replaced by the name.
"""

from __future__ import annotations

import io
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from escort_cil.report.runs import RunGroup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH: Final = 4.8  # inches; 1 inch is 96 pixels of the page at most

INK: Final = "#0b0b01"
MUTED: Final = "#0b0b02"
GRID: Final = "#0b0b03"
HEAT: Final = "#0b0b04"
REAL: Final = "#0b0b05"
PROMPT: Final = "#0b0b06"
HINT: Final = "#0b0b07"
PAPER: Final = "#0b0b08"
SERIES: Final = tuple(f"#0b0b1{n}" for n in range(8))
_VARIABLES: Final = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    HEAT: "var(--heat)",
    REAL: "var(--real)",
    PROMPT: "var(--prompt)",
    HINT: "var(--hint)",
    PAPER: "var(--paper)",
    **{colour: f"var(--s{n})" for n, colour in enumerate(SERIES)},
}
DASHES: Final = (("none", "-"), ("6 3", (0, (6, 3))), ("2 2", (0, (2, 2))), ("8 2 2 2", (0, (8, 2, 2, 2))))
MARKERS: Final = {  # matplotlib's, and the same as SVG paths in a box from -5 to 5
    "o": "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",
    "s": "M-3.2-3.2h6.4v6.4h-6.4z",
    "^": "M0-4L4 3.5h-8z",
    "D": "M0-4.5L4.5 0L0 4.5L-4.5 0z",
    "v": "M0 4L4-3.5h-8z",
    "P": "M-1.5-4h3v2.5h2.5v3h-2.5v2.5h-3v-2.5h-2.5v-3h2.5z",
    "X": "M-4-2L-2-4L0-2L2-4L4-2L2 0L4 2L2 4L0 2L-2 4L-4 2L-2 0z",
}

STYLE: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "escort",
    "text.parse_math": False,
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean(text: str) -> str:
    """``text`` with U+FFFD for control characters and lone surrogates, which a page cannot show."""
    return _CONTROL.sub("\ufffd", text)


def size_text(value: float, *, short: bool = False) -> str:
    """Bytes for people: ``812 B``, ``20.5 kB``, ``2.00 MB`` (powers of 1000); ``short``: ``2 MB``."""
    if value < 1000:
        return f"{value:.0f} B"
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5 or unit == "GB":
            break
    return f"{value:.3g} {unit}" if short else f"{value:.{max(0, 2 - (value >= 10) - (value >= 100))}f} {unit}"


def percent_text(value: float) -> str:
    """``61.2 %``, or a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.1f} %"


@dataclass(frozen=True)
class Plot:
    """An SVG element with its heading and note; a ``wide`` one scrolls in its own box instead of shrinking."""

    key: str
    title: str
    svg: str
    note: str = ""
    wide: bool = False


@dataclass(frozen=True)
class LineStyle:
    """The style of a group's line; the fields are indices into ``SERIES`` and ``MARKERS``, and into ``DASHES``."""

    colour_number: int
    dash_number: int = 0

    @property
    def colour(self) -> str:
        """The placeholder colour."""
        return SERIES[self.colour_number % len(SERIES)]

    @property
    def variable(self) -> str:
        """The CSS variable of its colour."""
        return _VARIABLES[self.colour]

    @property
    def dash(self) -> tuple[str, Any]:
        """(SVG's stroke-dasharray, matplotlib's linestyle)."""
        return DASHES[self.dash_number % len(DASHES)]

    @property
    def marker(self) -> str:
        """matplotlib's marker; seven markers and eight colours make 56 pairs."""
        return list(MARKERS)[self.colour_number % len(MARKERS)]


def styles(groups: Sequence[RunGroup]) -> list[LineStyle]:
    """A style for each group: a colour for each value of the first setting that differs, dashes for the rest.

    If there are too few dashes for that, or the groups differ in one setting only, each group has its own colour.
    """
    values = [group.kind for group in groups]
    colours = list(dict.fromkeys(values))
    dashes = [values[:n].count(value) for n, value in enumerate(values)]
    if len(colours) == 1 or max(dashes, default=0) >= len(DASHES):
        return [LineStyle(n, n // len(SERIES)) for n in range(len(groups))]
    return [LineStyle(colours.index(value), dash) for value, dash in zip(values, dashes, strict=True)]


@dataclass
class Placeholders:
    """Placeholders of names in one plot; names are cut to ``width`` characters."""

    width: int = 14
    _names: dict[str, str] = field(default_factory=dict)

    def hold(self, name: str) -> str:
        """A placeholder to draw in place of ``name``."""
        text = clean(name)
        text = text if len(text) <= self.width else text[: self.width - 1] + "…"
        token = f"n{len(self._names):04d}".ljust(len(text), "n")
        self._names[token] = text
        return token

    def restore(self, token: str) -> str:
        """The name of a placeholder; any other text unchanged."""
        return self._names.get(token, token)


def draw(
    key: str,
    title: str,
    description: str,
    paint: Callable[[Axes], Placeholders | None],
    *,
    height: float = 3.2,
    left: float = 0.62,
    bottom: float = 0.55,
) -> str:
    """The SVG element of what ``paint`` draws on axes; ``height`` and the margins are in inches.

    The margins are fixed, as matplotlib would lay out every text twice to find them.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        figure.subplots_adjust(left=left / WIDTH, bottom=bottom / height, right=1 - 0.15 / WIDTH, top=1 - 0.1 / height)
        return to_svg(figure, key, title, description, paint(figure.add_subplot()))


def to_svg(figure: Figure, key: str, title: str, description: str, names: Placeholders | None = None) -> str:
    """The figure as an ``<svg>`` element whose ids begin with ``key``; ``description`` is its text alternative."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ET.fromstring(buffer.getvalue())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # in a page, <svg> is SVG without a namespace
        element.attrib = {name.rpartition("}")[2]: _rewrite(value, key) for name, value in element.attrib.items()}
        if "id" in element.attrib:
            element.attrib["id"] = f"{key}-{element.attrib['id']}"
        text = (element.text or "").strip()
        element.text = names.restore(text) if names else text
        element.tail = None
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in ("metadata", "style")]:
            parent.remove(child)  # its style would apply to the whole page, which has its own
    width = float(root.attrib["viewBox"].split()[2])
    root.attrib = {
        "class": "plot",
        "viewBox": root.attrib["viewBox"],
        "style": f"max-width:{width / 72 * 96:.0f}px",
        "role": "img",
        "aria-labelledby": f"{key}-title {key}-desc",
    }
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ET.Element(tag, {"id": f"{key}-{tag}"})
        element.text = clean(text)
        root.insert(position, element)
    return ET.tostring(root, encoding="unicode")


def _rewrite(value: str, key: str) -> str:
    """An attribute's value with the page's colours and font, this plot's ids, and two decimals."""
    if value.startswith("data:"):
        return value
    for placeholder, variable in _VARIABLES.items():
        value = value.replace(placeholder, variable)
    value = re.sub(r"font-family:[^;]*;?\s*|(?<=px) '[^;]*", "", value)
    value = re.sub(r"(\d+\.\d\d)\d+", r"\1", value).replace("url(#", f"url(#{key}-")
    return f"#{key}-{value[1:]}" if value.startswith("#") else value
