"""One line of advice: which kind and rate to use for some data and budget, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from escort_cil.bench.figures import BenchResult, Point
from escort_cil.bench.ways import KINDS

OVERHEAD: Final = 10
"""Roughly the bytes that an exemplar takes in the file's tables."""


def advice(result: BenchResult) -> str:
    """The line. It goes by replay if that was measured, else by what the classifier recognises, else by SSIM."""
    per_class = result.budget / max(1, result.classes)
    trained = [(name, rate, r) for name, rate, r in result.replay if r.accuracy is not None and rate is not None]
    if trained:
        name, rate, best = max(trained, key=lambda each: each[2].accuracy or 0.0)
        full = next((r.accuracy for n, rate_, r in result.replay if n == "prompt" and rate_ is None), None)
        beside = "" if full is None else f"; the paper's full maps reach {full:.1f} %"
        return (
            f"Take --keep {name}:{rate}B for {result.budget:,} bytes: a network trained on that memory alone, "
            f"{best.exemplars} exemplars, classifies {best.accuracy:.1f} % of the real test images, more than with any "
            f"other kind and rate tried{beside}."
        )
    points = [point for point in result.points if point.way in KINDS]
    if not points:
        return "No kind of exemplar was measured: nothing to advise."
    measure, words = _measure(points)
    share = result.budget / max(1, result.training_images) - OVERHEAD
    fitting = [point for point in points if point.rate <= share] or [min(points, key=lambda each: each.rate)]
    rate = max(point.rate for point in fitting)
    best_point = max((point for point in fitting if point.rate == rate), key=measure)
    held = min(result.training_images, int(result.budget / (best_point.bytes + OVERHEAD)))
    return (
        f"Take --keep {best_point.way}:{rate}B for {result.budget:,} bytes ({per_class:,.0f} a class): it keeps "
        f"{held:,} of {result.training_images:,} images, and at that rate {words(best_point)}, the most of all kinds. "
        "--replay measures what it is worth in training."
    )


def _measure(points: Sequence[Point]) -> tuple[Callable[[Point], float], Callable[[Point], str]]:
    """The figure that decides, and its text."""
    if all(point.recognised is not None for point in points):
        return (
            lambda point: point.recognised or 0.0,
            lambda point: f"{point.recognised:.0f} % are recognised as the photograph is",
        )
    return lambda point: point.ssim, lambda point: f"its SSIM is {point.ssim:.3f}"
