"""What rate control keeps in so many bytes, beside plain thresholds raised to the same bytes; and `escort bench`.

    python benchmarks/rate_fidelity.py DATA [--limit 200] [--out benchmarks/results/rate_fidelity.json]
    python benchmarks/rate_fidelity.py DATA --bench [--images 32] [--replay] [--out ...]

For each rate: the bytes that prompts take (mean and most), their edge F against the contours of the full map that are
longer than 20 pixels (within 2 pixels), images a second on one core, and how many images have an empty map. Beside it
plain Canny at the image's size with both thresholds raised, for each image the lowest that fit into the same bytes as
the whole prompt, found by bisection: it has no hint to pay for. With `--bench` the figures of `escort bench` on DATA,
recognised by an EfficientNet-Lite2 if it is installed (see `recognised.py`), go into OUT too.
The table of the first is printed for the README.
Parts that are done are kept in OUT and not repeated: delete it to begin anew.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.about import about
from escort_cil.bench.classifier import Classifier
from escort_codec.edges import edge_map
from escort_codec.encode.images import encode_image, prepare
from escort_codec.encode.rate import map_fidelity
from escort_codec.exemplar import smallest
from escort_codec.measure import prepare as prepare_measures
from escort_codec.recipe import EdgeSettings, EncodeOptions
from escort_codec.source import SourceImage, load_rgb, scan

RATES = (200, 400, 800, 1600)


def raised(rgb: NDArray[np.uint8], most_bytes: int) -> tuple[int, float]:
    """Bytes and F of the plain map with the lowest thresholds (low, 2 low) that fit."""
    low, high, best = 100, 2000, (0, 0.0)
    while low <= high:
        middle = (low + high) // 2
        edges = edge_map(rgb, settings=EdgeSettings(low=middle, high=2 * middle))
        size = len(smallest(edges, "context")[1])
        if size <= most_bytes:
            best, high = (size, map_fidelity(edges, rgb)), middle - 1
        else:
            low = middle + 1
    return best


def rate_row(images: list[SourceImage], rate: int, hint_codec: str) -> dict[str, Any]:
    options = EncodeOptions(bytes_per_exemplar=rate, hint_codec=hint_codec, workers=1)
    began = time.process_time()
    made = [encode_image(image, options).exemplar for image in images]
    seconds = time.process_time() - began
    sizes = [len(each.payload) + len(each.hint or b"") for each in made]
    pixels = [load_rgb(image.path) for image in images]
    kept = [map_fidelity(each.edges, rgb) for each, rgb in zip(made, pixels, strict=True)]
    plain = [raised(rgb, rate) for rgb in pixels]
    return {
        "rate": rate,
        "hint_codec": hint_codec,
        "mean_bytes": round(float(np.mean(sizes)), 1),
        "most_bytes": max(sizes),
        "hint_bytes": round(float(np.mean([len(each.hint or b"") for each in made])), 1),
        "edge_f": round(float(np.mean(kept)), 4),
        "empty_maps": sum(not each.edges.any() for each in made),
        "images_per_second_of_a_core": round(len(images) / seconds, 1),
        "plain_thresholds_bytes": round(float(np.mean([size for size, _ in plain])), 1),
        "plain_thresholds_edge_f": round(float(np.mean([f for _, f in plain])), 4),
        "plain_thresholds_empty_maps": sum(f == 0 for _, f in plain),
    }


def bench_rows(data: str, args: argparse.Namespace) -> dict[str, Any]:
    import torch

    from escort_cil.bench.advice import advice
    from escort_cil.bench.figures import run_bench
    from escort_cil.bench.options import BenchOptions

    torch.set_num_threads(1)
    options = BenchOptions(images=args.images, device="cpu", replay=args.replay, hint_codec=args.hint_codec)
    classifier: Classifier | None = None
    try:
        from benchmarks.recognised import Network

        classifier = _Recogniser(Network())
    except ImportError as exc:
        print(f"nothing is recognised: {exc}")
    result = run_bench(data, options, classifier=classifier)
    values = result.to_map() | {"advice": advice(result)}
    return {key: value for key, value in values.items() if key != "data"}


class _Recogniser(Classifier):
    """The classifier of ``recognised.py`` as `escort bench` asks it."""

    name = "EfficientNet-Lite2"

    def __init__(self, network: Callable[..., Any]) -> None:
        self._network = network

    def classify(self, pictures: Any) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Classes and features."""
        classes, features = self._network(list(pictures), [(each.shape[1], each.shape[0]) for each in pictures])
        return classes.numpy().astype(np.int64), features.numpy().astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--limit", type=int, default=200, help="images of the first table")
    parser.add_argument("--rates", type=int, nargs="+", default=RATES)
    parser.add_argument("--hint-codec", default=EncodeOptions().hint_codec)
    parser.add_argument("--bench", action="store_true")
    parser.add_argument("--images", type=int, default=32, help="photographs of --bench")
    parser.add_argument("--anew", action="store_true", help="parts in OUT are measured again")
    parser.add_argument("--replay", action="store_true", help="with --bench: train on each memory, too")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rate_fidelity.json"))
    args = parser.parse_args()
    cv2.setNumThreads(1)
    prepare("context")
    prepare_measures()
    done: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() and not args.anew else {}
    done["about"] = about()
    every = list(scan(args.data))
    images = every[:: max(1, len(every) // args.limit)][: args.limit]
    encode_image(images[0], replace(EncodeOptions(), bytes_per_exemplar=400, hint_codec=args.hint_codec))  # warms up

    def keep(part: str, make: Callable[[], Any]) -> None:
        if part not in done:
            done[part] = make()
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(done, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        print(part, json.dumps(done[part])[:1000], flush=True)

    for rate in args.rates:
        keep(f"rate control, {rate} bytes, {args.hint_codec} hints", partial(rate_row, images, rate, args.hint_codec))
    if args.bench:
        keep("bench, photographs", lambda: bench_rows(args.data, args))


if __name__ == "__main__":
    main()
