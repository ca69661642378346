"""``escort train``: class-incremental training with a memory of a fixed size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from escort_cil.run.settings import TrainConfig


def train(
    data: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="Folder with train/ and test/, or class folders.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="OUT.escx", help="A file of `escort encode`: prompts come from it, and DATA.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="icarl (default), wa, der, memo, replay, finetune or joint.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="The run folder; runs/<name> if left out.")] = None,
    init_cls: Annotated[int | None, typer.Option(help="Classes of the first phase; INCREMENT if left out.")] = None,
    increment: Annotated[int | None, typer.Option(help="Classes of each later phase; a fifth of all.")] = None,
    seed: Annotated[
        list[str] | None, typer.Option(help="Seed of the class order (1993); several: 1993,7 give a run each.")
    ] = None,
    model_seed: Annotated[int | None, typer.Option(help="Seed of weights, batches and augmentation (1).")] = None,
    class_order: Annotated[Path | None, typer.Option(metavar="FILE", help="The class order: a label a line.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="resnet18 (default), 34, 50; resnet32 for 32 pixels; resnet10 for a CPU.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels of the network's images (224).")] = None,
    transform: Annotated[
        str | None, typer.Option(help="large: the paper's (from 128 pixels); small: PyCIL's for CIFAR.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of every phase; the method's milestones move in proportion.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of every phase.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images an optimiser step.")] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Bytes of the memory file in all: 200KB (of 1000), 2MiB.")
    ] = None,
    budget_per_class: Annotated[
        str | None, typer.Option(metavar="BYTES", help="The same for each class so far.")
    ] = None,
    memory_per_class: Annotated[float | None, typer.Option(help="The paper's units a class: a prompt is 1/24.")] = None,
    memory_size: Annotated[float | None, typer.Option(help="The paper's units for all classes.")] = None,
    real_per_class: Annotated[int | None, typer.Option(help="Real exemplars a class, at most.")] = None,
    syn_per_class: Annotated[int | None, typer.Option(help="Prompts a class, at most.")] = None,
    mix: Annotated[
        str | None, typer.Option(help="Shares of the bytes, real=0.3,prompt=0.7, or counts, real=18,prompt=48.")
    ] = None,
    real: Annotated[
        str | None, typer.Option(help="What a real exemplar is: original, or webp:SIDE:QUALITY (webp:64:20).")
    ] = None,
    selection: Annotated[str | None, typer.Option(help="herding (default) or random.")] = None,
    hint: Annotated[int | None, typer.Option(help="Colour hint of prompts in pixels; 0: none.")] = None,
    regenerator: Annotated[
        str | None, typer.Option(help="harmonic (default; a stand-in that needs no weights) or controlnet.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds of the copies; those of OUT.escx, or 0-4.")] = None,
    exemplars: Annotated[
        str | None, typer.Option(metavar="DIR", help="Copies that `escort decode` wrote; missing ones are made.")
    ] = None,
    cache: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where made copies are kept; RUN/cache if left out.")
    ] = None,
    augmentation_prob: Annotated[
        float | None, typer.Option(help="Probability that an image is shown as a copy (0.5 with prompts).")
    ] = None,
    augmentations_per_image: Annotated[int | None, typer.Option(help="Copies an image; one a seed.")] = None,
    eval_views: Annotated[str | None, typer.Option(help="real (default), regenerated, or both.")] = None,
    memory_only: Annotated[
        bool | None, typer.Option("--memory-only", help="Train on the memory alone, chosen at random.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto (default), cpu, cuda or cuda:1.")] = None,
    mixed_precision: Annotated[str | None, typer.Option(help="no (default), bf16 or fp16.")] = None,
    gradient_accumulation: Annotated[int | None, typer.Option(help="Parts that a batch is computed in.")] = None,
    cache_memory: Annotated[
        str | None,
        typer.Option(metavar="BYTES", help="Decoded images in memory (half of the machine's); the rest on disk."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that decode and encode; one a core.")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Epochs between checkpoints (10).")] = None,
    track: Annotated[list[str] | None, typer.Option(help="tensorboard or wandb: follow the figures there.")] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON with the paper's, PyCIL's or a run's keys.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key: method.temperature=2, blur=1.5.")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the configuration as JSON and stop.")
    ] = False,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped.")] = None,
    continue_: Annotated[
        Path | None,
        typer.Option("--continue", metavar="RUN", help="Go on from a finished run with DATA's new classes."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a run that is there.")] = False,
) -> None:
    """Learn classes phase by phase, remembering old ones in a file of a fixed size.

    The command line beats --config. RUN gets config.json, metrics.jsonl, memory.escx and model.safetensors.
    """
    from escort_cil.bytes import parse_bytes
    from escort_codec.seeds import parse_seeds

    given: dict[str, Any] = {
        "data": data,
        "prompts": memory,
        "method": method,
        "init_cls": init_cls,
        "increment": increment,
        "model_seed": model_seed,
        "backbone": backbone,
        "image_size": image_size,
        "transform": transform,
        "epochs": epochs,
        "lr": lr,
        "batch_size": batch_size,
        "budget": None if budget is None else parse_bytes(budget),
        "budget_per_class": None if budget_per_class is None else parse_bytes(budget_per_class),
        "memory_per_class": memory_per_class,
        "memory_size": memory_size,
        "real_per_class": real_per_class,
        "syn_per_class": syn_per_class,
        "mix": mix,
        "real": real,
        "selection": selection,
        "hint": hint,
        "regenerator": regenerator,
        "seeds": None if seeds is None else parse_seeds(seeds),
        "exemplars": exemplars,
        "cache": cache,
        "augmentation_prob": augmentation_prob,
        "augmentations_per_image": augmentations_per_image,
        "eval_views": eval_views,
        "memory_only": memory_only,
        "device": device,
        "mixed_precision": mixed_precision,
        "gradient_accumulation": gradient_accumulation,
        "cache_memory": None if cache_memory is None else parse_bytes(cache_memory),
        "workers": workers,
        "checkpoint_every": checkpoint_every,
        "track": tuple(track) if track else None,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if class_order is not None:
        given["class_order"] = _labels(class_order)
    _run(given, seed, set_ or [], config, out, resume, continue_, print_config=print_config, force=force)


def _run(
    given: dict[str, Any],
    seed: list[str] | None,
    settings: list[str],
    file: Path | None,
    out: Path | None,
    resume: Path | None,
    goes_on: Path | None,
    *,
    print_config: bool,
    force: bool,
) -> None:
    from escort_cil.run.command import configure, parse_settings, train_seeds
    from escort_codec.errors import UsageError

    if resume is not None and (out is not None or force):
        raise UsageError("--resume names the run folder: leave --out and --force out")
    if resume is not None and goes_on is not None:
        raise UsageError("--resume and --continue are two things: a run that was stopped, and one that is finished")
    config, seeds, notes = configure(
        given, parse_settings(settings), file=file, resume=resume, goes_on=goes_on, seeds=_order_seeds(seed)
    )
    if print_config:
        _print_config(config, seeds)
        return
    from escort_cli.train_view import print_results, shown

    with shown() as view:
        for note in notes:
            view.say(note)
        results = train_seeds(
            config, seeds, out=resume or out, report=view.report, force=force, resume=resume is not None
        )
    print_results(results)


def _order_seeds(texts: list[str] | None) -> tuple[int, ...]:
    from escort_codec.seeds import parse_seeds

    seeds: list[int] = []
    for text in texts or []:  # in the order typed: parse_seeds sorts each part
        for part in text.split(","):
            seeds += parse_seeds(part)
    return tuple(dict.fromkeys(seeds))


def _labels(path: Path) -> tuple[str, ...]:
    from escort_cil.data.protocol import read_labels

    return read_labels(path)


def _print_config(config: TrainConfig, seeds: tuple[int, ...]) -> None:
    import json
    from dataclasses import asdict

    values = config.to_map() | {"method_options": asdict(config.hyperparameters())}
    if len(seeds) > 1:
        values["seed"] = list(seeds)
    print(json.dumps(values, indent=2, ensure_ascii=False))
