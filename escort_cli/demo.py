"""``escort demo``: encode, decode and train in a few minutes, without data or weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from escort_codec.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from escort_cil.demo.comparison import DemoOptions, Memory
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
) -> None:
    """Draw pictures, encode, decode and train with three kinds of memory at equal bytes, and show the results.

    Needs no data, no weights, no network and no GPU.
    """
    from escort_cil.demo.comparison import SEEDS, DemoOptions, draw_sheet, encode_demo, size_sentence
    from escort_cil.demo.drawings import draw_dataset
    from escort_cli.encode import print_sizes
    from escort_cli.terminal import print_line
    from escort_codec.errors import OutputError

    options = DemoOptions(regenerator=regenerator, image_size=image_size, epochs=epochs, device=device, layout=layout)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{out}: cannot be made: {exc.strerror}") from exc
    if data is None:
        data = str(out / "data")
        print_line(f"1. draw: {data}")
        names = draw_dataset(data, classes=9)
        print_line(f"   {len(names)} classes: {', '.join(names)}")
        print_line()
    memory = out / "demo.escx"
    print_line(f"2. escort encode {data} {memory}")
    report, sizes = encode_demo(data, memory, options)
    print_sizes(memory, report, sizes, report.source_bytes)
    print_line(f"{size_sentence(report, sizes)}")
    print_line()
    images = out / "images"
    print_line(f"3. escort decode {memory} --seeds {SEEDS[0]}-{SEEDS[-1]} --out {images} --regenerator {regenerator}")
    _decode(memory, images, regenerator)
    sheet = out / "contact-sheet.png"
    draw_sheet(data, memory, sheet, options)
    print_line(f"   contact sheet: {sheet}")
    print_line()
    _train(data, memory, out, options)
    print_line()
    print_line(f"See {sheet}, {images}, and the runs in {out / 'runs'}.")


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


def _train(data: str, memory: Path, out: Path, options: DemoOptions) -> None:
    from escort_cil.data.protocol import read_data
    from escort_cil.demo.comparison import PHASES, accuracy_sentences, demo_budget, train_demo
    from escort_cil.run.recorder import phase_line
    from escort_cli.terminal import print_line, terminal

    budget = demo_budget(read_data(data, layout=options.layout))
    print_line(f"4. train {PHASES} phases, three times, with {budget:,} bytes of memory each")
    results = []
    with terminal(quiet=True) as progress:
        for kind, result in train_demo(data, memory, out / "runs", options, progress):
            print_line(f"   {kind.name}")
            for record in result.records:
                print_line(f"      {phase_line(record)}")
            results.append((kind, result))
    _print_accuracy(results, budget)
    for sentence in accuracy_sentences(results):
        print_line(sentence)


def _print_accuracy(results: Sequence[tuple[Memory, RunResult]], budget: int) -> None:
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
    phases = [f"phase {record['phase'] + 1}, %" for record in results[0][1].records]
    columns = ("memory", "exemplars", "bytes", *phases, "average, %", "old, %", "new, %")
    print_line()
    print_table(f"Accuracy at equal bytes (at most {budget:,})", columns, rows)
