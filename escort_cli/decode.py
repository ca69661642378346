"""``escort decode``: the images, edge maps and files of an ``.escx`` file as a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from escort_cli.progress import Progress
    from escort_codec.regenerate.output import Outcome
    from escort_codec.regenerate.plan import Plan

_PART = "Which part"
_MODEL = "For --regenerator controlnet"
SHOWN = 20  # failures that are printed one by one


def decode(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .escx file.")],
    seeds: Annotated[
        str | None,
        typer.Option(
            help="0-4, 0,2,7 or 0-2,10; none: no images. Left out: those that FILE records.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write; left out: FILE's name without .escx, here.", show_default=False),
    ] = None,
    image_format: Annotated[str, typer.Option("--format", help="jpg, png or webp.")] = "jpg",
    quality: Annotated[
        int | None, typer.Option(help="1 to 100; left out: 95 for jpg, 90 for webp.", show_default=False)
    ] = None,
    edges: Annotated[bool, typer.Option("--edges", help="Write the edge maps too, as 1-bit PNG.")] = False,
    label: Annotated[
        list[str] | None,
        typer.Option("--class", help="Only this class; may be repeated.", rich_help_panel=_PART, show_default=False),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="Only exemplars of this name or class/name, * and ? allowed; may be repeated.",
            rich_help_panel=_PART,
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="At most so many exemplars, the first ones.", rich_help_panel=_PART, show_default=False),
    ] = None,
    regenerator: Annotated[
        str,
        typer.Option(
            help="harmonic: a stand-in that needs no weights and no GPU, the colour hint spread inside the edges; "
            "controlnet: Stable Diffusion with a Canny ControlNet, the paper's. Never one in place of the other."
        ),
    ] = "harmonic",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make again what is there.")] = False,
    workers: Annotated[
        int | None, typer.Option(help="Threads that make and save images; left out: one a core.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no summary; errors only.")] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 ...", rich_help_panel=_MODEL, show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Hub id, id@revision, folder or file.", rich_help_panel=_MODEL, show_default=False),
    ] = None,
    controlnet: Annotated[
        str | None, typer.Option(help="Hub id, id@revision or folder.", rich_help_panel=_MODEL, show_default=False)
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="auto, fp32, bf16 or fp16.", rich_help_panel=_MODEL, show_default=False)
    ] = None,
    batch_size: Annotated[
        str, typer.Option(help="Images at once, or auto: as many as fit.", rich_help_panel=_MODEL)
    ] = "auto",
    steps: Annotated[
        int | None, typer.Option(help="Denoising steps.", rich_help_panel=_MODEL, show_default=False)
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Classifier-free guidance.", rich_help_panel=_MODEL, show_default=False)
    ] = None,
    control_strength: Annotated[
        float | None, typer.Option(help="Weight of the edge map.", rich_help_panel=_MODEL, show_default=False)
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="ddim, unipc or dpm++.", rich_help_panel=_MODEL, show_default=False)
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Shorter side of the generation.", rich_help_panel=_MODEL, show_default=False)
    ] = None,
    prompt_suffix: Annotated[
        str | None, typer.Option(help="Added to every prompt.", rich_help_panel=_MODEL, show_default=False)
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="What not to show.", rich_help_panel=_MODEL, show_default=False)
    ] = None,
    use_hint: Annotated[
        bool, typer.Option("--use-hint", help="Start from the colour hint (not in the paper).", rich_help_panel=_MODEL)
    ] = False,
    hint_strength: Annotated[
        float | None,
        typer.Option(help="How far from the hint, 0 to 1.", rich_help_panel=_MODEL, show_default=False),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Few steps, less fidelity.", rich_help_panel=_MODEL)] = False,
    compile_model: Annotated[
        bool, typer.Option("--compile", help="torch.compile the model first.", rich_help_panel=_MODEL)
    ] = False,
) -> None:
    """Write the images that a file's prompts stand for, and its real images as they are.

    DIR/<class>/<stem>_seed00.jpg ... at the source image's size, and DIR/manifest.jsonl, which says what each was made
    of. What is there already is not made again; after Ctrl-C the same command goes on.
    """
    import escort_codec
    from escort_codec.errors import UsageError
    from escort_codec.regenerate import Options, regenerators
    from escort_codec.regenerate.output import Saving
    from escort_codec.regenerate.plan import Choice, make_plan
    from escort_codec.seeds import parse_seeds
    from escort_codec.workers import usable_cores

    if batch_size != "auto" and not (batch_size.isascii() and batch_size.isdigit()):
        raise UsageError(f"--batch-size {batch_size}: write a number or auto")
    threads = usable_cores() if workers is None else workers
    saving = Saving(image_format, quality, threads)
    none = seeds is not None and seeds.strip() == "none"
    choice = Choice(
        seeds=None if seeds is None or none else parse_seeds(seeds),
        images=not none,
        edges=edges,
        labels=tuple(label or ()),
        names=tuple(name or ()),
        limit=limit,
        format=image_format,
        overwrite=overwrite,
    )
    options = Options(
        device=device,
        workers=threads,
        prompt_suffix=prompt_suffix,
        negative_prompt=negative_prompt,
        steps=steps,
        guidance=guidance,
        control_strength=control_strength,
        scheduler=scheduler,
        resolution=resolution,
        use_hint=use_hint,
        hint_strength=hint_strength,
        fast=fast,
        model=model,
        controlnet=controlnet,
        dtype=dtype,
        batch_size=None if batch_size == "auto" else int(batch_size),
        compile=compile_model,
    )
    target = Path(file.stem) if out is None else out
    with escort_codec.open(file) as reader, regenerators.get(regenerator)(options) as chosen:
        plan = make_plan(reader, target, choice, chosen if choice.images else None)
        outcome, asked = _make(reader, target, plan, chosen, saving, quiet=quiet)
    failed = outcome.failed + len(plan.failures)
    _print(target, plan, outcome, regenerator, as_json=json, quiet=quiet, ended=asked)
    if asked:
        from escort_codec.interrupts import EXIT_CODE

        raise typer.Exit(EXIT_CODE)
    if failed:
        raise typer.Exit(1)


def _make(reader: Any, target: Path, plan: Plan, chosen: Any, saving: Any, *, quiet: bool) -> tuple[Outcome, bool]:
    """Writes what is missing; (what became of it, whether a signal asked for the end)."""
    import threading

    from escort_cli.progress import progress
    from escort_codec.interrupts import ended_by_signals
    from escort_codec.regenerate.output import Outcome, Watch, prepare_tree, write_tree

    wants_images = any(task.kind == "image" for task in plan.tasks)
    with progress("decode", len(plan.tasks), quiet=quiet or not plan.tasks) as shown:
        for line in plan.notes:
            if not quiet:
                shown.say(line)
        for line in plan.failures:
            shown.say(line)
        if not plan.tasks:
            return Outcome(), False
        if wants_images and not quiet:
            shown.say(f"regenerator: {chosen.name}{_SAID.get(chosen.name, '')}")
        stop = threading.Event()

        def end() -> None:
            stop.set()
            chosen.stop()
            shown.say("ending after the images in flight; once more ends at once")

        watch = Watch(shown.advance, _Failures(shown), stop)
        with ended_by_signals(end) as signals:
            prepare_tree(target)
            outcome = write_tree(reader, target, plan.tasks, chosen if wants_images else None, saving, watch=watch)
        return outcome, signals.asked


_SAID = {"harmonic": ", a stand-in that needs no weights (--regenerator controlnet is the paper's)"}


class _Failures:
    """Prints the first failures, and says once that there are more."""

    def __init__(self, shown: Progress) -> None:
        self._shown, self._count = shown, 0

    def __call__(self, line: str) -> None:
        self._count += 1
        if self._count <= SHOWN:
            self._shown.say(line)
        elif self._count == SHOWN + 1:
            self._shown.say("more fail; the summary has their number")


def _print(
    target: Path, plan: Plan, outcome: Outcome, regenerator: str, *, as_json: bool, quiet: bool, ended: bool
) -> None:
    import json

    failed = outcome.failed + len(plan.failures)
    if as_json:
        values = {
            "out": str(target),
            "exemplars": plan.exemplars,
            "regenerator": regenerator,
            "images": outcome.images,
            "edge_maps": outcome.edges,
            "real": outcome.real,
            "skipped": plan.skipped,
            "failed": failed,
            "ended_early": ended,
        }
        print(json.dumps(values, indent=2))
    elif not quiet:
        made = [f"{outcome.images:,} images made"]
        made += [f"{outcome.edges:,} edge maps"] if outcome.edges else []
        made += [f"{outcome.real:,} real images copied"] if outcome.real else []
        made += [f"{plan.skipped:,} files were there"] if plan.skipped else []
        made += [f"{failed:,} failed"] if failed else []
        print(f"{target}: {', '.join(made)}" + ("; ended early: the same command goes on" if ended else ""))
