"""``escort evaluate``: a trained model on other images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from escort_cil.run.settings import TrainConfig
from escort_cli.flags import with_settings
from escort_codec.settings import convert, settings_of

if TYPE_CHECKING:
    from escort_cil.evaluation import Evaluation

MATRIX: Final = 12  # classes up to which the whole confusion matrix is shown
PAIRS: Final = 10  # confusions that are listed if there are more classes


SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "eval_views": {"default": None, "help": "real, regenerated or both; as in RUN if left out."},
    "layout": {"default": None, "help": "auto: split folders are found; classes: none are; as in RUN if left out."},
    "device": {},
    "cache_memory": {},
    "workers": {},
}
"""Settings of a run that an evaluation has too, and what differs here."""


@with_settings(
    [replace(settings_of(TrainConfig)[name], shown=True, group="", **own) for name, own in SETTINGS.items()], {}
)
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of `escort train`.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Images: DIR/test/<class>/ or DIR/<class>/.")],
    *,
    nearest_mean: Annotated[
        bool, typer.Option(help="By the class means of memory.escx too (the default).", show_default=False)
    ] = True,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures to FILE too, as JSON.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    typed: dict[str, Any],
) -> None:
    """Evaluate a run's model on a folder of images.

    No training data is needed.

    The figures are those of metrics.jsonl, and each class's. RUN stays as it is.
    """
    from escort_cil.evaluation import EvaluationOptions, evaluate_run
    from escort_cli.terminal import print_json, terminal
    from escort_codec.atomic import write_file
    from escort_codec.errors import UsageError
    from escort_codec.processes import is_first
    from escort_codec.words import to_json

    if out is not None and not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent}", setting="out", value=out)
    chosen = {name: convert(settings_of(TrainConfig)[name], text) for name, text in typed.items()}
    options = EvaluationOptions(views=chosen.pop("eval_views", None), nearest_mean=nearest_mean, **chosen)
    with terminal(silent=not is_first()) as progress:
        evaluation = evaluate_run(run, data, options, progress)
    if not evaluation.is_main:
        return
    if out is not None:
        write_file(out, (to_json(evaluation.to_record(), indent=2) + "\n").encode())
    if json:
        print_json(evaluation.to_record())
    else:
        _print(evaluation)


def _print(evaluation: Evaluation) -> None:
    from escort_cli.terminal import format_percent, print_table

    keys = ("images", "top1", "top5", "nme_top1", "nme_top5", "old", "new")
    columns = ("view", "images", "top-1", "top-5", "nearest mean", "its top-5", "old", "new")
    rows = []
    for view, figures in evaluation.figures.items():
        record = figures.to_record()
        rows.append([view, str(record[keys[0]]), *(format_percent(record[key]) for key in keys[1:])])
    print_table(f"{evaluation.run} on {evaluation.data}, %", columns, rows)
    _print_classes(evaluation)
    _print_confusion(evaluation)


def _print_classes(evaluation: Evaluation) -> None:
    from escort_cli.terminal import format_percent, print_table

    phases = [phase for phase, size in enumerate(evaluation.main.groups) for _ in range(size)]
    rows = [
        [
            each["label"],
            str(phase + 1),
            str(each["images"]),
            format_percent(each["top1"]),
            format_percent(each["nme_top1"]),
        ]
        for each, phase in zip(evaluation.to_record()["per_class"], phases, strict=True)
    ]
    print_table("Classes, as learnt", ("class", "phase", "images", "top-1", "mean"), rows)


def _print_confusion(evaluation: Evaluation) -> None:
    from escort_cli.terminal import print_table

    confusion, labels = evaluation.main.linear.confusion, evaluation.labels
    if len(labels) <= MATRIX:
        rows = [
            [f"{i + 1} {label}", *(str(count) if count else "." for count in confusion[i])]
            for i, label in enumerate(labels)
        ]
        columns = ("", *(str(number) for number in range(1, len(labels) + 1)))
        print_table("Confusion (rows: true)", columns, rows)
        return
    pairs = [(int(confusion[i, j]), i, j) for i in range(len(labels)) for j in range(len(labels)) if i != j]
    pairs = sorted((pair for pair in pairs if pair[0]), key=lambda pair: (-pair[0], pair[1:]))[:PAIRS]
    found = [[f"{labels[i]}, predicted as {labels[j]}", str(count)] for count, i, j in pairs]
    print_table("Most frequent confusions (--json has all)", ("", "images"), found)
