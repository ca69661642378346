"""How small and how fast are the codings, against what else codes a bilevel image?

    python benchmarks/coding.py DATA [--rounds 5] [--title TEXT] [--out benchmarks/results/coding]

DATA is a folder for `escort encode`. All edge maps are `cv2.Canny(RGB, 100, 200)` at the size of the images. Each coder
gets the same maps, one at a time; maps that can be decoded in this process are decoded and compared. Bytes include all
that a map needs besides width and height: also the header of a file format, which cannot be left out. "64x64" is every
fourth of the whole 64 x 64 tiles of the maps; "middle piece" is the middle 64 x 64 of each map, which is denser. Speeds
are CPU time of one thread, with all coders in turn in every round and the median over the rounds; a ratio compares two
times of the same round. Programs that are started for each map have no speed.
A peer that is not installed is listed as missing. Prints tables; with --out writes OUT.json and OUT.svg.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import zstandard
from numpy.typing import NDArray
from PIL import Image, features

from benchmarks.about import about
from escort_codec.coding import EdgeMap, codings
from escort_codec.encode.folder import encode_folder
from escort_codec.recipe import EncodeOptions
from escort_codec.source import load_rgb, scan

CUT = 64
TILE_STEP = 4  # every fourth tile: programs that are started for each take long
JBIG1 = "JBIG1 (pbmtojbg -q)"


class MissingError(Exception):
    """A peer that is not installed: what to install."""


@dataclass(slots=True)
class Peer:
    """A coder: ``encode`` and, if it can be timed, ``decode``."""

    name: str
    encode: Callable[[EdgeMap], bytes]
    decode: Callable[[bytes, tuple[int, int]], EdgeMap] | None = None
    slow: bool = False
    """Coded once, not in every round."""
    encode_seconds: list[float] = field(default_factory=list)
    decode_seconds: list[float] = field(default_factory=list)


def pbm(edges: EdgeMap) -> bytes:
    """The map as a raw portable bitmap."""
    return b"P4\n%d %d\n" % (edges.shape[1], edges.shape[0]) + np.packbits(edges, axis=1).tobytes()


def pillow(name: str, mode: str, slow: bool = False, **options: Any) -> Peer:
    """A format that Pillow writes and reads."""

    def encode(edges: EdgeMap) -> bytes:
        file = io.BytesIO()
        Image.fromarray(edges).convert(mode).save(file, **options)
        return file.getvalue()

    def decode(data: bytes, shape: tuple[int, int]) -> EdgeMap:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("L")) > 127

    return Peer(name, encode, decode, slow)


def program(name: str, command: list[str], package: str, suffix: str = "", png: bool = False) -> Peer:
    """A program that converts a bitmap from standard input, or from a file if ``suffix`` is given."""
    if shutil.which(command[0]) is None:
        raise MissingError(f"{name}: no {command[0]} on this machine ({package})")

    def encode(edges: EdgeMap) -> bytes:
        if not suffix:
            return subprocess.run(command, input=pbm(edges), stdout=subprocess.PIPE, check=True).stdout
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "map.png" if png else "map.pbm"), Path(folder, f"map{suffix}")
            if png:
                Image.fromarray(edges).save(source)
            else:
                source.write_bytes(pbm(edges))
            words = [str(source) if word == "IN" else str(target) if word == "OUT" else word for word in command]
            done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
            return target.read_bytes() if "OUT" in command else done.stdout

    return Peer(name, encode, None, slow=True)


def zstd(level: int) -> Peer:
    """Zstandard of the packed bits, without the header's content size and checksum."""
    writer = zstandard.ZstdCompressor(level=level, write_content_size=False, write_checksum=False)
    reader = zstandard.ZstdDecompressor()

    def decode(data: bytes, shape: tuple[int, int]) -> EdgeMap:
        size = shape[0] * shape[1]
        packed = reader.decompress(data, max_output_size=size // 8 + 1)
        return np.unpackbits(np.frombuffer(packed, np.uint8))[:size].astype(np.bool_).reshape(shape)

    return Peer(f"zstd -{level} of packed bits", lambda edges: writer.compress(np.packbits(edges).tobytes()), decode)


def peers() -> tuple[list[Peer], list[str]]:
    """All coders, and those that are missing."""
    found = []
    for coding in codings:
        coding.prepare()
        found.append(Peer(f"escort {coding.name}", coding.encode, coding.decode))
    found.append(zstd(19))
    missing = []
    makers: list[Callable[[], Peer]] = [
        lambda: pillow("PNG, 1 bit, optimised", "1", format="PNG", optimize=True),
        lambda: pillow("TIFF G4", "1", format="TIFF", compression="group4"),
        lambda: pillow(
            "WebP lossless (method 5)", "RGB", slow=True, format="WEBP", lossless=True, quality=100, method=5
        ),
        lambda: program(JBIG1, ["pbmtojbg", "-q"], "Debian: jbigkit-bin"),
        lambda: program("JBIG1, one stripe", ["pbmtojbg", "-q", "-s", "65535"], "Debian: jbigkit-bin"),
        lambda: program("JBIG2, generic", ["jbig2", "IN"], "jbig2enc, not in Debian 12", ".jb2"),
        lambda: program(
            "JPEG XL lossless (-e 7)", ["cjxl", "IN", "OUT", "-d", "0", "-e", "7"], "libjxl-tools", ".jxl", True
        ),
    ]
    if not features.check("libtiff"):
        missing.append("TIFF G4: this Pillow has no libtiff")
        makers.pop(1)
    for make in makers:
        try:
            found.append(make())
        except MissingError as exc:
            missing.append(str(exc))
    return found, missing


def measure(
    coders: list[Peer], images: list[NDArray[np.uint8]], maps: list[EdgeMap], rounds: int
) -> tuple[dict[str, int], list[float]]:
    """Bytes by coder, and Canny's seconds by round. Adds the seconds of each coder to it."""
    sizes: dict[str, int] = {}
    canny: list[float] = []
    for number in range(rounds):
        for coder in coders:
            if coder.slow and number:
                continue
            began = time.process_time()
            coded = [coder.encode(edges) for edges in maps]
            coder.encode_seconds.append(time.process_time() - began)
            sizes[coder.name] = sum(map(len, coded))
            if coder.decode:
                began = time.process_time()
                back = [
                    coder.decode(data, (edges.shape[0], edges.shape[1]))
                    for data, edges in zip(coded, maps, strict=True)
                ]
                coder.decode_seconds.append(time.process_time() - began)
                if number == 0 and not all(np.array_equal(a, b) for a, b in zip(back, maps, strict=True)):
                    raise SystemExit(f"{coder.name} did not decode the maps that it encoded")
        began = time.process_time()
        for image in images:
            cv2.Canny(image, 100, 200)
        canny.append(time.process_time() - began)
    return sizes, canny


def tiles(edges: EdgeMap) -> list[EdgeMap]:
    """All whole 64 x 64 tiles of a map."""
    height, width = edges.shape
    corners = [(y, x) for y in range(0, height - CUT + 1, CUT) for x in range(0, width - CUT + 1, CUT)]
    return [np.ascontiguousarray(edges[y : y + CUT, x : x + CUT]) for y, x in corners]


def middle_piece(edges: EdgeMap) -> EdgeMap | None:
    """The middle 64 x 64 of a map, where the subject is and edges are dense, or None if the map is smaller."""
    top, left = (edges.shape[0] - CUT) // 2, (edges.shape[1] - CUT) // 2
    return np.ascontiguousarray(edges[top : top + CUT, left : left + CUT]) if min(top, left) >= 0 else None


def encode_rates(data: str, split: str, images: int, rounds: int) -> dict[str, list[float]]:
    """Images per second of `escort encode` by coding (wall clock, one worker per core), the codings in turn."""
    rates: dict[str, list[float]] = {"rle": [], "context": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for coding, values in rates.items():
                options = EncodeOptions(split=split, coding=coding, hint_codec="vp8", overwrite=True)
                began = time.perf_counter()
                encode_folder(data, Path(folder, "out.escx"), options)
                values.append(images / (time.perf_counter() - began))
    return rates


def middle(values: list[float]) -> float | None:
    """The median, or None of nothing."""
    return statistics.median(values) if values else None


def ratio(over: list[float], under: list[float]) -> float | None:
    """The median of the ratios of each round, or None without rounds."""
    return middle([a / b for a, b in zip(over, under, strict=False)])


def plot(rows: list[dict[str, Any]], title: str, file: Path) -> None:
    """A bar chart of bytes relative to JBIG1, whole maps and tiles."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.45 * len(rows) + 1.6), layout="constrained")
    places = np.arange(len(rows))[::-1]
    for shift, key, name, colour in (
        (0.2, "of_jbig1", "whole maps", "#1f5f8b"),
        (-0.2, "cut_of_jbig1", f"{CUT} x {CUT} pixels", "#e0903c"),
    ):
        values = [row[key] or 0 for row in rows]
        bars = axes.barh(places + shift, values, 0.38, label=name, color=colour)
        axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=2, fontsize=7)
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_yticks(places, [row["name"] for row in rows], fontsize=8)
    axes.set_xlabel("bytes, JBIG1 = 1")
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--split", default="train", help="the split of DATA, if it has splits")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--title", default="", help="what DATA is, for the results")
    parser.add_argument("--out", type=Path, help="results without their suffix")
    options = parser.parse_args()
    facts = about(data=options.title)
    cv2.setNumThreads(1)

    images = [load_rgb(image.path) for image in scan(options.data, options.split)]
    maps = [cv2.Canny(image, 100, 200) > 0 for image in images]
    cuts = [tile for edges in maps for tile in tiles(edges)][::TILE_STEP]
    middles = [each for each in map(middle_piece, maps) if each is not None]
    coders, missing = peers()
    cut_sizes, _ = measure(coders, [], cuts, 1)
    compared = [coder for coder in coders if coder.name in ("escort context", JBIG1)]
    middle_sizes, _ = measure(compared, [], middles, 1)
    for coder in coders:
        coder.encode_seconds.clear()
        coder.decode_seconds.clear()
    sizes, canny = measure(coders, images, maps, options.rounds)
    rates = encode_rates(options.data, options.split, len(images), options.rounds)

    pixels = sum(edges.size for edges in maps)
    jbig1 = JBIG1
    rows: list[dict[str, Any]] = []
    for coder in coders:
        timed = not coder.slow or coder.decode is not None
        rows.append(
            {
                "name": coder.name,
                "bytes": sizes[coder.name],
                "bits_per_pixel": sizes[coder.name] * 8 / pixels,
                "of_jbig1": sizes[coder.name] / sizes[jbig1] if jbig1 in sizes else None,
                "cut_bytes_per_map": cut_sizes[coder.name] / len(cuts) if cuts else None,
                "cut_of_jbig1": cut_sizes[coder.name] / cut_sizes[jbig1] if jbig1 in cut_sizes and cuts else None,
                "encode_mpixel_s": pixels / 1e6 / statistics.median(coder.encode_seconds) if timed else None,
                "decode_mpixel_s": pixels / 1e6 / statistics.median(coder.decode_seconds) if coder.decode else None,
                "encode_time_of_canny": ratio(coder.encode_seconds, canny) if timed else None,
                "decode_time_of_canny": ratio(coder.decode_seconds, canny),
            }
        )
    by_name = {coder.name: coder for coder in coders}
    fast, small = by_name["escort rle"], by_name["escort context"]
    summary = {
        "context_bytes_of_jbig1": next(row["of_jbig1"] for row in rows if row["name"] == small.name),
        "context_bytes_of_jbig1_cut": next(row["cut_of_jbig1"] for row in rows if row["name"] == small.name),
        "context_bytes_of_jbig1_middle_piece": (
            middle_sizes[small.name] / middle_sizes[jbig1] if jbig1 in middle_sizes and middles else None
        ),
        "context_encode_time_of_canny": ratio(small.encode_seconds, canny),
        "context_decode_time_of_canny": ratio(small.decode_seconds, canny),
        "rle_encode_speed_of_context": ratio(small.encode_seconds, fast.encode_seconds),
        "rle_decode_speed_of_context": ratio(small.decode_seconds, fast.decode_seconds),
        "escort_encode_context_images_s": middle(rates["context"]),
        "escort_encode_rle_images_s": middle(rates["rle"]),
        "escort_encode_context_of_rle": ratio(rates["context"], rates["rle"]),
        "canny_mpixel_s": pixels / 1e6 / statistics.median(canny),
    }

    print(f"{len(maps)} edge maps, {pixels / 1e6:.2f} Mpixel, {np.mean([m.mean() for m in maps]):.1%} edges;", end=" ")
    print(f"{len(cuts)} tiles of {CUT} x {CUT}; {options.rounds} rounds\n")
    heads = (
        ("bytes", 9),
        ("bit/px", 7),
        ("/JBIG1", 7),
        ("64x64", 7),
        ("/JBIG1", 7),
        ("enc Mpx/s", 10),
        ("dec Mpx/s", 10),
    )
    print(f"{'':28}", *(f"{head:>{width}}" for head, width in heads))

    def number(value: float | None, width: int, digits: int) -> str:
        return f"{value:{width}.{digits}f}" if value is not None else f"{'-':>{width}}"

    for row in rows:
        print(
            f"{row['name']:28} {row['bytes']:9d} {row['bits_per_pixel']:7.4f} {number(row['of_jbig1'], 7, 3)}"
            f" {number(row['cut_bytes_per_map'], 7, 1)} {number(row['cut_of_jbig1'], 7, 3)}"
            f" {number(row['encode_mpixel_s'], 10, 1)} {number(row['decode_mpixel_s'], 10, 1)}"
        )
    for line in missing:
        print(f"missing: {line}")
    print()
    for name, value in summary.items():
        print(f"{name:36} {number(value, 9, 3)}")
    if options.out:
        result = {
            "about": facts,
            "maps": len(maps),
            "mpixel": pixels / 1e6,
            "edges": float(np.mean([m.mean() for m in maps])),
            "rounds": options.rounds,
            "missing": missing,
            "coders": rows,
            "summary": summary,
        }
        options.out.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
        plot(rows, f"{options.title or 'Edge maps'}: {len(maps)} maps", options.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
