"""The codec: edge-map prompts in ``.escx`` files. Needs no torch.

    import escort_codec

    with escort_codec.open("memory.escx") as memory:
        exemplar = memory["cat/001.jpg"]
        edges = exemplar.edges            # bool (H, W)

Names are imported on first use, so that ``import escort_codec`` itself is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from os import PathLike

    from escort_codec.coding import Coding, codings, decode_edges, encode_edges
    from escort_codec.container import Reader, Writer, pack
    from escort_codec.container.measure import measure_file
    from escort_codec.container.parts import extract, merge, recover, split
    from escort_codec.container.verify import verify
    from escort_codec.edges import edge_map
    from escort_codec.encode.folder import encode_folder
    from escort_codec.encode.images import encode_image
    from escort_codec.errors import EscortError
    from escort_codec.exemplar import Exemplar
    from escort_codec.export.options import ExportOptions
    from escort_codec.export.tree import export_file
    from escort_codec.hint import decode_hint, encode_hint
    from escort_codec.latent.picture import decode_latent, encode_latent
    from escort_codec.progress import Progress
    from escort_codec.recipe import EdgeSettings, EncodeOptions, Recipe
    from escort_codec.regenerate import make_regenerator, regenerators
    from escort_codec.seeds import format_seeds, parse_seeds
    from escort_codec.source import load_image, load_rgb, scan

__version__ = "0.2.0"

_HOMES = {
    "coding": ("Coding", "codings", "decode_edges", "encode_edges"),
    "container": ("Reader", "Writer", "pack"),
    "container.measure": ("measure_file",),
    "container.parts": ("extract", "merge", "recover", "split"),
    "container.verify": ("verify",),
    "edges": ("edge_map",),
    "encode.folder": ("encode_folder",),
    "encode.images": ("encode_image",),
    "errors": ("EscortError",),
    "exemplar": ("Exemplar",),
    "export.options": ("ExportOptions",),
    "export.tree": ("export_file",),
    "hint": ("decode_hint", "encode_hint"),
    "latent.picture": ("decode_latent", "encode_latent"),
    "progress": ("Progress",),
    "recipe": ("EdgeSettings", "EncodeOptions", "Recipe"),
    "regenerate": ("make_regenerator", "regenerators"),
    "seeds": ("format_seeds", "parse_seeds"),
    "source": ("load_image", "load_rgb", "scan"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Coding",
    "EdgeSettings",
    "EncodeOptions",
    "EscortError",
    "Exemplar",
    "ExportOptions",
    "Progress",
    "Reader",
    "Recipe",
    "Writer",
    "codings",
    "decode_edges",
    "decode_hint",
    "decode_latent",
    "edge_map",
    "encode_edges",
    "encode_folder",
    "encode_hint",
    "encode_image",
    "encode_latent",
    "export_file",
    "extract",
    "format_seeds",
    "load_image",
    "load_rgb",
    "make_regenerator",
    "measure_file",
    "merge",
    "open",
    "pack",
    "parse_seeds",
    "recover",
    "regenerators",
    "scan",
    "split",
    "verify",
]


def open(path: str | PathLike[str], *, recover: bool = False) -> Reader:
    """Opens a memory for reading: an ``.escx`` file, a folder of parts or a pattern such as ``parts-*.escx``.

    Each may be a path or a URL (``s3://bucket/memory.escx``). See ``Reader``.
    """
    from escort_codec.container import open_memory

    return open_memory(path, recover=recover)


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"escort_codec.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'escort_codec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
