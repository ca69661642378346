"""What a learned picture costs at equal PSNR, against the bare payloads of AVIF, WebP, JPEG XL and JPEG.

    python benchmarks/latent.py DATA... [--sides 64 96] [--limit 200] [--out benchmarks/results/latent]

DATA is a folder of images (any depth) or a zip of them. Each image is reduced to the longer side (smaller ones stay)
and coded by each codec at several qualities; PSNR is of the mean squared error over all images, bytes are means. Bytes
are without what is the same for every file: a learned picture with its head; AVIF's ``mdat`` box (libaom, speed 4); the
VP8 frame (method 6); a JPEG's scan alone, without its tables; JPEG XL's bare codestream, if the package
pillow-jxl-plugin is there. OUT.json holds curves and ratios, OUT.png the plot (matplotlib).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.about import about
from escort_codec.hint import thumbnail_shape
from escort_codec.latent.picture import decode_latent, encode_latent
from escort_codec.workers import single_threaded_opencv

Pixels: TypeAlias = NDArray[np.uint8]
Codec: TypeAlias = Callable[[Pixels, int], tuple[int, Pixels]]
Curve: TypeAlias = list[dict[str, float]]

AT: tuple[int, ...] = (60, 100, 150, 200, 250, 300, 400, 500, 600, 800)


def latent(rgb: Pixels, quality: int) -> tuple[int, Pixels]:
    data = encode_latent(rgb, quality=quality)
    return len(data), decode_latent(data)


def by_pillow(kind: str, payload: Callable[[bytes], int], **options: Any) -> Codec:
    """A codec of Pillow's; ``payload`` counts the bytes of a file."""

    def run(rgb: Pixels, quality: int) -> tuple[int, Pixels]:
        file = io.BytesIO()
        Image.fromarray(rgb).save(file, kind, quality=quality, **options)
        with Image.open(file) as image:
            return payload(file.getvalue()), np.asarray(image.convert("RGB"))

    return run


def mdat(data: bytes) -> int:
    at = data.index(b"mdat") - 4
    return (int.from_bytes(data[at : at + 4], "big") or len(data) - at) - 8


def vp8(data: bytes) -> int:
    return int.from_bytes(data[16:20], "little")


def scan(data: bytes) -> int:
    at = data.index(b"\xff\xda")
    return len(data) - at - 2 - int.from_bytes(data[at + 2 : at + 4], "big") - 2


CODECS: dict[str, tuple[Codec, Sequence[int]]] = {
    "latent": (latent, tuple(range(0, 64, 7))),
    "AVIF": (by_pillow("AVIF", mdat, speed=4), (1, 5, 10, 20, 30, 40, 50, 60, 70)),
    "WebP": (by_pillow("WEBP", vp8, method=6), (0, 5, 10, 20, 35, 50, 65, 80)),
    "JPEG": (by_pillow("JPEG", scan, optimize=True), (5, 10, 15, 25, 40, 60, 75)),
}
with contextlib.suppress(ImportError):
    import pillow_jxl  # noqa: F401 - registers itself

    CODECS["JPEG XL"] = (by_pillow("JXL", len, effort=7), (5, 15, 30, 45, 60, 75))


def images(places: Sequence[Path]) -> Iterator[Image.Image]:
    for place in places:
        if place.is_file():
            with zipfile.ZipFile(place) as archive:
                for name in sorted(archive.namelist()):
                    if not name.endswith("/"):
                        yield Image.open(io.BytesIO(archive.read(name))).convert("RGB")
        else:
            for path in sorted(place.rglob("*.*")):
                yield Image.open(path).convert("RGB")


def reduced(image: Image.Image, side: int) -> Pixels:
    height, width = thumbnail_shape((image.height, image.width), side)
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0))


def curve_of(codec: Codec, qualities: Sequence[int], pictures: Sequence[Pixels]) -> Curve:
    rows = []
    for quality in qualities:
        began = time.process_time()
        results = [codec(rgb, quality) for rgb in pictures]
        spent = time.process_time() - began
        errors = [
            np.square(shown.astype(float) - rgb).mean() for (_, shown), rgb in zip(results, pictures, strict=True)
        ]
        rows.append(
            {
                "quality": quality,
                "bytes": round(float(np.mean([size for size, _ in results])), 1),
                "psnr": round(20 * math.log10(255) - 10 * math.log10(float(np.mean(errors))), 3),
                "ms": round(1000 * spent / len(pictures), 2),
            }
        )
    return rows


def value_at(curve: Curve, place: float, *, of: str, by: str) -> float | None:
    """One figure of a curve where the other is ``place``, linear in the logarithm of the bytes; None outside of it."""

    def scale(name: str, value: float) -> float:
        return math.log(value) if name == "bytes" else value

    points = sorted((scale(by, row[by]), scale(of, row[of])) for row in curve)
    if not points[0][0] <= scale(by, place) <= points[-1][0]:
        return None
    found = float(np.interp(scale(by, place), [x for x, _ in points], [y for _, y in points]))
    return math.exp(found) if of == "bytes" else found


def ratios(curves: dict[str, Curve], other: str) -> dict[str, float]:
    """Bytes of ``latent`` over those of another codec at the PSNR that ``latent`` has at some bytes."""
    found = {}
    for size in AT:
        psnr = value_at(curves["latent"], size, of="psnr", by="bytes")
        theirs = None if psnr is None else value_at(curves[other], psnr, of="bytes", by="psnr")
        if theirs is not None:
            found[str(size)] = round(size / theirs, 3)
    return found


def plot(results: dict[str, Any], out: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(6 * len(results), 4.5), squeeze=False)
    for axis, (name, result) in zip(axes[0], results.items(), strict=True):
        for codec, curve in result["curves"].items():
            axis.plot([row["bytes"] for row in curve], [row["psnr"] for row in curve], marker=".", label=codec)
        axis.set(title=name, xlabel="bytes a picture, payload alone", ylabel="PSNR, dB", xscale="log", xlim=(40, 1500))
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    figure.tight_layout()
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 96])
    parser.add_argument("--limit", type=int, default=200, help="images of each DATA, evenly spaced")
    parser.add_argument("--last", type=int, help="only the last so many images of each DATA: classes kept apart")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/latent"))
    args = parser.parse_args()
    results: dict[str, Any] = {}
    facts = about()
    with single_threaded_opencv():
        for place in args.data:
            found = list(images([place]))[-(args.last or 0) :]
            found = found[:: max(1, len(found) // args.limit)][: args.limit]
            name = place.stem if place.is_file() else "/".join(place.resolve().parts[-2:])
            for side in args.sides:
                pictures = [reduced(image, side) for image in found]
                if side > args.sides[0] and max(map(max, (image.size for image in found))) < side:
                    continue
                curves = {name: curve_of(*codec, pictures) for name, codec in CODECS.items()}
                entry = {
                    "images": len(pictures),
                    "curves": curves,
                    "bytes_of_latent_over": {name: ratios(curves, name) for name in curves if name != "latent"},
                }
                results[f"{name}, {side} pixels"] = entry
                print(name, side, json.dumps(entry["bytes_of_latent_over"]), flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(
        json.dumps({"about": facts, "curves": results}, indent=1) + "\n", encoding="utf-8"
    )
    plot(results, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
