"""The commands that inspect ``.escx`` files, and that merge, split, extract and recover them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from escort_codec.store.urls import Place, place, size_of
from escort_codec.words import counted, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from escort_codec.container.measure import FileSizes
    from escort_codec.recipe import EdgeSettings

File = Annotated[str, typer.Argument(metavar="FILE", help="An .escx file, or its URL.")]
OptionalFile = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE",
        help="An .escx file, a folder or pattern of its parts, or a URL; the only file of this folder if left out.",
        show_default=False,
    ),
]
Out = Annotated[str, typer.Option("--out", metavar="OUT.escx", help="The file to write, or its URL.")]
Overwrite = Annotated[bool, typer.Option("--force", help="Replace existing files.")]

MOST_SETTINGS: Final = 3
"""The most settings of edge maps that are listed one by one."""
EMPTY: Final = 0xFFFF
"""The shortest contour that rate control records if none fits."""


def find_file(file: str | None, *, quiet: bool = False) -> Place:
    """``file`` as a path or URL, or else the only .escx file here, with a line on stderr. Raises UsageError."""
    from escort_cli.terminal import print_line
    from escort_codec.errors import UsageError

    if file is not None:
        return place(file)
    here = sorted(path for path in Path().iterdir() if path.suffix.lower() == ".escx" and path.is_file())
    here = [path for path in here if not path.name.startswith(".")]
    if len(here) != 1:
        found = f"there are {len(here)} .escx files here: name one of {listed([each.name for each in here], 9)}"
        raise UsageError(found if here else "there is no .escx file in this folder: name one", setting="file")
    if not quiet:
        print_line(f"FILE is {here[0]}, the only .escx file here", error=True)
    return here[0]


def inspect(
    file: OptionalFile = None,
    classes: Annotated[bool, typer.Option("--classes", help="List the classes with their counts.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show what is in a file and what its bytes are spent on."""
    import escort_codec
    from escort_cli.terminal import format_bytes, print_facts, print_json, print_table
    from escort_codec.container.measure import measure_file
    from escort_codec.seeds import format_seeds

    memory = find_file(file)
    with escort_codec.open(memory) as reader:
        sizes = measure_file(reader)
        labels = reader.labels
        settings = sorted(sizes.settings, key=str)
        recipes = [recipe.to_map() for recipe in reader.recipes]
        version, seeds, head = reader.version, reader.seeds, reader.state.head
    if json:
        values = {
            "file": str(memory),
            "version": version,
            "writer": head.writer,
            "source": head.source,
            "background": head.background,
            "recipes": recipes,
            "edges": [each.to_map() for each in settings],
            "seeds": list(seeds),
            "classes": labels,
            "sizes": sizes.to_map(),
        }
        print_json(values)
        return
    facts = [
        ("version", f"{version}, written by {head.writer or 'an unnamed program'}"),
        ("data folder", head.source or "-"),
        ("background", head.background or "-"),
        ("presets", ", ".join(dict.fromkeys(str(r["preset"]) for r in recipes)) or "-"),
        *((f"recipe {n}", ", ".join(f"{k}={v}" for k, v in r.items())) for n, r in enumerate(recipes)),
        ("edge maps", _edges_text(settings, sizes.map_sides)),
        ("seeds", format_seeds(seeds) or "-"),
        ("classes", f"{sizes.classes:,}"),
        (
            "exemplars",
            f"{sizes.exemplars:,} ({sizes.prompts:,} prompts, {sizes.real:,} real, {sizes.latents:,} latent)",
        ),
        ("codings", ", ".join(f"{k}: {v:,}" for k, v in sizes.codings.items()) or "-"),
    ]
    print_facts(facts)
    rows = [
        ("file", format_bytes(sizes.file_bytes), ""),
        ("  per exemplar", f"{sizes.bytes_per_exemplar:,.1f} B", ""),
        *rows_by_use(sizes),
        *bits_row(sizes),
    ]
    print_table(str(memory), ("", "", ""), rows)
    if classes:
        print_table("Classes", ("class", "exemplars"), [(label, f"{count:,}") for label, count in labels.items()])


def _edges_text(settings: Sequence[EdgeSettings], sides: tuple[int, int]) -> str:
    """How the edge maps of a file were made; ranges where rate control chose it for each image."""
    if len(settings) <= MOST_SETTINGS:
        return "; ".join(each.describe() for each in settings) or "-"

    def span(values: Sequence[float]) -> str:
        low, high = min(values), max(values)
        return f"{low:g}" if low == high else f"{low:g} to {high:g}"

    contours = [each.min_contour for each in settings if each.min_contour < EMPTY]
    return (
        f"Canny {span([each.low for each in settings])}/{span([each.high for each in settings])}, blur "
        f"{span([each.blur for each in settings])}, contours of at least {span(contours or [EMPTY])}, shorter side "
        f"{span(sides)} pixels: {len(settings):,} settings"
    )


def rows_by_use(sizes: FileSizes) -> list[tuple[str, str, str]]:
    """Table rows: what the bytes of a file are spent on, and the shares."""
    from escort_cli.terminal import format_bytes, format_share

    uses = [("edge maps", sizes.edge_bytes), ("hints", sizes.hint_bytes)] if sizes.prompts else []
    uses += [("real images", sizes.image_bytes)] if sizes.image_bytes else []
    uses += [("latents", sizes.latent_bytes)] if sizes.latent_bytes else []
    uses += [("text", sizes.text_bytes), ("everything else", sizes.other_bytes)]
    return [(f"  {use}", format_bytes(count), format_share(count, sizes.file_bytes)) for use, count in uses]


def bits_row(sizes: FileSizes) -> list[tuple[str, str, str]]:
    """The table row of bits per pixel, if there are edge maps."""
    return [("bits per pixel of an edge map", f"{sizes.bits_per_pixel:.4f}", "")] if sizes.map_pixels else []


def verify(file: OptionalFile = None) -> None:
    """Check every byte of a file.

    Checksums, places, lengths, names, edge maps and hints. Exit code 1 names the first fault.
    """
    from escort_cli.terminal import print_line, terminal
    from escort_codec.container.verify import verify

    memory = find_file(file)
    with terminal():
        verdict = verify(memory)
    if verdict.fault:
        error = verdict.kind(verdict.fault)
        error.path = verdict.path
        raise error
    held = f"{counted(verdict.exemplars, 'exemplar')} in {counted(verdict.blocks, 'block')}"
    print_line(f"{memory}: {held}, {verdict.size:,} bytes, no faults")
    if verdict.note:
        print_line(f"{memory}: {verdict.note}")


def recover(
    bad: Annotated[Path, typer.Argument(metavar="BAD.escx", help="The damaged file; it is only read.")],
    good: Annotated[Path, typer.Argument(metavar="GOOD.escx", help="The new file.")],
    overwrite: Overwrite = False,
) -> None:
    """Save what is whole of a damaged or unfinished file.

    Lists what was lost.
    """
    from escort_cli.terminal import print_line
    from escort_codec.container.parts import recover

    recovery = recover(bad, good, overwrite=overwrite)
    for line in recovery.lost:
        print_line(f"lost: {line}")
    print_line(f"{good}: {counted(recovery.saved, 'exemplar')} saved" + ("" if recovery.lost else "; nothing was lost"))


def merge(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="The files to merge, or their URLs.")],
    out: Out,
    keep_recipes: Annotated[
        bool, typer.Option("--keep-recipes", help="Merge files of different presets or recipes; each keeps its own.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Merge files without decoding them.

    The shards of one encoding give the file of a single run.
    """
    from escort_cli.terminal import print_line
    from escort_codec.container.parts import merge

    count = merge(files, out, keep_recipes=keep_recipes, overwrite=overwrite)
    held = f"{counted(count, 'exemplar')} of {counted(len(files), 'file')}"
    print_line(f"{place(out)}: {held}, {size_of(place(out)):,} bytes")


def split(
    file: File,
    parts: Annotated[int | None, typer.Option(help="Split into this many parts of equal length.")] = None,
    by_class: Annotated[bool, typer.Option("--by-class", help="Split into one file per class.")] = False,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the new files.")] = Path(),
    overwrite: Overwrite = False,
) -> None:
    """Split a file into equal parts, or into a file per class.

    ``escort merge`` joins them again.
    """
    from escort_cli.terminal import print_line
    from escort_codec.container.parts import split

    for path in split(file, out, parts=parts, by_class=by_class, overwrite=overwrite):
        print_line(f"{path}: {path.stat().st_size:,} bytes")


def extract(
    file: OptionalFile = None,
    *,
    out: Out,
    label: Annotated[list[str] | None, typer.Option("--class", metavar="X", help="A class; may be repeated.")] = None,
    name: Annotated[list[str] | None, typer.Option(metavar="CLASS/NAME", help="An exemplar; may be repeated.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Copy some classes or exemplars into a new file."""
    from escort_cli.terminal import print_line
    from escort_codec.container.parts import extract

    memory = find_file(file)
    count = extract(memory, out, labels=label or (), names=name or (), overwrite=overwrite)
    print_line(f"{place(out)}: {counted(count, 'exemplar')}, {size_of(place(out)):,} bytes")
