"""``escort encode``: a data folder into an ``.escx`` file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from escort_cli.flags import with_settings
from escort_codec.recipe import EdgeSettings, EncodeOptions
from escort_codec.settings import build, settings_of
from escort_codec.store.urls import Place, place
from escort_codec.words import counted

if TYPE_CHECKING:
    from escort_codec.container.measure import FileSizes
    from escort_codec.encode.folder import EncodeReport

_EDGES: Final = settings_of(EdgeSettings)
_SETTINGS: Final = [
    replace(each, shown=True)
    for each in (*settings_of(EncodeOptions).values(), *_EDGES.values())
    if each.name not in ("settings", "shard")
]
_FLAGS: Final = {"low": "--canny-low", "high": "--canny-high", "overwrite": "--force", "kind": "--as"}


@with_settings(_SETTINGS, _FLAGS)
def encode(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="Folder, or its URL: DATA/train/<class>/<image> or DATA/<class>/<image>."),
    ],
    out: Annotated[str, typer.Argument(metavar="OUT.escx", help="The file to write, or its URL.")],
    *,
    typed: dict[str, Any],
    shard: Annotated[str | None, typer.Option(metavar="K/N", help="Encode only the K-th of N parts of DATA.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the sizes as JSON.")] = False,
) -> None:
    """Turn a folder of images into a file of exemplars.

    By default these are prompts: edge maps, class tags, colour hints.

    A caption is taken from <stem>.txt beside the image or from metadata.jsonl or metadata.csv;
    else the prompt is the class name.
    """
    import warnings

    from escort_cli.terminal import terminal
    from escort_codec.encode.folder import encode_folder

    edges = build(EdgeSettings, {name: typed.pop(name) for name in _EDGES if name in typed})
    options = build(EncodeOptions, typed)
    options = replace(options, settings=edges, shard=_parse_shard(shard))
    # Pillow warns of very large images on its own; the cap has its own error.
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
    with terminal() as progress:
        report = encode_folder(data, out, options, progress=progress)
    _print(place(out), report, as_json=json)


def _parse_shard(text: str | None) -> tuple[int, int] | None:
    from escort_codec.errors import UsageError

    if text is None:
        return None
    k, _, n = text.partition("/")
    if not (k.isascii() and k.isdigit() and n.isascii() and n.isdigit()):
        raise UsageError("write 3/16 for the third of sixteen parts", setting="shard", value=text)
    return int(k), int(n)


def _print(out: Place, report: EncodeReport, *, as_json: bool) -> None:
    import escort_codec
    from escort_cli.terminal import print_json
    from escort_codec.container.measure import measure_file

    with escort_codec.open(out) as reader:
        sizes = measure_file(reader)
    source = report.source_bytes if not report.resumed else None  # a resumed run did not read the earlier files
    if as_json:
        values = sizes.to_map() | {
            "out": str(out),
            "source_bytes": source,
            "one_in_source": source / sizes.file_bytes if source else None,
            "one_in_rgb": sizes.rgb_bytes / sizes.file_bytes,
            "resumed": report.resumed,
            "skipped": report.skipped,
            "left_out": report.left_out,
            "most_bytes_per_exemplar": report.bytes_per_exemplar,
            "seconds": round(report.seconds, 3),
        }
        print_json(values)
    else:
        print_sizes(out, report, sizes, source)


def print_sizes(out: Place, report: EncodeReport, sizes: FileSizes, source: int | None) -> None:
    """Prints the table of sizes. ``source``: bytes of the source files, or None if they were not all read."""
    from escort_cli.files import bits_row, rows_by_use
    from escort_cli.terminal import format_bytes, format_ratio, print_line, print_table

    total = sizes.file_bytes
    rows = [
        ("exemplars", f"{sizes.exemplars:,}", ""),
        ("classes", f"{sizes.classes:,}", ""),
        ("source files", "-" if source is None else format_bytes(source), format_ratio(total, source or 0)),
        ("their RGB pixels, 24 bit", format_bytes(sizes.rgb_bytes), format_ratio(total, sizes.rgb_bytes)),
        (str(out), format_bytes(total), ""),
        ("  per exemplar", f"{sizes.bytes_per_exemplar:,.1f} B", ""),
        *rows_by_use(sizes),
        *bits_row(sizes),
    ]
    print_table("Sizes", ("", "", "share, or one in"), rows)
    if report.left_out:
        print_line(f"{counted(report.left_out, 'image')} left out: they would keep less than --min-fidelity")
    if report.skipped:
        print_line(f"{counted(len(report.skipped), 'file')} skipped (named above)")
    if report.resumed:
        print_line(f"{counted(report.resumed, 'exemplar')} kept from an earlier run")
