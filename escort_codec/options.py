"""The options of ``escort encode``, declared once. The command line and training take their defaults from here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from escort_codec.errors import UsageError
from escort_codec.limits import MAX_HINT_SIDE, MAX_PIXELS, seeds_fault
from escort_codec.recipe import HIRES, PRESETS, EdgeSettings
from escort_codec.settings import check, setting


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How a data folder is encoded.

    ``settings`` are Canny's. ``shard`` (k, n) takes the k-th of n parts, 1 <= k <= n; merged in order the parts equal
    the whole.
    """

    split: str = setting("train", "Which folder of DATA is encoded, if it has several.")
    layout: str = setting(
        "auto",
        "auto: split folders such as train/ are found; classes: every folder is a class.",
        choices=("auto", "classes"),
    )
    preset: str = setting(HIRES, "hires: edges at the image's size; lowres: at the generation size.", choices=PRESETS)
    settings: EdgeSettings = field(default_factory=EdgeSettings)
    seeds: tuple[int, ...] = setting((0, 1, 2, 3, 4), "Seeds of the regenerated images.", form="seeds")
    hint: int = setting(32, "Longer side of the colour hint in pixels; 0: none.", least=0, most=MAX_HINT_SIDE)
    hint_quality: int = setting(20, "WebP quality of the colour hint.", least=0, most=100)
    coding: str = setting("context", "Coding of the edge maps: context, rle or packed.")
    workers: int | None = setting(None, "Threads; one per core if left out.", least=1)
    on_error: Literal["raise", "skip"] = setting(
        "raise", "raise: stop at a bad image; skip: name it and go on.", choices=("raise", "skip")
    )
    max_pixels: int = setting(MAX_PIXELS, "Largest image, in pixels.", least=1, most=MAX_PIXELS)
    shard: tuple[int, int] | None = None
    overwrite: bool = setting(False, "Replace an existing file.")
    resume: bool = setting(False, "Continue what a killed run left.")


def check_options(options: EncodeOptions) -> None:
    """Raises UsageError for options that are not valid."""
    from escort_codec.coding import codings

    check(options)
    check(options.settings)
    codings.get(options.coding)
    low, high = options.settings.low, options.settings.high
    if low > high:
        raise UsageError(f"Canny's thresholds must rise: {low} is above {high}")
    if fault := seeds_fault(options.seeds):
        raise UsageError(fault, setting="seeds")
    if options.shard is not None and not 1 <= options.shard[0] <= options.shard[1]:
        raise UsageError("write 1/16 to 16/16", setting="shard", value="/".join(map(str, options.shard)))
