"""``escort inspect``: what is in an ``.escx`` file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .escx file.")],
    classes: Annotated[bool, typer.Option("--classes", help="List the classes with their counts.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show what is in a file: version, recipes, seeds, classes, and what its bytes are spent on."""
    import escort_codec
    from escort_cli.terminal import format_bytes, format_share, print_table
    from escort_codec.container.layout import MAJOR, MINOR
    from escort_codec.measure import measure
    from escort_codec.seeds import format_seeds

    with escort_codec.open(file) as reader:
        sizes = measure(reader)
        labels = reader.labels
        settings = sorted({made for block in reader.blocks() for made in block.settings}, key=str)
        recipes = [recipe.to_map() for recipe in reader.recipes]
        seeds, source, writer = reader.seeds, reader.source, reader.writer
    if json:
        _print_json(
            {
                "file": str(file),
                "version": f"{MAJOR}.{MINOR}",
                "writer": writer,
                "source": source,
                "recipes": recipes,
                "edges": [made.to_map() for made in settings],
                "seeds": list(seeds),
                "classes": labels,
                "sizes": sizes.to_map(),
            }
        )
        return
    total = sizes.file_bytes
    rows = [
        ("version", f"{MAJOR}.{MINOR}, written by {writer or 'an unnamed program'}", ""),
        ("data folder", source or "-", ""),
        ("presets", ", ".join(dict.fromkeys(str(r["preset"]) for r in recipes)) or "-", ""),
        *((f"recipe {n}", ", ".join(f"{k}={v}" for k, v in r.items()), "") for n, r in enumerate(recipes)),
        ("edge maps made by", "; ".join(made.describe() for made in settings) or "-", ""),
        ("seeds", format_seeds(seeds) or "-", ""),
        ("classes", f"{sizes.classes:,}", ""),
        ("exemplars", f"{sizes.exemplars:,} ({sizes.prompts:,} prompts, {sizes.real:,} real)", ""),
        ("codings", ", ".join(f"{k}: {v:,}" for k, v in sizes.codings.items()) or "-", ""),
        ("bits an edge map's pixel", f"{sizes.bits_a_pixel:.4f}", ""),
        ("file", format_bytes(total), f"{total / max(1, sizes.exemplars):,.1f} B an exemplar"),
        ("  edge maps", format_bytes(sizes.edge_bytes), format_share(sizes.edge_bytes, total)),
        ("  hints", format_bytes(sizes.hint_bytes), format_share(sizes.hint_bytes, total)),
        ("  real images", format_bytes(sizes.image_bytes), format_share(sizes.image_bytes, total)),
        ("  text", format_bytes(sizes.text_bytes), format_share(sizes.text_bytes, total)),
        ("  everything else", format_bytes(sizes.other_bytes), format_share(sizes.other_bytes, total)),
    ]
    print_table(str(file), ("", "", ""), rows)
    if classes:
        print_table("Classes", ("class", "exemplars"), [(label, f"{count:,}") for label, count in labels.items()])


def _print_json(values: object) -> None:
    import json

    print(json.dumps(values, indent=2, ensure_ascii=False))
