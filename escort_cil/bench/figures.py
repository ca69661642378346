"""Measures each way to keep an image at each rate, on photographs of a data folder."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import cv2
import numpy as np
from PIL import Image

from escort_cil.bench.classifier import Classifier, load_classifier
from escort_cil.bench.options import BenchOptions
from escort_cil.bench.ways import KeptImage, KindWay, Photograph, Way, ways
from escort_cil.data.protocol import DataSet, read_data
from escort_cil.memory.keep import Keep
from escort_cil.memory.prompts import Prompts
from escort_cil.replay import ReplayResult, ReplaySettings, ReplayTest
from escort_codec.edges import Contours, edge_map, enlarged, reduced_image
from escort_codec.encode.images import prepare
from escort_codec.encode.rate import FULL_SIDE, LONG
from escort_codec.errors import LimitError, UsageError
from escort_codec.latent.picture import prepare as prepare_latents
from escort_codec.measure import class_kid, edge_score, psnr, ssim
from escort_codec.measure import prepare as prepare_measures
from escort_codec.progress import Progress
from escort_codec.recipe import EncodeOptions
from escort_codec.regenerate import DEFAULT, Regenerator, RGBImage, make_regenerator
from escort_codec.settings import check, parse_bytes
from escort_codec.source import load_image
from escort_codec.workers import single_threaded_opencv

log = logging.getLogger(__name__)

REFERENCES: Final = ("prompt", "original")
"""What ``replay`` measures besides the rates: the paper's full edge maps, and the original files."""
BUDGET_PER_CLASS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Point:
    """The figures of one way at one rate: means over the photographs, or None where a measure does not apply.

    ``precision``, ``recall`` and ``f`` compare a prompt's stored map with the long contours of the full map, ``obeyed``
    is F of the edges in the shown image against the stored ones, and ``own_f`` is F of these edges against the full
    map. ``recognised`` is in per cent; times are milliseconds per image.
    """

    way: str
    rate: int
    bytes: float
    psnr: float
    ssim: float
    own_f: float
    encode_ms: float
    decode_ms: float
    precision: float | None = None
    recall: float | None = None
    f: float | None = None
    obeyed: float | None = None
    recognised: float | None = None
    kid: float | None = None


@dataclass(slots=True)
class BenchResult:
    """All points, the replay results by kind and rate, and for the sheet one photograph as kept and as shown."""

    data: str
    images: int
    classes: int
    training_images: int
    budget: int
    options: BenchOptions
    missing: tuple[str, ...] = ()
    points: list[Point] = field(default_factory=list)
    replay: list[tuple[str, int | None, ReplayResult]] = field(default_factory=list)
    original: RGBImage | None = None
    sheet: dict[tuple[str, int], tuple[KeptImage, RGBImage]] = field(default_factory=dict)

    def to_map(self) -> dict[str, Any]:
        """Everything except the pictures, for JSON."""
        return {
            "data": self.data,
            "images": self.images,
            "classes": self.classes,
            "training_images": self.training_images,
            "budget": self.budget,
            "options": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.options).items()},
            "missing": list(self.missing),
            "points": [_finite(asdict(point)) for point in self.points],
            "replay": [{"way": way, "rate": rate, **asdict(result)} for way, rate, result in self.replay],
        }


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for JSON, which has no NaN and no infinity."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def run_bench(
    data: str,
    options: BenchOptions = BenchOptions(),
    regenerator_options: Mapping[str, Any] | None = None,
    progress: Progress = Progress(),
    *,
    classifier: Classifier | None = None,
) -> BenchResult:
    """Measures photographs of ``data`` on one core. Raises EscortError of many kinds.

    ``classifier`` replaces the one that ``options`` name.
    """
    check(options)
    if not options.rates or min(options.rates) < 1:
        raise UsageError("give bytes per image, such as 200,400", setting="rates", value=options.rates)
    chosen = [ways.get(name) for name in options.ways or ways.names()]
    missing = tuple(way.name for way in chosen if not way.available())
    for name in missing:
        log.info("not measured: %s (this Pillow cannot write it)", name)
    chosen = [way for way in chosen if way.name not in missing]
    if classifier is None and options.classifier:
        classifier = load_classifier(options.classifier, options.device)
    found = read_data(data, layout=options.layout)
    training = sum(map(len, found.train.values()))
    budget = _budget(options.budget, len(found.train))
    photographs = _photographs(found, options.images)
    result = BenchResult(data, len(photographs), len(found.train), training, budget, options, missing)
    regenerating = {"workers": 1} if options.regenerator == DEFAULT else {}
    near = None if options.device == "auto" else options.device
    with make_regenerator(
        options.regenerator, {**regenerating, **(regenerator_options or {})}, near=near
    ) as regenerator:
        with single_threaded_opencv():
            _measure(result, photographs, chosen, regenerator, classifier, progress)
        if options.replay:
            _replay(result, found, [way for way in chosen if isinstance(way, KindWay)], regenerator, progress)
    return result


def _budget(text: str, classes: int) -> int:
    """Bytes of the memory of all classes."""
    if not text:
        return BUDGET_PER_CLASS * classes
    amount, slash, unit = text.partition("/")
    if slash and unit.strip() != "class":
        raise UsageError("write 200KB or 20KB/class", setting="budget", value=text)
    return parse_bytes(amount) * (classes if slash else 1)


def _photographs(found: DataSet, count: int) -> list[Photograph]:
    """Training images, taken from the classes in turn; large ones are reduced as for the full map."""
    groups = [found.train[label] for label in found.labels]
    turns = [group[n] for n in range(max(map(len, groups))) for group in groups if n < len(group)]
    chosen = []
    for image in turns[:count]:
        rgb = np.asarray(load_image(image.path))
        chosen.append(Photograph(image, Image.fromarray(reduced_image(rgb, FULL_SIDE))))
    return chosen


def _measure(
    result: BenchResult,
    photographs: Sequence[Photograph],
    chosen: Sequence[Way],
    regenerator: Regenerator,
    classifier: Classifier | None,
    progress: Progress,
) -> None:
    options = result.options
    prompts = Prompts(EncodeOptions(seeds=(0,), hint_codec=options.hint_codec))
    originals = [np.asarray(each.picture) for each in photographs]
    fulls = [edge_map(rgb) for rgb in originals]
    seen = classifier.classify(originals) if classifier else None
    labels = [each.image.label for each in photographs]
    aspects = [abs(math.log(rgb.shape[1] / rgb.shape[0]) - math.log(4 / 3)) for rgb in originals]
    on_sheet = int(np.argmin(aspects))  # the photograph whose shape is nearest to 4:3
    result.original = originals[on_sheet]
    prepare("context")
    prepare_measures()
    prepare_latents()
    progress.begin("bench", len(chosen) * len(options.rates) * len(photographs))
    for way in chosen:
        warm = False
        for rate in options.rates:
            try:
                if not warm:  # the first picture loads networks and compiles kernels
                    way.show([way.keep(photographs[0], rate, prompts)], regenerator)
                    warm = True
                began = time.perf_counter()
                kept = [way.keep(each, rate, prompts) for each in photographs]
                encoded = time.perf_counter()
                shown = way.show(kept, regenerator)
            except (LimitError, UsageError) as exc:
                log.info("%s in %d bytes: left out (%s)", way.name, rate, exc)
                progress.advance(len(photographs))
                continue
            seconds = encoded - began, time.perf_counter() - encoded
            shown = [_sized(each, original) for each, original in zip(shown, originals, strict=True)]
            point = _point(way.name, rate, kept, shown, originals, fulls, seconds)
            if classifier and seen:
                classes, features = classifier.classify(shown)
                recognised = 100 * float((classes == seen[0]).mean())
                point = replace(point, recognised=recognised, kid=class_kid(features, seen[1], labels))
            result.points.append(point)
            result.sheet[way.name, rate] = kept[on_sheet], shown[on_sheet]
            progress.advance(len(photographs), note=f"{way.name}, {rate} bytes")
    progress.end()


def _sized(shown: RGBImage, original: RGBImage) -> RGBImage:
    """A picture, resized to the photograph's size."""
    height, width = original.shape[:2]
    if shown.shape == original.shape:
        return shown
    how = cv2.INTER_CUBIC if shown.shape[1] < width else cv2.INTER_AREA
    return np.asarray(cv2.resize(shown, (width, height), interpolation=how), np.uint8)


def _point(
    way: str,
    rate: int,
    kept: Sequence[KeptImage],
    shown: Sequence[RGBImage],
    originals: Sequence[RGBImage],
    fulls: Sequence[Any],
    seconds: tuple[float, float],
) -> Point:
    count = len(kept)
    rows: list[tuple[float, ...]] = []
    stored: list[tuple[float, ...]] = []
    for each, picture, original, full in zip(kept, shown, originals, fulls, strict=True):
        own, long = edge_map(picture), Contours.of(full).at_least(LONG)
        rows.append((psnr(picture, original), ssim(picture, original), edge_score(own, long).f))
        if each.exemplar is not None and each.exemplar.kind == "prompt":
            edges = enlarged(each.exemplar.edges, full.shape)
            score = edge_score(edges, long)
            stored.append((score.precision, score.recall, score.f, edge_score(own, edges).f))
    seen = [float(value) for value in np.mean(rows, axis=0)]
    point = Point(
        way,
        rate,
        bytes=sum(each.size for each in kept) / count,
        psnr=seen[0],
        ssim=seen[1],
        own_f=seen[2],
        encode_ms=1000 * seconds[0] / count,
        decode_ms=1000 * seconds[1] / count,
    )
    if not stored:
        return point
    precision, recall, f, obeyed = (float(value) for value in np.mean(stored, axis=0))
    return replace(point, precision=precision, recall=recall, f=f, obeyed=obeyed)


def _replay(
    result: BenchResult, found: DataSet, kinds: Sequence[KindWay], regenerator: Regenerator, progress: Progress
) -> None:
    options = result.options
    device = options.device
    keeps: list[tuple[str, int | None, Keep]] = [(name, None, Keep.parse(name)) for name in REFERENCES]
    for way in kinds:
        for rate in options.rates:
            try:
                keeps.append((way.name, rate, way.kept(rate)))
            except UsageError:  # below the least bytes of the kind
                continue
    encode = EncodeOptions(hint_codec=options.hint_codec)
    progress.begin("replay", len(keeps), unit="memories")
    with ReplayTest(found.train, found.test, regenerator, ReplaySettings(), encode=encode, device=device) as test:
        for name, at, keep in keeps:
            outcome = test.run(keep, result.budget)
            result.replay.append((name, at, outcome))
            accuracy = "nothing to train on" if outcome.accuracy is None else f"{outcome.accuracy:.1f} %"
            progress.advance(note=f"{keep}: {accuracy}")
    progress.end()
