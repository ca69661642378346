"""``escort demo``: encode, decode, train and report in two minutes, without data or weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from escort_codec.words import counted

if TYPE_CHECKING:
    from escort_cil.demo.comparison import DemoOptions, Memory, Plan
    from escort_cil.trainer import RunResult


def demo(
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Your own photographs, as for encode; drawn ones if left out.")
    ] = None,
    layout: Annotated[str, typer.Option(help="auto or classes, as for encode.")] = "auto",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for all results.")] = Path("demo-out"),
    regenerator: Annotated[str, typer.Option(help="harmonic (needs no weights) or controlnet.")] = "harmonic",
    image_size: Annotated[int, typer.Option(help="Pixels of the network's images.")] = 40,
    epochs: Annotated[int, typer.Option(help="Epochs of each phase.")] = 24,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    browser: Annotated[bool, typer.Option("--open", help="Open the report in a browser at the end.")] = False,
) -> None:
    """Show it all on drawn pictures, in about a minute.

    Draw, encode, decode, train with five kinds of memory at equal bytes, and report the results.

    Needs no data, no weights, no network and no GPU.
    """
    from escort_cil.demo import comparison
    from escort_cil.demo.comparison import SEEDS, DemoOptions
    from escort_cil.demo.drawings import draw_dataset
    from escort_cil.report import check_report
    from escort_cli.encode import print_sizes
    from escort_cli.terminal import print_line
    from escort_codec.errors import OutputError

    options = DemoOptions(regenerator=regenerator, image_size=image_size, epochs=epochs, device=device, layout=layout)
    comparison.check_demo(options)
    memory, sheet, images, runs, page = (
        out / name for name in ("demo.escx", "contact-sheet.png", "images", "runs", "report.html")
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{out}: cannot be made: {exc.strerror}") from exc
    check_report(page)
    if data is None:
        data = str(out / "data")
        print_line(f"1. draw: {data}")
        names = draw_dataset(data, classes=9)
        print_line(f"   {len(names)} classes: {', '.join(names)}")
        print_line()
    plan = comparison.plan_demo(data, options)
    print_line(f"2. escort encode {data} {memory}")
    report, sizes = comparison.encode_demo(data, memory, options)
    print_sizes(memory, report, sizes, report.source_bytes)
    print_line(comparison.size_sentence(report, sizes))
    print_line()
    print_line(f"3. escort decode {memory} --seeds {SEEDS[0]}-{SEEDS[-1]} --out {images} --regenerator {regenerator}")
    _decode(memory, images, regenerator)
    comparison.draw_sheet(plan, memory, sheet, options)
    print_line(f"   contact sheet: {sheet}")
    print_line()
    folders = _train(plan, memory, runs, options)
    print_line()
    print_line(f"5. escort report {runs} --out {page} --regenerator {regenerator}")
    _report(folders, page, regenerator)
    print_line()
    for name, path in (("contact sheet", sheet), ("images", images), ("runs", runs), ("report", page)):
        print_line(f"{name:<15}{path}")
    if browser:
        open_page(page)


def _decode(memory: Path, images: Path, name: str) -> None:
    import escort_codec
    from escort_cli.terminal import print_line, terminal
    from escort_codec.errors import RegenerationError
    from escort_codec.export.options import ExportOptions
    from escort_codec.export.tree import export_file
    from escort_codec.regenerate import make_regenerator

    with escort_codec.open(memory) as reader, make_regenerator(name) as regenerator, terminal() as progress:
        plan, outcome = export_file(reader, images, ExportOptions(), regenerator, progress=progress)
    print_line(f"   {counted(outcome.images, 'image')} made, {plan.skipped:,} existed")
    if outcome.failed:
        raise RegenerationError(f"{counted(outcome.failed, 'image')} could not be made (listed above)")


def _train(plan: Plan, memory: Path, runs: Path, options: DemoOptions) -> list[Path]:
    """Trains and prints the figures; returns the folders of the runs."""
    from escort_cil.demo.comparison import LEAST_RATE, MOST_RATE, PHASES, accuracy_sentences, train_demo
    from escort_cil.run.recorder import phase_line
    from escort_cli.terminal import print_line, terminal

    print_line(f"4. escort train: {PHASES} phases with each kind of memory, and {plan.budget:,} bytes for it")
    print_line("   That is one original image of each class.")
    reason = "" if plan.rate in (LEAST_RATE, MOST_RATE) else f", what all {plan.images:,} training images can have"
    print_line(f"   WebP copies, learned pictures and sketches get {plan.rate:,} bytes each{reason}.")
    results = []
    with terminal(quiet=True) as progress:
        for kind, result in train_demo(plan, memory, runs, options, progress):
            print_line(f"   {kind.name}: --keep {kind.keep}")
            if result is None:
                print_line(f"      not trained: {plan.budget:,} bytes cannot hold one of each class")
            for record in result.records if result is not None else ():
                print_line(f"      {phase_line(record)}")
            results.append((kind, result))
    trained = [(kind, result) for kind, result in results if result is not None]
    _print_accuracy(plan, trained)
    for sentence in accuracy_sentences(plan, results):
        print_line(sentence)
    return [result.folder for _, result in trained]


def _print_accuracy(plan: Plan, results: Sequence[tuple[Memory, RunResult]]) -> None:
    from escort_cil.demo.comparison import PHASES
    from escort_cli.terminal import print_line, print_table

    rows = []
    for memory, result in results:
        last = result.records[-1]
        rows.append(
            (
                memory.name,
                f"{last['memory_real'] + last['memory_prompt']:,}",
                f"{last['memory_bytes']:,}",
                *(f"{record['top1']:.1f}" for record in result.records),
                f"{last['average_incremental_accuracy']:.1f}",
                f"{last['old']:.1f}",
                f"{last['new']:.1f}",
            )
        )
    phases = [f"phase {phase + 1}, %" for phase in range(PHASES)]
    columns = ("memory", "exemplars", "bytes", *phases, "average, %", "old, %", "new, %")
    print_line()
    print_table(f"Accuracy at equal bytes (at most {plan.budget:,})", columns, rows)


def _report(folders: Sequence[Path], page: Path, regenerator: str) -> None:
    """Writes the report of run folders, with a page of each memory that it links to."""
    from escort_cil.report import write_report
    from escort_cil.run.folder import MEMORY, VIEW
    from escort_cli.terminal import print_line, terminal
    from escort_cli.view_page import export_page

    with terminal(quiet=True):
        for folder in folders:
            export_page([folder / MEMORY], folder / VIEW, overwrite=True)
        groups = write_report(folders, page, regenerator=regenerator)
    print_line(f"   {counted(len(groups), 'run')}, {page.stat().st_size:,} bytes")


def open_page(page: Path) -> None:
    """Opens a page in the browser, or says that there is none."""
    import webbrowser

    from escort_cli.terminal import print_line

    if not webbrowser.open(page.resolve().as_uri()):
        print_line(f"no browser was found: open {page} in one", error=True)
