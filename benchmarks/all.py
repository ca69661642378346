"""Measures everything that the pages quote, one script after the other, with the options that they name.

    python benchmarks/all.py DATA [--pictures TINYIMAGENET.zip] [--only coding encode ...] [--work work/benchmarks]

DATA is a folder with train/ and test/. Scripts that time themselves come first. Each one's output is in WORK/NAME.log,
its result in benchmarks/results. Nothing else should run on the machine: it takes some hours of two cores. A script
that fails is named at the end; the others run. `latent` needs the zip of pictures; `regenerate` needs a GPU and is left
out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path("benchmarks/results")


def commands(data: Path, pictures: Path | None, work: Path) -> dict[str, list[list[str]]]:
    """What is run under each name: scripts and their options."""
    source, equal = str(data), ["--work", str(work / "equal_bytes")]
    augmented = ["--augmentation", "0.5", "--out", str(RESULTS / "equal_bytes_augmented")]
    auto = ["--policies", "auto", "--budgets", "100KB", "--augmentation", "0", "--out", str(RESULTS / "auto")]
    found = {
        "coding": [["coding", source, "--split", "test", "--rounds", "3", "--out", str(RESULTS / "coding")]],
        "encode": [["encode", source, "--repeats", "10", "--out", str(RESULTS / "encode.json")]],
        "viewer": [["viewer", source, "--split", "test", "--out", str(RESULTS / "viewer.json")]],
        "large": [["large", "--out", str(RESULTS / "large.json")]],
        "data_path": [
            ["data_path", source, "--rounds", "3", "--data-only", "--out", str(RESULTS / "data_path.json")],
            ["data_path", source, "--sharpness", "--out", str(RESULTS / "data_path.json")],
        ],
        "scale": [["scale", "--out", str(RESULTS / "scale.json")]],
        "networks": [["networks", "--out", str(RESULTS / "networks.json")]],
        "rate_fidelity": [["rate_fidelity", source, "--bench", "--replay", "--anew"]],
        "recognised": [["recognised", str(data / "test"), "--limit", "150"]],
        "equal_bytes": [
            ["equal_bytes", source, "--augmentation", "0", *equal],
            ["equal_bytes", source, *augmented, *equal],
            ["equal_bytes", source, "--methods", "icarl", *auto, *equal],
        ],
        "methods": [["methods", source, "--work", str(work / "methods")]],
    }
    if pictures:
        found["latent"] = [["latent", str(data / "test"), str(pictures), "--last", "1600", "--limit", "100"]]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--work", type=Path, default=Path("work/benchmarks"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    every = commands(args.data, args.pictures, args.work)
    if unknown := set(args.only or ()) - set(every):
        parser.error(f"{', '.join(sorted(unknown))}: give some of {', '.join(every)}")
    failed = []
    for name in args.only or every:
        began = time.monotonic()
        with (args.work / f"{name}.log").open("w") as log:
            for script, *options in every[name]:
                command = [sys.executable, f"benchmarks/{script}.py", *options]
                if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
                    failed.append(name)
                    break
        minutes = (time.monotonic() - began) / 60
        print(f"{name}: {'failed' if name in failed else 'measured'} in {minutes:.1f} minutes, {log.name}", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
