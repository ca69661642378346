"""``escort evaluate``: what a trained run says of other images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of `escort train`.")],
    data: Annotated[str, typer.Option(metavar="DIR", help="Images: DIR/test/<class>/ or DIR/<class>/.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Evaluate a saved run on a folder of images, with its linear head and with the means of its memory."""
    from escort_cil.saved import evaluate_run

    record = evaluate_run(run, data, device=device)
    if json:
        import json as json_module

        print(json_module.dumps(record, indent=2, ensure_ascii=False))
        return
    from escort_cli.tables import print_table

    keys = ("images", "top1", "top5", "nme_top1", "nme_top5", "old", "new")
    rows = [
        [view, *("-" if figures[key] is None else f"{figures[key]:g}" for key in keys)]
        for view, figures in record["views"].items()
    ]
    print_table(
        f"{run} on {data}",
        ("view", "images", "top-1", "top-5", "nearest mean", "nearest mean, top-5", "old", "new"),
        rows,
    )
    print_table("Classes", ("class", "top-1"), [(label, f"{v:g}") for label, v in record["by_class"].items()])
