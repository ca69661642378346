"""The figures of ``escort bench`` as its page shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from escort_cil.bench.figures import Point

Value = Callable[[Point], float | None]


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a point, as the page shows it. ``more``: a larger value is better."""

    key: str
    title: str
    column: str
    axis: str
    note: str
    digits: int
    value: Value
    plotted: bool = True
    more: bool = True


MEASURES: Final = (
    Measure(
        "recognised",
        "Recognised",
        "Recognised, %",
        "recognised, %",
        "Share that the classifier puts into the same class as the photograph itself.",
        1,
        lambda p: p.recognised,
    ),
    Measure(
        "ssim",
        "SSIM",
        "SSIM",
        "SSIM",
        "Structural similarity with the photograph, at its size.",
        3,
        lambda p: p.ssim,
    ),
    Measure(
        "psnr",
        "PSNR",
        "PSNR, dB",
        "PSNR, dB",
        "Peak signal-to-noise ratio with the photograph, at its size.",
        1,
        lambda p: p.psnr,
    ),
    Measure(
        "own-f",
        "Edges of the shown picture",
        "Seen F",
        "F within 2 pixels",
        "F of the shown picture's edges against the long contours of the photograph's full map.",
        3,
        lambda p: p.own_f,
    ),
    Measure(
        "f",
        "Stored edges",
        "Stored F",
        "F within 2 pixels",
        "F of a prompt's stored map against the long contours of the full map.",
        3,
        lambda p: p.f,
    ),
    Measure(
        "obeyed",
        "Does the regenerator obey?",
        "Obeyed F",
        "F within 2 pixels",
        "F of the regenerated image's own edges against the stored ones.",
        3,
        lambda p: p.obeyed,
    ),
    Measure(
        "kid",
        "Distance of features",
        "KID",
        "KID",
        "Kernel distance of the classifier's features within each class: less is better.",
        4,
        lambda p: p.kid,
        more=False,
    ),
    Measure(
        "precision",
        "Precision",
        "Stored P",
        "",
        "Of the stored edge pixels, the share that the full map has.",
        3,
        lambda p: p.precision,
        plotted=False,
    ),
    Measure(
        "recall",
        "Recall",
        "Stored R",
        "",
        "Of the full map's long contours, the share that is stored.",
        3,
        lambda p: p.recall,
        plotted=False,
    ),
    Measure(
        "encode",
        "Encode, ms",
        "Encode, ms",
        "encode, ms per image",
        "One core, including the search for the rate.",
        1,
        lambda p: p.encode_ms,
        more=False,
    ),
    Measure(
        "decode",
        "Decode, ms",
        "Decode, ms",
        "decode, ms per image",
        "One core.",
        1,
        lambda p: p.decode_ms,
        more=False,
    ),
)
TIMES: Final = ("encode", "decode")
