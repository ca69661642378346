"""The memories that `equal_bytes.py` compares: what is kept, the prompts it is made from, and AVIF as a peer."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from benchmarks.latent import mdat
from escort_cil.memory.kinds import ExemplarKind, kinds
from escort_cil.memory.prompts import Prompts
from escort_codec.encode.copies import real_exemplar
from escort_codec.exemplar import Exemplar
from escort_codec.hint import thumbnail_shape
from escort_codec.recipe import EdgeSettings, EncodeOptions
from escort_codec.source import SourceImage, scan_folder

SEEDS = (0, 1)


@dataclass(frozen=True)
class Policy:
    """A kind of memory: settings, the name of its file of prompts, and whether it is tried with augmentation, too, or
    on the memory alone only."""

    values: Mapping[str, Any]
    prompts: str = "full"
    augmented: bool = True
    alone: bool = False


@dataclass(frozen=True)
class Avif(ExemplarKind):
    """A reduced picture as an AVIF file: longer side and Pillow's quality."""

    side: int = 64
    quality: int = 20

    name = "avif"
    stored = "real"
    is_copy = True

    def make(self, image: SourceImage, picture: Image.Image | None, prompts: Prompts) -> Exemplar:
        """A real exemplar that holds the file."""
        assert picture is not None
        return real_exemplar(image, self.reduced(picture))

    def reduced(self, picture: Image.Image) -> bytes:
        """The file."""
        height, width = thumbnail_shape((picture.height, picture.width), self.side)
        small = picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
        small.info = {}
        file = io.BytesIO()
        small.save(file, "AVIF", quality=self.quality, speed=4)
        return file.getvalue()


kinds.add("avif", Avif)


@functools.cache
def boxes_share(data: str) -> float:
    """Bytes of AVIF files over those of their payloads, on 60 photographs."""
    images = scan_folder(data, "train").images
    files = [Avif().reduced(Image.open(each.path).convert("RGB")) for each in images[:: max(1, len(images) // 60)]]
    return sum(map(len, files)) / sum(map(mdat, files))


POLICIES = {
    "webp 64": Policy({"keep": "webp:64:20"}),
    "webp 48": Policy({"keep": "webp:48:20"}, augmented=False),
    "webp 32": Policy({"keep": "webp:32:20"}),
    "latent 64": Policy({"keep": "latent:64:40"}),
    "latent 64, finer": Policy({"keep": "latent:64:52"}),
    "latent 64, finest": Policy({"keep": "latent:64:60"}, augmented=False),
    "AVIF 64": Policy({"keep": "avif"}, augmented=False),
    "prompts with hint": Policy({"keep": "prompt"}, augmented=False),
    "prompts without hint": Policy({"keep": "prompt", "hint": 0}, augmented=False, alone=True),
    "sketches with hint": Policy({"keep": "prompt"}, "sketch"),
}
RATED = ("prompt", "latent", "webp")


def policy_of(name: str) -> Policy:
    """A policy by name, or ``prompt 400 B``, or what is kept, such as ``latent:64:52``."""
    if name in POLICIES:
        return POLICIES[name]
    if ":" in name or name == "auto":
        return Policy({"keep": name}, "")
    kind, rate, _ = name.split(" ")
    return Policy({"keep": f"{kind}:{rate}B"}, "")


PROMPTS = {
    "full": EncodeOptions(seeds=SEEDS, overwrite=True),
    "sketch": EncodeOptions(settings=EdgeSettings(blur=2.0, min_contour=30), seeds=SEEDS, overwrite=True),
}


def with_hint(options: EncodeOptions, hint: str | None) -> EncodeOptions:
    """The options with the hints that ``--hint`` asks for."""
    if not hint:
        return options
    side, codec, quality = hint.split(":")
    return replace(options, hint=int(side), hint_codec=codec, hint_quality=int(quality))
