"""The page of ``escort bench``: plots, a sheet of one photograph, tables. It looks as the report does."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from escort_cil.bench.advice import advice
from escort_cil.bench.figures import BenchResult, Point
from escort_cil.bench.ways import KINDS, ways
from escort_cil.report import LegendEntry
from escort_cil.report.drawing import MARKERS, MUTED, SERIES, LineStyle, Plot, clean, draw, size_text
from escort_cil.report.gallery import GalleryImage, edge_picture, photograph
from escort_cil.report.tables import Cell, Column, SortableTable, number_cell, text_cell
from escort_codec.atomic import write_file
from escort_codec.errors import OutputError, TrainingError
from escort_codec.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Value = Callable[[Point], float | None]


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a point, as the page shows it. ``more``: whether more is better, for the highlight."""

    key: str
    title: str
    column: str
    axis: str
    note: str
    digits: int
    value: Value
    plotted: bool = True
    more: bool = True


MEASURES: Final = (
    Measure("recognised", "Recognised", "Recognised, %", "recognised, %", "Share that the classifier takes for the same as the "
            "photograph itself.", 1, lambda p: p.recognised),
    Measure("ssim", "SSIM", "SSIM", "SSIM", "Structural similarity with the photograph, at its size.", 3, lambda p: p.ssim),
    Measure("psnr", "PSNR", "PSNR, dB", "PSNR, dB", "Peak signal-to-noise ratio with the photograph, at its size.", 1,
            lambda p: p.psnr),
    Measure("own-f", "Edges of what is seen", "Seen F", "F within 2 pixels", "F of the shown picture's edges against the long "
            "contours of the photograph's full map.", 3, lambda p: p.own_f),
    Measure("f", "Edges that are stored", "Stored F", "F within 2 pixels", "F of a prompt's stored map against the long contours "
            "of the full map.", 3, lambda p: p.f),
    Measure("obeyed", "Does the regenerator obey?", "Obeyed F", "F within 2 pixels", "F of the regenerated image's own edges "
            "against the stored ones.", 3, lambda p: p.obeyed),
    Measure("kid", "Distance of features", "KID", "KID", "Kernel distance of the classifier's features within each class: "
            "less is better.", 4, lambda p: p.kid, more=False),
    Measure("precision", "Precision", "Stored P", "", "Of the stored edge pixels, the share that the full map has.", 3,
            lambda p: p.precision, plotted=False),
    Measure("recall", "Recall", "Stored R", "", "Of the full map's long contours, the share that is stored.", 3,
            lambda p: p.recall, plotted=False),
    Measure("encode", "Encode, ms", "Encode, ms", "encode, ms an image", "One core, with the search for the rate.", 1,
            lambda p: p.encode_ms, more=False),
    Measure("decode", "Decode, ms", "Decode, ms", "decode, ms an image", "One core.", 1, lambda p: p.decode_ms, more=False),
)  # fmt: skip
TIMES: Final = ("encode", "decode")


@dataclass(frozen=True, slots=True)
class SheetLine:
    """A line of the sheet: its name and a picture, or None, for each rate."""

    name: str
    pictures: tuple[GalleryImage | None, ...]


def write_page(result: BenchResult, out: Path) -> None:
    """Writes the page. Raises OutputError, TrainingError if jinja2 or matplotlib is missing."""
    check_page(out)
    write_file(out, render(result).encode())


def check_page(out: Path) -> None:
    """Raises what would stop ``write_page``, before hours of work."""
    if any(find_spec(module) is None for module in ("jinja2", "matplotlib")):
        raise TrainingError("a page needs jinja2 and matplotlib: pip install 'escort[report]'")
    if out.is_dir():
        raise OutputError(f"{out} is a folder; name the file to write, such as {out / 'bench.html'}")
    if not out.resolve().parent.is_dir():
        raise OutputError(f"{out.parent}: there is no such folder")


def render(result: BenchResult) -> str:
    """The page as text."""
    from jinja2 import DictLoader, Environment, StrictUndefined

    report = files("escort_cil.report")
    script, style = (report.joinpath(name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    own = files("escort_cil.bench")
    template, extra = (own.joinpath(name).read_text(encoding="utf-8") for name in ("bench.html.j2", "bench.css"))
    macros = report.joinpath("page.html.j2").read_text(encoding="utf-8").partition("<!DOCTYPE")[0]
    environment = Environment(
        loader=DictLoader({"bench.html.j2": macros + template}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    order = list(dict.fromkeys(point.way for point in result.points))
    plots = [_plot(result, measure, order) for measure in MEASURES if measure.plotted]
    shown = [plot for plot in plots if plot is not None]
    return environment.get_template("bench.html.j2").render(
        title=clean(f"escort bench: {result.data}"),
        headline=clean(_headline(result)),
        advice=clean(advice(result)),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=style + extra,
        legend=[_legend(name) for name in order],
        markers=MARKERS,
        plots=[plot for plot in shown if plot.key not in TIMES],
        times=[plot for plot in shown if plot.key in TIMES],
        replay_plot=_replay_plot(result),
        replay_table=_replay_table(result) if result.replay else None,
        rates=[size_text(rate) for rate in result.options.rates],
        original=None if result.original is None else photograph(result.original, "the photograph", "The photograph"),
        sheet=_sheet(result, order),
        table=_table(result),
        measures=[measure for measure in MEASURES if _has(result, measure)],
        options=[(name, str(value)) for name, value in result.to_map()["options"].items()],
    )


def _headline(result: BenchResult) -> str:
    what = f"{counted(result.images, 'photograph')} of {result.data}"
    without = (
        f" Not measured, as this Pillow does not write them: {', '.join(result.missing)}." if result.missing else ""
    )
    return (
        f"{what}, {counted(result.classes, 'class')}, {len(result.options.rates)} rates; prompts are regenerated by "
        f"{result.options.regenerator}.{without}"
    )


def _style(way: str) -> LineStyle:
    """The same colour for a way on every page: kinds of exemplar with whole lines, formats dashed."""
    number = list(ways.names()).index(way)
    return LineStyle(number % len(SERIES), 0 if way in KINDS else 1)


def _legend(way: str) -> LegendEntry:
    style = _style(way)
    return LegendEntry(way, style.variable, style.dash[0], style.marker, "" if way in KINDS else "whole files")


def _has(result: BenchResult, measure: Measure) -> bool:
    return any(measure.value(point) is not None for point in result.points)


def _plot(result: BenchResult, measure: Measure, order: Sequence[str]) -> Plot | None:
    """A measure against the mean bytes; None if nothing has it."""
    series = []
    for way in order:
        points = [(p.bytes, v) for p in result.points if p.way == way and (v := measure.value(p)) is not None]
        if points:
            series.append((way, points))
    if not series:
        return None
    return _lines(measure.key, measure.title, measure.axis, measure.note, series, log=measure.key in TIMES)


def _lines(
    key: str,
    title: str,
    axis: str,
    note: str,
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    *,
    log: bool = False,
    level: float | None = None,
) -> Plot:
    """Lines over bytes an image, a logarithmic scale; ``level`` is a line across."""

    def paint(axes: Axes) -> None:
        for way, points in series:
            style = _style(way)
            x, y = zip(*sorted(points), strict=True)
            axes.plot(
                x, y, color=style.colour, linestyle=style.dash[1], marker=style.marker, markersize=5, linewidth=1.8
            )
        if level is not None:
            axes.axhline(level, color=MUTED, linewidth=1.2, linestyle=(0, (2, 2)))
        axes.set_xscale("log")
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_formatter(lambda _value, _: "")
        rates = sorted({x for _, points in series for x, _ in points})
        ticks = [
            tick for tick in (50, 100, 200, 400, 800, 1600, 3200, 6400) if rates[0] / 1.5 <= tick <= rates[-1] * 1.5
        ]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.xaxis.set_minor_formatter(lambda _value, _: "")
        axes.tick_params(axis="x", which="minor", length=0)
        axes.set_xlabel("bytes an image")
        axes.set_ylabel(axis)

    words = "; ".join(f"{way}: " + ", ".join(f"{y:.3g} at {x:.0f} bytes" for x, y in points) for way, points in series)
    return Plot(key, title, draw(key, title, f"Line plot. {words}.", paint, height=2.9, left=0.72), note)


def _replay_plot(result: BenchResult) -> Plot | None:
    series: dict[str, list[tuple[float, float]]] = {}
    for way, rate, outcome in result.replay:
        if rate is not None and outcome.accuracy is not None:
            series.setdefault(way, []).append((rate, outcome.accuracy))
    if not series:
        return None
    level = next((r.accuracy for n, rate, r in result.replay if n == "prompt" and rate is None), None)
    note = f"A small network trained on a memory of {size_text(result.budget)} alone, tested on real images."
    note += " The dotted line: the paper's full maps." if level is not None else ""
    return _lines("replay", "What the memory is worth", "accuracy, %", note, list(series.items()), level=level)


def _replay_table(result: BenchResult) -> SortableTable:
    columns = (
        Column("Memory", numeric=False),
        Column("Exemplars"),
        Column("Bytes"),
        Column("Accuracy, %", "The mean over classes, on real test images."),
    )
    best = max((r.accuracy or 0.0 for _, _, r in result.replay), default=0.0)
    rows = tuple(
        (
            text_cell(r.keep, "the paper's full maps" if r.keep == "prompt" else ""),
            number_cell(r.exemplars, 0),
            number_cell(r.bytes, 0),
            _shaded(r.accuracy, 1, best),
        )
        for _, _, r in result.replay
    )
    return SortableTable("Trained on the memory alone", columns, rows)


def _shaded(value: float | None, digits: int, best: float) -> Cell:
    if value is None:
        return Cell("–")
    cell = number_cell(value, digits)
    return Cell(cell.text, cell.sort, max(0.0, min(1.0, value / best)) ** 2 if best else None)


def _table(result: BenchResult) -> SortableTable:
    shown = [measure for measure in MEASURES if _has(result, measure)]
    columns = (
        Column("Kept", numeric=False),
        Column("At most, B"),
        Column("Bytes", "The mean of what an image took."),
        *(Column(measure.column, f"{measure.title}. {measure.note}") for measure in shown),
    )
    rows = []
    for point in result.points:
        cells = [text_cell(point.way), number_cell(point.rate, 0), number_cell(point.bytes, 1)]
        for measure in shown:
            value = measure.value(point)
            cells.append(Cell("–") if value is None else number_cell(value, measure.digits))
        rows.append(tuple(cells))
    return SortableTable("All figures", columns, tuple(rows))


def _sheet(result: BenchResult, order: Sequence[str]) -> list[SheetLine]:
    """A line for each way, and one of the stored edge maps above that of the prompts."""
    lines = []
    for way in order:
        pictures: list[GalleryImage | None] = []
        maps: list[GalleryImage | None] = []
        for rate in result.options.rates:
            if (way, rate) not in result.sheet:
                pictures.append(None)
                maps.append(None)
                continue
            kept, shown = result.sheet[way, rate]
            pictures.append(photograph(shown, size_text(kept.size), f"{way} in {kept.size} bytes"))
            if kept.exemplar is not None and kept.exemplar.kind == "prompt":
                exemplar = kept.exemplar
                drawn = edge_picture(exemplar.edges, exemplar.label, "")
                maps.append(replace(drawn, caption=size_text(len(exemplar.payload))))
        if any(maps):
            lines.append(SheetLine("edge map", tuple(maps)))
        lines.append(SheetLine(way, tuple(pictures)))
    return lines
