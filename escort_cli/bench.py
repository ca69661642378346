"""``escort bench``: kinds of exemplar and image formats at equal bytes, as one page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from escort_cil.bench.options import BenchOptions
from escort_cli.flags import parse_settings, with_settings
from escort_codec.settings import build, settings_of

_SETTINGS: Final = [replace(each, shown=True) for each in settings_of(BenchOptions).values()]


@with_settings(_SETTINGS, {})
def bench(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Folder: DATA/train/<class>/<image> or DATA/<class>/<image>.")
    ],
    *,
    typed: dict[str, Any],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page to write.")] = Path("bench.html"),
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the regenerator.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Measure all kinds and formats at equal bytes on your images.

    Every kind of exemplar, with JPEG, WebP, AVIF and JPEG XL beside.

    Writes one page with plots and pictures, and recommends a kind and rate for these data and budget.
    """
    from escort_cil.bench.advice import advice
    from escort_cil.bench.figures import run_bench
    from escort_cil.bench.page import check_page, write_page
    from escort_cli.terminal import print_json, print_line, terminal

    options = build(BenchOptions, typed)
    check_page(out)
    with terminal() as progress:
        result = run_bench(data, options, parse_settings(set_ or []), progress)
    write_page(result, out)
    line = advice(result)
    if json:
        print_json(result.to_map() | {"out": str(out), "advice": line})
        return
    _print(result)
    print_line(f"{out}: {out.stat().st_size:,} bytes")
    print_line(line)


def _print(result: Any) -> None:
    """The main figures as a table."""
    from escort_cli.terminal import print_table

    def text(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    rows = [
        (
            f"{point.way}, {point.rate} B",
            f"{point.bytes:,.0f}",
            text(point.f, 3),
            text(point.ssim, 3),
            text(point.psnr, 1),
            text(point.recognised, 0),
            f"{point.encode_ms:.0f}",
            f"{point.decode_ms:.0f}",
        )
        for point in result.points
    ]
    columns = ("at most", "bytes", "edge F", "SSIM", "PSNR", "recognised, %", "encode, ms", "decode, ms")
    print_table(f"{result.images} photographs", columns, rows)
    if result.replay:
        held = [(r.keep, f"{r.exemplars:,}", f"{r.bytes:,}", text(r.accuracy, 1)) for _, _, r in result.replay]
        print_table("Trained on the memory alone", ("memory", "exemplars", "bytes", "accuracy, %"), held)
