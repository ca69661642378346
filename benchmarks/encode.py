"""How fast is `escort encode`, against the plain loop `Image.open -> cv2.Canny -> save BMP` in one thread?

    python benchmarks/encode.py DATA [--repeats 5] [--out benchmarks/results/encode.json]

All variants run in turn in one process, in the opposite order every other round. A ratio compares two runs of the same
round; the median over the rounds is reported. DATA is a folder for `escort encode`. The first variants have hints as
WebP frames of 32 pixels, which cost least time; "prompt" is the default, with a learned picture as its hint.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks.about import about
from escort_codec.encode.folder import encode_folder
from escort_codec.recipe import EncodeOptions
from escort_codec.source import scan

VARIANTS = {
    "rle": EncodeOptions(coding="rle", hint=32, hint_codec="vp8"),
    "context": EncodeOptions(hint=32, hint_codec="vp8"),
    "prompt": EncodeOptions(),
    "latent:64": EncodeOptions(kind="latent:64"),
    "webp:64:20": EncodeOptions(kind="webp:64:20"),
}


def named(variant: str, workers: int) -> str:
    return f"{variant}, {workers} worker{'s' * (workers > 1)}"


def plain_loop(data: str, folder: Path) -> int:
    size = 0
    for number, image in enumerate(scan(data)):
        with Image.open(image.path) as picture:
            rgb = np.asarray(picture.convert("RGB"))
        path = folder / f"{number}.bmp"
        Image.fromarray(cv2.Canny(rgb, 100, 200)).save(path)
        size += path.stat().st_size
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    facts = about()
    images = len(scan(options.data))

    def encode(chosen: EncodeOptions) -> Callable[[Path], int]:
        def run(folder: Path) -> int:
            encode_folder(options.data, folder / "out.escx", chosen)
            return (folder / "out.escx").stat().st_size

        return run

    variants: dict[str, Callable[[Path], int]] = {"plain loop": lambda folder: plain_loop(options.data, folder)}
    for name, chosen in VARIANTS.items():
        for workers in (1, 2):
            variants[named(name, workers)] = encode(replace(chosen, workers=workers, overwrite=True))
    rates: dict[str, list[float]] = {name: [] for name in variants}
    sizes = dict.fromkeys(variants, 0)
    with tempfile.TemporaryDirectory() as folder:
        cv2.setNumThreads(1)  # one thread means one: OpenCV has threads of its own
        for round_ in range(options.repeats + 1):  # the first round warms up caches and compiles
            for name in list(variants)[:: 1 if round_ % 2 else -1]:
                run = variants[name]
                started = time.perf_counter()
                sizes[name] = run(Path(folder))
                if round_:
                    rates[name].append(images / (time.perf_counter() - started))
    rows = {
        name: {
            "images_per_second": round(statistics.median(values), 1),
            "ratio_to_plain_loop": round(
                statistics.median(a / b for a, b in zip(values, rates["plain loop"], strict=True)), 3
            ),
            "bytes_per_image": round(sizes[name] / images, 1),
        }
        for name, values in rates.items()
    }
    pairs = [(named("rle", 2), named("rle", 1)), *((named("context", n), named("rle", n)) for n in (1, 2))]
    pairs += [(named("prompt", n), named("context", n)) for n in (1, 2)]
    ratios = {
        f"{a} / {b}": round(statistics.median(x / y for x, y in zip(rates[a], rates[b], strict=True)), 3)
        for a, b in pairs
    }
    print(f"{images} images, {options.repeats} rounds")
    for name, row in rows.items():
        print(f"{name:20} {row['images_per_second']:8.1f} images/s {row['ratio_to_plain_loop']:6.2f} x plain loop")
    for name, ratio in ratios.items():
        print(f"{name:40} {ratio:6.2f}")
    if options.out:
        result = {
            "about": facts,
            "images": images,
            "variants": rows,
            "ratios": ratios,
        }
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
