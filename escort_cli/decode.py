"""``escort decode``: the images, edge maps and files of an ``.escx`` file as a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def decode(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .escx file.")],
    seeds: Annotated[
        str | None, typer.Option(help="0-4, 0,2,7 or 0-2,10; none: no images. Left out: those that FILE records.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write; left out: FILE's name without .escx, here.")
    ] = None,
    image_format: Annotated[str, typer.Option("--format", help="jpg, png or webp.")] = "jpg",
    quality: Annotated[int | None, typer.Option(help="1 to 100; left out: 95 for jpg, 90 for webp.")] = None,
    edges: Annotated[bool, typer.Option("--edges", help="Write the edge maps too, as 1-bit PNG.")] = False,
    label: Annotated[
        list[str] | None, typer.Option("--class", metavar="CLASS", help="Only this class; may be repeated.")
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this name or class/name, * and ? allowed; may be repeated."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many exemplars, the first ones.")] = None,
    regenerator: Annotated[
        str,
        typer.Option(
            help="harmonic: a stand-in that needs no weights and no GPU, the colour hint spread inside the edges. "
            "controlnet: Stable Diffusion with a Canny ControlNet, the paper's. Never one in place of the other."
        ),
    ] = "harmonic",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make again what is there.")] = False,
    workers: Annotated[
        int | None, typer.Option(help="Threads that make and save images; left out: one a core.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no summary; errors only.")] = False,
    device: Annotated[str | None, typer.Option(help="controlnet: cpu, cuda, cuda:1 ...")] = None,
    model: Annotated[str | None, typer.Option(help="controlnet: Hub id, id@revision, folder or file.")] = None,
    controlnet: Annotated[str | None, typer.Option(help="controlnet: Hub id, id@revision, folder or file.")] = None,
    dtype: Annotated[str | None, typer.Option(help="controlnet: auto, fp32, bf16 or fp16.")] = None,
    batch_size: Annotated[str, typer.Option(help="controlnet: images at once, or auto: as many as fit.")] = "auto",
    steps: Annotated[int | None, typer.Option(help="controlnet: denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="controlnet: classifier-free guidance.")] = None,
    control_strength: Annotated[float | None, typer.Option(help="controlnet: weight of the edge map.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="controlnet: ddim, unipc or dpm++.")] = None,
    resolution: Annotated[int | None, typer.Option(help="controlnet: shorter side of the generation.")] = None,
    prompt_suffix: Annotated[str | None, typer.Option(help="controlnet: added to every prompt.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="controlnet: what not to show.")] = None,
    use_hint: Annotated[
        bool, typer.Option("--use-hint", help="controlnet: start from the colour hint (not in the paper).")
    ] = False,
    hint_strength: Annotated[float | None, typer.Option(help="controlnet: how far from the hint, 0 to 1.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="controlnet: few steps, less fidelity.")] = False,
    compile_model: Annotated[
        bool, typer.Option("--compile", help="controlnet: torch.compile the model first.")
    ] = False,
) -> None:
    """Write the images that a file's prompts stand for, and its real images as they are.

    DIR/<class>/<stem>_seed00.jpg ... at the source image's size, and DIR/manifest.jsonl, which says what each was made
    of. What is there already is not made again; after Ctrl-C the same command goes on.
    """
    import escort_codec
    from escort_cli.decode_run import run
    from escort_codec.errors import UsageError
    from escort_codec.regenerate import Options, regenerators
    from escort_codec.regenerate.output import Saving
    from escort_codec.regenerate.plan import Choice
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
        run(reader, target, choice, chosen, saving, as_json=json, quiet=quiet)
