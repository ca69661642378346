"""``escort import``: other data as a plain data folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from escort_cli.flags import with_settings
from escort_codec.imports.item import ImportOptions
from escort_codec.settings import build, settings_of
from escort_codec.words import counted, listed

if TYPE_CHECKING:
    from escort_codec.imports.tree import ImportReport

_SETTINGS: Final = list(settings_of(ImportOptions).values())


@with_settings(_SETTINGS, {})
def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="hf:NAME[@revision], hf:./folder, .parquet, WebDataset .tar, .zip, .tar, or a folder of "
            "torchvision or PyCIL; a folder or pattern of shards.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The new folder.")],
    *,
    typed: dict[str, Any],
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Make a data folder of archives, parquet or Hugging Face data.

    It is DIR/train/<class>/<image>, with captions beside the images.

    Image files stay as they are. After Ctrl-C the same command continues. Next: escort encode DIR OUT.escx.
    """
    from escort_cli.terminal import print_json, terminal
    from escort_codec.imports.pipeline import import_data

    with terminal() as progress:
        report = import_data(source, out, build(ImportOptions, typed), progress=progress)
    if json:
        print_json(
            {
                "out": str(out),
                "written": report.written,
                "existed": report.existed,
                "splits": report.splits,
                "classes": report.classes,
                "captions": report.captions,
                "skipped": report.skipped,
            }
        )
    else:
        _print(out, report)


import_.__name__ = "import"  # the command's name, which is no name in Python


def _print(out: Path, report: ImportReport) -> None:
    from escort_cli.terminal import print_line

    splits = [f"{split}/ {counted(count, 'image')}" for split, count in report.splits.items()]
    facts = [listed(splits, 9), f"of {counted(report.classes, 'class')}"]
    facts += [f"{report.captions:,} with a caption"] if report.captions else []
    facts += [f"{report.existed:,} existed"] if report.existed else []
    facts += [f"{len(report.skipped):,} skipped (named above)"] if report.skipped else []
    print_line(f"{out}: {', '.join(facts)}")
    if report.renamed:
        print_line(f"{counted(report.renamed, 'name')} changed, to be safe on every system: {report.example}")
