"""The codec: edge-map prompts in a ``.escx`` file. Needs no torch.

    import escort_codec

    with escort_codec.open("memory.escx") as memory:
        exemplar = memory["cat/001.jpg"]
        edges = exemplar.edges            # bool (H, W)

Names are imported when they are first used, so that ``import escort_codec`` itself costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from os import PathLike

    from escort_codec.coding import decode_edges, encode_edges
    from escort_codec.container import Reader, Writer, pack
    from escort_codec.errors import EscortError
    from escort_codec.exemplar import Exemplar
    from escort_codec.recipe import EdgeSettings, Recipe

__version__ = "0.1.0"

__all__ = [
    "EdgeSettings",
    "EscortError",
    "Exemplar",
    "Reader",
    "Recipe",
    "Writer",
    "decode_edges",
    "encode_edges",
    "open",
    "pack",
]

_HOMES = {
    "EdgeSettings": "recipe",
    "EscortError": "errors",
    "Exemplar": "exemplar",
    "Reader": "container",
    "Recipe": "recipe",
    "Writer": "container",
    "decode_edges": "coding",
    "encode_edges": "coding",
    "pack": "container",
}


def open(path: str | PathLike[str], *, recover: bool = False) -> Reader:
    """Opens an ``.escx`` file for reading; see ``Reader``."""
    from escort_codec.container import Reader

    return Reader(path, recover=recover)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"escort_codec.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'escort_codec' has no attribute {name!r}")
