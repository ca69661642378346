"""``escort encode``: a data folder into an ``.escx`` file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from escort_codec.encode import EncodeReport
    from escort_codec.measure import Sizes


def encode(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Folder: DATA/train/<class>/<image> or DATA/<class>/<image>.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.escx", help="The file to write.")],
    split: Annotated[str, typer.Option(help="Which folder of DATA is encoded, where it has several.")] = "train",
    preset: Annotated[
        str, typer.Option(help="hires: edges at the image's size; lowres: at the generation size.")
    ] = "hires",
    canny_low: Annotated[int, typer.Option(help="Canny's lower threshold.")] = 100,
    canny_high: Annotated[int, typer.Option(help="Canny's upper threshold.")] = 200,
    blur: Annotated[
        float, typer.Option(help="Sigma of a Gaussian before Canny, in pixels; with it maps are smaller.")
    ] = 0.0,
    min_contour: Annotated[int, typer.Option(help="Leave out contours of fewer pixels.")] = 0,
    seeds: Annotated[str, typer.Option(help="Seeds to record: 0-4, 0,2,7 or 0-2,10.")] = "0-4",
    hint: Annotated[int, typer.Option(help="Longer side of the colour hint in pixels; 0: none, as in the paper.")] = 32,
    hint_quality: Annotated[int, typer.Option(help="WebP quality of the hint, 0 to 100.")] = 20,
    coding: Annotated[str, typer.Option(help="Coding of the edge maps: context, rle or packed.")] = "context",
    workers: Annotated[int | None, typer.Option(help="Threads; one a core if left out.")] = None,
    on_error: Annotated[str, typer.Option(help="raise: stop at a bad image; skip: name it and go on.")] = "raise",
    max_pixels: Annotated[int | None, typer.Option(help="Largest image, in pixels (64 Mpixel if left out).")] = None,
    shard: Annotated[str | None, typer.Option(metavar="K/N", help="Encode only the K-th of N parts of DATA.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a killed run stopped.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing OUT.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the sizes as JSON.")] = False,
) -> None:
    """Turn a folder of images into a file of prompts: edge maps, class tags, colour hints.

    A caption is taken from <stem>.txt beside the image or from metadata.jsonl; else the prompt is the class name.
    """
    import warnings

    from escort_cli.terminal import terminal
    from escort_codec.encode import encode_folder
    from escort_codec.errors import UsageError
    from escort_codec.limits import MAX_PIXELS
    from escort_codec.options import EncodeOptions
    from escort_codec.recipe import EdgeSettings
    from escort_codec.seeds import parse_seeds

    if on_error not in ("raise", "skip"):
        raise UsageError("write raise or skip", setting="on_error", value=on_error)
    options = EncodeOptions(
        split=split,
        preset=preset,
        settings=EdgeSettings(low=canny_low, high=canny_high, blur=blur, min_contour=min_contour),
        seeds=parse_seeds(seeds),
        hint=hint,
        hint_quality=hint_quality,
        coding=coding,
        workers=workers,
        on_error="skip" if on_error == "skip" else "raise",
        max_pixels=MAX_PIXELS if max_pixels is None else max_pixels,
        shard=_parse_shard(shard),
        overwrite=force,
        resume=resume,
    )
    # Pillow warns of very large images on its own; the cap has its own error.
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
    with terminal() as progress:
        report = encode_folder(data, out, options, progress=progress)
    _print(out, report, as_json=json)


def _parse_shard(text: str | None) -> tuple[int, int] | None:
    from escort_codec.errors import UsageError

    if text is None:
        return None
    k, _, n = text.partition("/")
    if not (k.isascii() and k.isdigit() and n.isascii() and n.isdigit()):
        raise UsageError("write 3/16 for the third of sixteen parts", setting="shard", value=text)
    return int(k), int(n)


def _print(out: Path, report: EncodeReport, *, as_json: bool) -> None:
    import json

    import escort_codec
    from escort_codec.measure import measure

    with escort_codec.open(out) as reader:
        sizes = measure(reader)
    # A resumed run encoded only the rest: what the earlier part was made of was not seen again.
    source = report.source_bytes if not report.resumed else None
    if as_json:
        values: dict[str, Any] = sizes.to_map()
        values |= {
            "out": str(out),
            "source_bytes": source,
            "one_in_source": source / sizes.file_bytes if source else None,
            "one_in_rgb": sizes.rgb_bytes / sizes.file_bytes,
            "bytes_an_exemplar": sizes.file_bytes / sizes.exemplars,
            "overhead_bytes_an_exemplar": sizes.overhead_bytes / sizes.exemplars,
            "resumed": report.resumed,
            "skipped": report.skipped,
            "seconds": round(report.seconds, 3),
        }
        print(json.dumps(values, indent=2))
        return
    print_sizes(out, report, sizes, source)


def print_sizes(out: Path, report: EncodeReport, sizes: Sizes, source: int | None) -> None:
    """Prints the table of sizes; ``source``: bytes of the source files, None where they were not all seen."""
    from escort_cli.terminal import format_bytes, format_ratio, format_share, print_table

    n, total = sizes.exemplars, sizes.file_bytes
    rows = [
        ("exemplars", f"{n:,}", ""),
        ("classes", f"{sizes.classes:,}", ""),
        ("source files", "-" if source is None else format_bytes(source), format_ratio(total, source or 0)),
        ("their RGB pixels, 24 bit", format_bytes(sizes.rgb_bytes), format_ratio(total, sizes.rgb_bytes)),
        (str(out), format_bytes(total), ""),
        ("  an exemplar", f"{total / n:,.1f} B", ""),
        ("  edge maps", format_bytes(sizes.edge_bytes), format_share(sizes.edge_bytes, total)),
        ("  hints", format_bytes(sizes.hint_bytes), format_share(sizes.hint_bytes, total)),
        ("  text", format_bytes(sizes.text_bytes), format_share(sizes.text_bytes, total)),
        ("  everything else", format_bytes(sizes.other_bytes), format_share(sizes.other_bytes, total)),
        ("bits an edge map's pixel", f"{sizes.bits_a_pixel:.4f}", ""),
    ]
    print_table("Sizes", ("", "", "share, or one in"), rows)
    if report.skipped:
        print(f"{len(report.skipped)} files skipped (named above)")
    if report.resumed:
        print(f"{report.resumed} exemplars were there from an earlier run")
