"""How fast is the viewer: first thumbnails in a browser, its context decoder and Python's, first screen of a big file?

    python benchmarks/viewer.py DATA [--rounds 9] [--exemplars 20000] [--far 1000000000] [--out FILE]

DATA is a folder for `escort encode`; its prompts, with learned pictures as hints, repeat under new names. `escort view`
serves the file, headless Chromium opens the page with 1920 x 1300 pixels, and a script in the page notes when 40 tiles
show an edge map or a hint, and when 40 show both, in milliseconds from the beginning of the navigation. The first
round starts the browser's processes and is reported apart. Decoders run in turn on the same maps, one core each; the
best of the rounds counts, which other work on the machine disturbs least. `--far` writes a file of about that many
bytes and counts what is read of it, in single ranges, until the first block's names and hints are there. Needs node,
Chromium and its driver.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import escort_codec
from benchmarks.about import about
from escort_codec import Exemplar, Writer
from escort_codec.coding import codings
from escort_codec.encode.folder import encode_folder
from escort_codec.recipe import EncodeOptions
from tests.browser import set_screen, start_browser

SCRIPT = Path(__file__).with_suffix(".mjs")
WATCH = """
addEventListener('DOMContentLoaded', () => {
  window.times = {};
  const look = () => {
    for (const state of ['shown', 'hinted', 'ready']) {
      const tiles = document.querySelectorAll(`.tile.${state}:not([hidden])`).length;
      if (tiles >= 40) times[state] ??= performance.now();
    }
    if (!times.ready) requestAnimationFrame(look);
  };
  look();
});
"""


def write_repeated(path: Path, exemplars: list[Exemplar], count: int) -> None:
    """``count`` of the exemplars, class by class, under new names."""
    by_class: dict[str, list[Exemplar]] = {}
    for exemplar in exemplars:
        by_class.setdefault(exemplar.label, []).append(exemplar)
    with Writer(path) as writer:
        for number in range(count):
            place = number * len(by_class) // count
            members = by_class[list(by_class)[place]]
            exemplar = members[number % len(members)]
            writer.add(replace(exemplar, name=f"{number:07d}-{Path(exemplar.name).name}"))


def first_thumbnails(path: Path, rounds: int, profile: Path) -> list[dict[str, float]]:
    """Milliseconds until 40 tiles are ``shown``, ``hinted`` and ``ready``, for each round."""
    command = [sys.executable, "-m", "cli", "view", str(path), "--no-open"]
    found = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[0]
        with start_browser(profile) as browser:
            set_screen(browser, width=1920, height=1300)
            browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
            for _ in range(rounds + 1):
                browser.get("about:blank")
                browser.get(address)
                end = time.monotonic() + 60
                while "ready" not in (times := browser.execute_script("return window.times ?? {}")):
                    assert time.monotonic() < end, times
                    time.sleep(0.1)
                found.append({key: round(value, 1) for key, value in times.items()})
        server.terminate()
    return found


def decoders(path: Path, rounds: int) -> dict[str, Any]:
    """Speed of the context decoders of node and Python on all maps of a file."""
    with escort_codec.open(path) as reader:
        maps = [(e.payload, e.map_shape) for e in reader if e.kind == "prompt" and e.coding == "context"]
    decode = codings.get("context").decode
    ours, theirs = [], []
    command = ["node", str(SCRIPT), "speed", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as node:
        assert node.stdin is not None
        assert node.stdout is not None
        about = json.loads(node.stdout.readline())
        assert about["maps"] == len(maps)
        for _ in range(rounds + 1):
            started = time.perf_counter()
            for data, shape in maps:
                decode(data, shape)
            ours.append(time.perf_counter() - started)
            node.stdin.write("\n")
            theirs.append(float(node.stdout.readline()))
        node.stdin.close()
    ours, theirs = ours[1:], theirs[1:]  # the first round compiles
    return {
        "maps": len(maps),
        "python_megapixels_per_second": round(about["pixels"] / 1e6 / min(ours), 1),
        "node_megapixels_per_second": round(about["pixels"] / 1e6 / min(theirs), 1),
        "node_to_python": round(min(ours) / min(theirs), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--split", default="train", help="the split of DATA, if it has splits")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--exemplars", type=int, default=20_000)
    parser.add_argument("--far", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    facts = about()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encode_folder(options.data, folder / "small.escx", EncodeOptions(split=options.split))
        with escort_codec.open(folder / "small.escx") as reader:
            exemplars = list(reader)
        write_repeated(folder / "many.escx", exemplars, options.exemplars)
        result: dict[str, Any] = {
            "about": facts,
            "node": subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip(),
            "exemplars": options.exemplars,
            "bytes": (folder / "many.escx").stat().st_size,
        }
        first, *others = first_thumbnails(folder / "many.escx", options.rounds, folder / "profile")
        result["milliseconds"] = {
            "40 thumbnails": statistics.median(each["shown"] for each in others),
            "40 with hint and edge map": statistics.median(each["ready"] for each in others),
            "slowest of the rounds, 40 thumbnails": max(each["shown"] for each in others),
            "first round, 40 thumbnails": first["shown"],
            "first round, 40 with hint and edge map": first["ready"],
        }
        result["decoder"] = decoders(folder / "small.escx", options.rounds)
        if options.far:
            average = sum(len(e.payload) + len(e.hint or b"") for e in exemplars) / len(exemplars)
            write_repeated(folder / "far.escx", exemplars, int(options.far / average))
            command = ["node", str(SCRIPT), "first", str(folder / "far.escx")]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            result["first_screen_far"] = json.loads(done.stdout)
    text = json.dumps(result, indent=2) + "\n"
    print(text, end="")
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
