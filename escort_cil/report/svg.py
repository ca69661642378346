"""A matplotlib figure as an SVG element that lives in the page: its colours, its font, its text alternative.

Colours are drawn as stand-ins and become CSS variables of the page, so that one plot is legible in light, dark and
print. Names from files never pass through matplotlib (which would read ``$`` as mathematics and warn of glyphs that
its font lacks): a stand-in of the same length is drawn and the name put in its place.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    """``text`` with control characters and lone surrogates, which a page cannot show, as U+FFFD."""
    return _CONTROL.sub("\ufffd", text)


@dataclass
class Names:
    """Stand-ins for names in one plot, of at most ``width`` characters."""

    width: int = 14
    _held: dict[str, str] = field(default_factory=dict)

    def hold(self, name: str) -> str:
        """A stand-in to be drawn in the place of ``name``."""
        shown = clean(name)
        shown = shown if len(shown) <= self.width else shown[: self.width - 1] + "…"
        token = f"n{len(self._held):04d}".ljust(len(shown), "n")
        self._held[token] = shown
        return token

    def restore(self, token: str) -> str:
        """The name that ``token`` stands for, or ``token`` itself."""
        return self._held.get(token, token)


def to_svg(figure: Figure, key: str, title: str, description: str, names: Names | None = None) -> str:
    """The figure as an ``<svg>`` element whose ids begin with ``key``; ``description`` is its text alternative."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ET.fromstring(buffer.getvalue())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # in a page, <svg> is SVG without a namespace
        element.attrib = {name.rpartition("}")[2]: _own(value, key) for name, value in element.attrib.items()}
        if "id" in element.attrib:
            element.attrib["id"] = f"{key}-{element.attrib['id']}"
        text = (element.text or "").strip()
        element.text = names.restore(text) if names else text
        element.tail = None
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in ("metadata", "style")]:
            parent.remove(child)  # its style would hold for the whole page; the page's own has what is needed
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


def _own(value: str, key: str) -> str:
    """An attribute's value with the page's colours and font, this plot's ids, and two decimals."""
    if value.startswith("data:"):
        return value
    for stand_in, variable in _VARIABLES.items():
        value = value.replace(stand_in, variable)
    value = re.sub(r"font-family:[^;]*;?\s*|(?<=px) '[^;]*", "", value)
    value = re.sub(r"(\d+\.\d\d)\d+", r"\1", value).replace("url(#", f"url(#{key}-")
    return f"#{key}-{value[1:]}" if value.startswith("#") else value
