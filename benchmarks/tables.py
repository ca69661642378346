"""The tables in the pages, made from the results in benchmarks/results.

    python benchmarks/tables.py            # writes them into the pages
    python benchmarks/tables.py --check    # names the pages that are out of date, and fails

A page says where a table goes: everything between `<!-- table: NAME -->` and `<!-- /table -->` is replaced.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ("README.md", "benchmarks/README.md", "docs/*.md")
PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)

MEMORIES = {
    "WebP, 64 pixels (`webp:64:20`)": "webp 64",
    "WebP, 48 pixels (`webp:48:20`)": "webp 48",
    "WebP, 32 pixels (`webp:32:20`)": "webp 32",
    "learned, 64 pixels (`latent:64:40`, the default)": "latent 64",
    "learned, finer (`latent:64:52`)": "latent 64, finer",
    "learned, finest (`latent:64:60`)": "latent 64, finest",
    "AVIF, 64 pixels, payload alone (a peer)": "AVIF 64",
    "sketches with hint": "sketches with hint",
    "prompts with hint": "prompts with hint",
}
SETS = {"caltech20/test": "Caltech-101", "tinyimagenet-160": "Tiny-ImageNet"}
KINDS = ("latent", "prompt", "webp")
README_RATES = (200, 400, 800)
ENCODED = {
    "prompt (edge map, hint)": "prompt",
    "learned picture, `--as latent:64`": "latent:64",
    "WebP, `--as webp:64:20`": "webp:64:20",
}


def result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def number(value: float | None, digits: int = 1, missing: str = "-") -> str:
    return missing if value is None else f"{value:,.{digits}f}"


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table; the first ``left`` columns hold words, the others figures."""
    first, *others = (f"| {' | '.join(row)} |" for row in (heads, *rows))
    rule = "|" + "---|" * left + "--:|" * (len(heads) - left)
    return "\n".join([first, rule, *others])


def accuracy(runs: Sequence[dict[str, Any]], figure: str, **wanted: Any) -> float | None:
    """The mean of a figure of the real view over the runs (methods and orders) with these facts."""
    found = [run for run in runs if all(run[key] == value for key, value in wanted.items())]
    return fmean(run["views"]["real"][figure] for run in found) if found else None


def equal_bytes() -> str:
    runs = [*result("equal_bytes")["runs"], *result("equal_bytes_augmented")["runs"]]
    figure = "average_incremental_accuracy"
    rows = []
    for label, policy in MEMORIES.items():
        values = [
            accuracy(runs, figure, policy=policy, budget=budget, augmentation=augmentation)
            for budget in (100_000, 300_000)
            for augmentation in (0.0, 0.5)
        ]
        kept = [r for r in runs if (r["policy"], r["budget"], r["augmentation"]) == (policy, 100_000, 0)]
        held = [r["memory_real"] + r["memory_prompt"] for r in kept]
        rows.append([label, *map(number, values), number(fmean(held), 0)])
    heads = ("memory", "100 KB", "augmentation 0.5", "300 KB", "augmentation 0.5", "exemplars in 100 KB")
    return markdown(heads, rows)


def methods() -> str:
    rows = []
    for run in result("methods")["runs"]:
        settings = (f"`{run['backbone']}`", str(run["lr"]), str(run["epochs"]))
        figures = (number(run["linear"]), number(run["nearest_mean"]), number(run["cpu_seconds"], 0))
        rows.append([f"`{run['method']}`", *settings, *figures])
    heads = ("method", "backbone", "rate", "epochs", "linear", "nearest mean", "seconds of one core")
    return markdown(heads, rows, left=2)


def latent() -> str:
    sizes = (100, 150, 200, 250, 300, 400, 500, 600)
    rows = []
    for name, entry in result("latent")["curves"].items():
        source, side = name.split(", ")
        ratios = entry["bytes_of_latent_over"]["AVIF"]
        rows.append([f"{SETS[source]}, {side}", *(number(ratios.get(str(size)), 2, "") for size in sizes)])
    return markdown(("bytes", *map(str, sizes)), rows)


def recognised() -> str:
    sizes = (150, 200, 250, 300, 400, 500, 600)
    table = result("recognised")["recognised_at_bytes"]
    ours, theirs = ([table[name][str(size)] for size in sizes] for name in ("latent", "AVIF"))
    rows = [
        ["learned", *map(number, ours)],
        ["AVIF's payload", *map(number, theirs)],
        ["ratio", *(number(a / b if a and b else None, 2) for a, b in zip(ours, theirs, strict=True))],
    ]
    return markdown(("bytes", *map(str, sizes)), rows)


def coding() -> str:
    rows = []
    for row in result("coding")["coders"]:
        ratios = (number(row[key], 3) for key in ("bits_per_pixel", "of_jbig1", "cut_of_jbig1"))
        speeds = (number(row[key], 0) for key in ("encode_mpixel_s", "decode_mpixel_s"))
        rows.append([row["name"], number(row["bytes"], 0), *ratios, *speeds])
    heads = ("coder", "bytes", "bit/pixel", "of JBIG1", "64 x 64 tiles", "encode, Mpixel/s", "decode, Mpixel/s")
    return markdown(heads, rows)


def rate() -> str:
    rows = [
        [
            number(row["rate"], 0),
            number(row["mean_bytes"]),
            number(row["most_bytes"], 0),
            number(row["edge_f"], 3),
            number(row["plain_thresholds_edge_f"], 3),
            number(row["images_per_second_of_a_core"], 0),
        ]
        for name, row in result("rate_fidelity").items()
        if name.startswith("rate control")
    ]
    return markdown(("at most", "mean bytes", "most", "edge F", "plain thresholds", "images/s"), rows, left=0)


def kinds() -> str:
    """The kinds of exemplar at some rates, with the pictures of docs/make_pictures.py."""
    bench = result("rate_fidelity")["bench, photographs"]
    replay = {(row["way"], row["rate"]): row["accuracy"] for row in bench["replay"]}
    rows = []
    for point in sorted(bench["points"], key=lambda each: (each["rate"], each["way"])):
        way, most = point["way"], point["rate"]
        if way in KINDS and most in README_RATES:
            picture = f"![{way}, {most} bytes](docs/pictures/{way}-{most}.webp)"
            figures = (number(point["recognised"]), number(replay.get((way, most))))
            rows.append([number(point["bytes"], 0), way, picture, *figures])
    heads = ("bytes", "kind", "what it looks like", "recognised, %", "replay, %")
    return markdown(heads, rows, left=3)


def rates() -> str:
    variants = result("encode")["variants"]
    rows = []
    for label, name in ENCODED.items():
        one, two = variants[f"{name}, 1 worker"], variants[f"{name}, 2 workers"]
        speeds = (number(each["images_per_second"], 0) for each in (one, two))
        rows.append([label, *speeds, number(one["bytes_per_image"], 0)])
    writing = result("large")["million"]["writing_per_second"]
    decoding = [run for run in result("scale")["runs"] if (run["work"], run["engine"]) == ("decode", "local")]
    rows.append(["writing a file, whatever made the exemplars", number(writing, 0), "-", "-"])
    rows.append(["regeneration with `harmonic`, 96 pixels a side", "-", number(decoding[-1]["per_second"], 0), "-"])
    return markdown(("one image of 69,200 pixels", "one core, images/s", "two cores, images/s", "bytes"), rows)


def scale() -> str:
    runs = result("scale")["runs"]
    rows = []
    for local, ray in zip(runs[::2], runs[1::2], strict=True):
        work = {"encode": "encode", "decode": "decode (`harmonic`)"}[local["work"]]
        memory = " and ".join(number(each["memory"] / 1e6, 0) for each in (local, ray))
        speeds = (number(each["per_second"], 0) for each in (local, ray))
        rows.append([work, number(local["images"], 0), *speeds, f"{100 * ray['overhead']:.0f} %", f"{memory} MB"])
    heads = ("work", "images", "plain, a second", "with Ray, a second", "Ray's extra time", "peak memory of both")
    return markdown(heads, rows)


TABLES: dict[str, Callable[[], str]] = {
    table.__name__: table for table in (coding, equal_bytes, methods, latent, recognised, rate, kinds, rates, scale)
}


def renewed(text: str) -> str:
    """A page's text with its tables made anew."""
    return PLACE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", text)


def pages() -> list[Path]:
    """The pages that have tables."""
    every = (path for pattern in PAGES for path in sorted(ROOT.glob(pattern)))
    return [path for path in every if PLACE.search(path.read_text("utf-8"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    stale = [path for path in pages() if renewed(path.read_text("utf-8")) != path.read_text("utf-8")]
    for path in stale:
        print(path.relative_to(ROOT))
        if not args.check:
            path.write_text(renewed(path.read_text("utf-8")), "utf-8")
    if stale and args.check:
        sys.exit(1)


if __name__ == "__main__":
    main()
