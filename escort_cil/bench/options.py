"""The settings of ``escort bench``. Imports no torch, so that ``--help`` is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from escort_codec.recipe import EncodeOptions
from escort_codec.regenerate import DEFAULT
from escort_codec.settings import setting, setting_of

RATES: Final = (100, 200, 300, 400, 600, 800, 1200, 1600)


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure. ``budget`` "" is 10 KB per class."""

    layout: str = setting_of(EncodeOptions, "layout")
    images: int = setting(32, "Photographs that are measured, spread over the classes.", least=1)
    rates: tuple[int, ...] = setting(RATES, "Bytes an image that are tried.", metavar="N,N,...")
    ways: tuple[str, ...] = setting(
        (), "Of prompt, latent, webp, JPEG, AVIF, JPEG XL; all if left out.", metavar="NAME,..."
    )
    hint_codec: str = setting_of(EncodeOptions, "hint_codec", help="Codec of the prompts' hints.")
    regenerator: str = setting(DEFAULT, "Makes images of prompts.", metavar="NAME")
    classifier: str = setting("", "A finished run, or a model of transformers: what is recognised.", metavar="RUN")
    replay: bool = setting(False, "Train a small network on each memory alone (a minute or so each).")
    budget: str = setting("", "Bytes of the whole memory, or 20KB/class; 10KB/class if left out.", metavar="SIZE")
    device: str = setting("auto", "auto, cpu, cuda or cuda:1.", metavar="NAME")
