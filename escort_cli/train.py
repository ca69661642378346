"""``escort train``: class-incremental training with a memory of a fixed size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from escort_cil.run.settings import TrainConfig
from escort_cli.flags import parse_settings, print_columns, settings_table, with_settings
from escort_codec.settings import settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from escort_cil.run.command import TrainCommand
    from escort_cil.sweep import PlannedRun
    from escort_cil.trainer import RunResult

ARGUMENTS: Final = ("data", "continued", "method_options", "regenerator_options", "backbone_config")
"""Settings without a flag of their own: DATA, --continue, --set method.X and regenerator.X, and derived ones."""

FLAGS: Final = {"prompts_file": "--memory"}

RUN: Final = "Run"
"""The group of the options that are not settings."""


@with_settings([each for name, each in settings_of(TrainConfig).items() if name not in ARGUMENTS], FLAGS)
def train(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA", help="train/ and test/ folders, or one folder per class.", rich_help_panel="Data"
        ),
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run folder; runs/<name> if left out.", rich_help_panel=RUN)
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Resume a stopped run.", rich_help_panel=RUN)
    ] = None,
    continue_: Annotated[
        Path | None,
        typer.Option(
            "--continue", metavar="RUN", help="Continue a finished run with DATA's new classes.", rich_help_panel=RUN
        ),
    ] = None,
    first_phase_from: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Take RUN's first phase over, if it is the same.", rich_help_panel=RUN),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing run.", rich_help_panel=RUN)] = False,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Settings as JSON: a run's, the paper's or PyCIL's.", rich_help_panel=RUN),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any setting, such as method.temperature=2.", rich_help_panel=RUN
        ),
    ] = None,
    settings: Annotated[
        bool, typer.Option("--settings", help="List all settings; each is also a flag.", rich_help_panel=RUN)
    ] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the configuration as JSON and stop.", rich_help_panel=RUN)
    ] = False,
    typed: dict[str, Any],
) -> None:
    """Learn classes phase by phase with a memory of a fixed size.

    RUN gets config.json, metrics.jsonl, memory.escx and the weights.
    """
    from escort_cil.data.protocol import read_labels
    from escort_cil.run.command import configure
    from escort_cil.sweep import train_several
    from escort_cli.sweep import print_summary
    from escort_cli.terminal import terminal
    from escort_codec.errors import UsageError
    from escort_codec.processes import is_first

    if resume is not None and (out is not None or force):
        raise UsageError("`resume` names the run folder: leave `out` and `force` out")
    if resume is not None and first_phase_from is not None:
        raise UsageError("a resumed run has its own first phase: leave `first_phase_from` out")
    if resume is not None and continue_ is not None:
        raise UsageError("give either `resume`, for a stopped run, or `continue`, for a finished one")
    if "class_order" in typed:
        typed["class_order"] = read_labels(Path(typed["class_order"]))
    if data is not None:
        typed["data"] = data
    typed = {**parse_settings(set_ or []), **typed}
    seeds = _order_seeds(typed.pop("seed", None))
    if settings:
        _print_settings(typed)
        return
    kept = [part.strip() for part in str(typed.pop("keep", "")).split(",") if part.strip()]
    rows = [{**typed, "keep": keep} for keep in kept] or [typed]
    if len(rows) > 1 and (resume is not None or out is None):
        raise UsageError("several kinds need several runs: give a folder for them with `out`", setting="keep")
    asked = [configure(row, file=config, resume=resume, continued=continue_, seeds=seeds) for row in rows]
    if print_config:
        _print_config(asked[0])
        return
    with terminal(silent=not is_first()) as progress:
        for note in asked[0].notes:
            progress.print(note)
        runs = _planned(asked, resume or out)
        results = train_several(
            runs, progress=progress, force=force, resume=resume is not None, first_phase=first_phase_from
        ).results
    if is_first():
        print_results(results)
        if len(rows) > 1:
            print_summary(results)


def _planned(asked: Sequence[TrainCommand], out: Path | None) -> list[PlannedRun]:
    """A run for each configuration and class order.

    Several runs get folders in ``out``, named by ``keep`` and ``seed<N>``; without ``out`` their settings name them.
    """
    from escort_cil.sweep import PlannedRun, folder_name

    runs = []
    for command in asked:
        config, place = command.config, out
        if len(asked) > 1 and out is not None:
            place = out / folder_name(config.keep)
            config = replace(config, cache=config.cache or str(out / "cache"))
        for seed in command.seeds:
            folder = place / f"seed{seed}" if place is not None and len(command.seeds) > 1 else place
            runs.append(PlannedRun(replace(config, seed=seed), folder))
    return runs


def _order_seeds(text: str | None) -> tuple[int, ...]:
    """Seeds in the order typed (``parse_seeds`` would sort them)."""
    from escort_codec.seeds import parse_seeds

    parts = text.split(",") if text is not None else []
    return tuple(dict.fromkeys(seed for part in parts for seed in parse_seeds(part)))


def _print_config(command: TrainCommand) -> None:
    """The whole configuration as JSON that ``--config`` reads again, and where each value comes from."""
    from dataclasses import asdict

    from escort_cil.run.command import sources_of
    from escort_cil.run.presets import filled
    from escort_cil.run.resolve import images_in
    from escort_cli.terminal import print_json

    config, decided = filled(command.config, images_in(command.config))
    values = config.to_map() | {"method_options": asdict(config.hyperparameters())}
    if len(command.seeds) > 1:
        values["seed"] = list(command.seeds)
    print_json(values | {"from": sources_of(command, decided)})


def _print_settings(typed: Mapping[str, Any]) -> None:
    """All settings, and those of the chosen method and regenerator."""
    from escort_cil.learners import learners
    from escort_codec.regenerate import regenerators

    default = settings_of(TrainConfig)
    method, regenerator = (str(typed.get(name, default[name].default)) for name in ("method", "regenerator"))
    groups = settings_table(each for each in default.values() if not each.name.endswith("_options"))
    of_method = settings_of(learners.get(method).hyperparameters).values()
    groups |= {f"Settings of {method}": settings_table(of_method, "method.")[""]}
    of_regenerator = settings_of(regenerators.get(regenerator)().options_class).values()
    rows = settings_table(of_regenerator, "regenerator.").values()
    groups |= {f"Settings of {regenerator}": [row for group in rows for row in group]}
    print_columns(groups)


def print_results(results: Sequence[RunResult]) -> None:
    """The tables of finished runs, and of their mean if there are several."""
    from escort_cli.terminal import print_table

    for result in results:
        print_table(f"{result.config.method}, {result.folder}: accuracy in %", *accuracy_table(result.records))
        if result.records[-1]["memory_bytes"]:
            print_table("memory", *memory_table(result.records))
    if len(results) > 1:
        _print_means(results)


def accuracy_table(records: Sequence[Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows, a row for each phase and view."""
    from escort_cli.terminal import format_percent

    keys = ("top1", "top5", "nme_top1", "old", "new", "average_incremental_accuracy", "forgetting")
    several = len(records[-1]["views"]) > 1
    columns = ["phase", "classes", *(["view"] if several else [])]
    columns += ["top-1", "top-5", "nearest mean", "old", "new", "average", "forgetting"]
    rows = [
        [
            str(record["phase"] + 1),
            str(record["classes"]),
            *([view] if several else []),
            *(format_percent(figures[key]) for key in keys),
        ]
        for record in records
        for view, figures in record["views"].items()
    ]
    return columns, rows


def memory_table(records: Sequence[Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows, a row for each phase."""
    rows = [
        [
            str(record["phase"] + 1),
            f"{record['memory_bytes']:,}",
            str(record["memory_real"]),
            str(record["memory_prompt"]),
            f"{record['memory_units']:.1f}",
            f"{record['model_bytes']:,}",
        ]
        for record in records
    ]
    return ["phase", "bytes", "real", "prompts", "units", "model bytes"], rows


def _print_means(results: Sequence[RunResult]) -> None:
    from escort_cil.metrics import mean_and_deviation
    from escort_cli.terminal import print_table

    rows = []
    for key, name in (
        ("top1", "top-1 after the last phase"),
        ("average_incremental_accuracy", "average incremental accuracy"),
        ("nme_average_incremental_accuracy", "the same, nearest mean"),
        ("forgetting", "forgetting"),
    ):
        values = [result.records[-1][key] for result in results]
        if all(value is not None for value in values):
            mean, deviation = mean_and_deviation(values)
            rows.append([name, f"{mean:.2f}", f"{deviation:.2f}"])
    print_table(f"{len(results)} class orders", ("", "mean, %", "deviation"), rows)
