"""``escort decode``: the images, edge maps and files of an ``.escx`` file as a folder."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from escort_cli.files import OptionalFile, find_file
from escort_cli.flags import parse_settings, settings_as_flags, with_settings
from escort_codec.export.options import ExportOptions
from escort_codec.regenerate import DEFAULT
from escort_codec.regenerate.controlnet.options import ControlNetOptions
from escort_codec.settings import build, settings_of
from escort_codec.words import counted, listed

if TYPE_CHECKING:
    from escort_cli.terminal import Screen
    from escort_codec.container import Reader
    from escort_codec.export.plan import ExportPlan
    from escort_codec.export.tree import Outcome
    from escort_codec.processes import Processes
    from escort_codec.regenerate import Regenerator
    from escort_codec.store.urls import Place

ECHO: Final = 10.0
"""Seconds within which a launcher may repeat a signal to its processes."""

STAND_IN: Final = {DEFAULT: ", a stand-in that needs no weights (--regenerator controlnet is the paper's)"}

_FILES: Final = [each for each in settings_of(ExportOptions).values() if each.group]
_SETTINGS: Final = [
    *(each for each in settings_of(ControlNetOptions).values() if each.name != "workers"),
    *_FILES,
]
_FLAGS: Final = {"overwrite": "--force"}


@with_settings(_SETTINGS, _FLAGS)
def decode(
    ctx: typer.Context,
    file: OptionalFile = None,
    *,
    seeds: Annotated[
        str | None,
        typer.Option(help="0-4 or 0,2,7; plain: learned pictures themselves; none. FILE's own if left out."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write; FILE's name without .escx if left out.")
    ] = None,
    regenerator: Annotated[
        str,
        typer.Option(
            help="harmonic: a stand-in that needs no weights and no GPU. controlnet: Stable Diffusion with a Canny "
            "ControlNet, as in the paper."
        ),
    ] = DEFAULT,
    label: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="CLASS", help="Only this class; repeatable.", rich_help_panel="Files"),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this name or class/name, * and ? stand for other characters; repeatable.",
            rich_help_panel="Files",
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that make and save images; one per core.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting of the regenerator.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print warnings and errors only.")] = False,
    typed: dict[str, Any],
) -> None:
    """Make images of a file's prompts and learned pictures.

    Its real images are written unchanged.

    Writes DIR/<class>/<stem>_seed00.jpg ... at the source image's size, and DIR/manifest.jsonl, which says what each
    file was made of. Existing files are kept if they are what would be written; after Ctrl-C the same command
    continues. docs/regeneration.md has more flags for controlnet.
    """
    import escort_codec
    from escort_codec.regenerate import make_regenerator
    from escort_codec.seeds import parse_seeds
    from escort_codec.workers import usable_cores

    threads = usable_cores() if workers is None else workers
    word = (seeds or "").strip()
    no_images, plain = word == "none", word == "plain"
    files = {each.name: typed.pop(each.name) for each in _FILES if each.name in typed}
    options = replace(
        build(ExportOptions, {**files, "workers": threads}),
        seeds=None if seeds is None or no_images or plain else parse_seeds(seeds),
        plain=plain,
        images=not no_images,
        labels=tuple(label or ()),
        names=tuple(name or ()),
    )
    memory = find_file(file, quiet=quiet)
    target = _folder_of(memory) if out is None else out
    settings = {**parse_settings(set_ or []), **typed}
    with escort_codec.open(memory) as reader:
        if options.images:
            settings |= _consent(regenerator, settings, reader)
        with make_regenerator(regenerator, settings, workers=threads) as chosen:
            _run(ctx, reader, target, options, chosen, settings, as_json=as_json, quiet=quiet)


def _folder_of(file: Place) -> Path:
    """The default folder for the files of ``file``. Raises UsageError if it holds other files."""
    from escort_codec.errors import UsageError
    from escort_codec.names import MANIFEST, safe_part

    target = Path(safe_part(file.stem))
    if target.is_dir() and not (target / MANIFEST).is_file() and next(target.iterdir(), None) is not None:
        raise UsageError(f"the folder {target} holds other files: name a folder", setting="out")
    return target


def _consent(regenerator: str, settings: dict[str, Any], reader: Reader) -> dict[str, Any]:
    """Asks at a terminal whether to load the models that the file names; returns the setting that allows it.

    Without a terminal the regenerator refuses them.
    """
    from escort_cli.terminal import ask
    from escort_codec.errors import ModelError
    from escort_codec.regenerate import make_regenerator

    with make_regenerator(regenerator, settings) as asked:
        wanted = asked.wanted(reader.recipes)
    if not wanted:
        return {}
    question = f"{reader.path} names {listed(wanted)}, which anybody may have made. Load it?"
    answer = ask(question)
    if answer is False:
        raise ModelError("nothing was loaded")
    return {"trust_recipe": True} if answer else {}


@dataclass(slots=True)
class Share:
    """The result of a plan, or of the share of one process. ``seconds``: see ``Regenerator.seconds``."""

    outcome: Outcome
    interrupted: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


def _run(
    ctx: typer.Context,
    reader: Reader,
    target: Path,
    options: ExportOptions,
    regenerator: Regenerator,
    settings: dict[str, Any],
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Writes the missing files and prints a summary; raises typer.Exit for an exit code other than 0.

    Under ``torchrun`` or ``accelerate launch`` the first process plans, each makes its share, and the first waits for
    all and prints the summary.
    """
    from escort_cli.terminal import terminal
    from escort_codec.errors import EscortError, UsageError
    from escort_codec.export.plan import make_plan
    from escort_codec.export.tree import prepare_tree
    from escort_codec.processes import launched
    from escort_codec.ray_engine import parse_engine
    from escort_codec.workers import EXIT_CODE

    def plan_files() -> ExportPlan:
        if parse_engine(options.engine) is not None and processes.several:
            raise UsageError("Ray starts the workers: run one process", setting="engine", value=options.engine)
        maker = regenerator if options.images else None
        made = make_plan(reader, target, options, maker, world=processes.world)
        made.notes = [settings_as_flags(note, ctx.command) for note in made.notes]
        if made.missing.images:
            regenerator.check(reader.recipes)
        if made.missing.files:
            prepare_tree(target)
        return made

    with launched() as processes, terminal(quiet=quiet, plain=processes.several) as screen:
        try:
            plan = processes.from_first(plan_files)
        except EscortError as exc:
            if processes.first:
                raise
            raise typer.Exit(exc.exit_code) from None
        share = _make(reader, target, plan, options, regenerator, settings, processes, screen, quiet=quiet)
    if not processes.first:
        return
    _print(target, plan, share, regenerator.name, as_json=as_json, quiet=quiet)
    if share.interrupted:
        raise typer.Exit(EXIT_CODE)
    if share.outcome.failed or plan.failed:
        raise typer.Exit(1)


def _make(
    reader: Reader,
    target: Path,
    plan: ExportPlan,
    options: ExportOptions,
    regenerator: Regenerator,
    settings: dict[str, Any],
    processes: Processes,
    screen: Screen,
    *,
    quiet: bool,
) -> Share:
    """Makes this process's share; returns the sum of all shares in the first process."""
    from escort_codec.export.tree import Outcome, prepare_tree, write_tree
    from escort_codec.ray_engine import parse_engine
    from escort_codec.workers import ended_by_signals

    what = f"decode {processes.rank + 1}/{processes.world}" if processes.several else "decode"
    if processes.first:
        for line in [*([] if quiet else plan.notes), *plan.failures]:
            screen.print(line)
    if not plan.missing.files:
        return Share(Outcome())
    if processes.first and not quiet:
        if plan.missing.images:
            screen.print(f"regenerator: {regenerator.name}{STAND_IN.get(regenerator.name, '')}")
        screen.print(f"to write: {plan.missing}")
    stop = threading.Event()

    def end() -> None:
        stop.set()
        regenerator.stop()
        screen.print(f"{what}: ending after the images in flight; interrupt again to end at once")

    screen.begin(what, plan.shares[processes.rank], unit="files")
    with ended_by_signals(end, grace=ECHO if processes.several else 0.0) as signals:
        if parse_engine(options.engine) is None:
            maker = regenerator if plan.missing.images else None
            rank = processes.rank
            outcome = write_tree(reader, target, plan, maker, options, rank=rank, progress=screen, stop=stop)
        else:
            from escort_codec.export.ray_tree import ClusterWork, write_tree_with_ray

            work = ClusterWork(regenerator.name, settings)
            outcome = write_tree_with_ray(reader, target, plan, regenerator, options, work, progress=screen, stop=stop)
        screen.end()
        shares = processes.gather(Share(outcome, signals.asked, regenerator.seconds))
    if processes.several and processes.first:
        prepare_tree(target)  # merges the manifest's parts
    total = Share(Outcome())
    for share in shares:
        total.interrupted |= share.interrupted
        total.outcome.add(share.outcome)
        for name, seconds in share.seconds.items():  # processes run in parallel
            total.seconds[name] = max(total.seconds.get(name, 0.0), seconds)
    return total


def _print(target: Path, plan: ExportPlan, share: Share, regenerator: str, *, as_json: bool, quiet: bool) -> None:
    from escort_cli.terminal import print_json, print_line

    outcome = share.outcome
    failed = outcome.failed + plan.failed
    if as_json:
        values = {
            "out": str(target),
            "exemplars": plan.exemplars,
            "regenerator": regenerator,
            "images": outcome.images,
            "edge_maps": outcome.edges,
            "real": outcome.real,
            "learned_pictures": outcome.latent,
            "skipped": plan.skipped,
            "failed": failed,
            "ended_early": share.interrupted,
        }
        values |= {f"{name}_s": round(seconds, 3) for name, seconds in share.seconds.items()}
        print_json(values)
    elif not quiet:
        made = [f"{counted(outcome.images, 'image')} made"] if outcome.images or not outcome.latent else []
        made += [counted(outcome.edges, "edge map")] if outcome.edges else []
        made += [f"{counted(outcome.real, 'real image')} copied"] if outcome.real else []
        made += [counted(outcome.latent, "learned picture")] if outcome.latent else []
        made += [f"{counted(plan.skipped, 'file')} existed"] if plan.skipped else []
        made += [f"{failed:,} failed"] if failed else []
        made += [f"{name.replace('_', '-')} {seconds:.1f} s" for name, seconds in share.seconds.items() if seconds]
        early = "; ended early: the same command continues" if share.interrupted else ""
        print_line(f"{target}: {', '.join(made)}{early}")
