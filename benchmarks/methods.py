"""The methods that `equal_bytes.py` leaves out, in its protocol: 300 KB of WebP copies, one class order.

    python benchmarks/methods.py DATA [--work work/methods] [--out benchmarks/results/methods.json]

Cosine classifiers want features that may be negative (`cosine_resnet10`) and, where the schedule is short, a higher
learning rate: both are tried. Finished runs are not repeated. `--jobs` of them run at a time, each in one thread; the
accuracies do not depend on it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.about import about
from escort_cil.learners import learners
from escort_cil.run.folder import RunFolder
from escort_cil.run.settings import TrainConfig
from escort_cil.trainer import train

COSINE = "cosine_resnet10"


@dataclass(frozen=True)
class Run:
    """What differs from run to run."""

    method: str
    backbone: str = "resnet10"
    lr: float = 0.05
    epochs: int = 8

    @property
    def name(self) -> str:
        """Its folder."""
        return f"{self.method}-{self.backbone}-{self.lr:g}-{self.epochs}"


RUNS = (
    Run("finetune"),
    Run("foster"),
    Run("bic"),
    Run("podnet"),
    Run("podnet", COSINE),
    Run("podnet", COSINE, lr=0.2),
    Run("lwf"),
    Run("ewc"),
    Run("simplecil"),
    Run("simplecil", COSINE, lr=0.1),
    Run("joint"),
    Run("finetune", epochs=24),
    Run("podnet", COSINE, epochs=24),
)


def config_of(run: Run, data: str, work: Path) -> TrainConfig:
    values: dict[str, Any] = {
        **asdict(run),
        "data": data,
        "image_size": 64,
        "batch_size": 32,
        "seed": 1993,
        "cache": str(work / "cache"),
        "device": "cpu",
        "workers": 1,
        "checkpoint_every": run.epochs,
        "augmentation_prob": 0.0,
    }
    if learners.get(run.method).uses_memory:
        values |= {"budget": "300KB", "keep": "webp:64:20"}
    return TrainConfig(**values)


def measured(run: Run, data: str, work: Path) -> dict[str, Any]:
    """The run's figures, in percent, and its seconds of one core."""
    folder = work / run.name
    cost = folder / "seconds.json"
    if not cost.exists():
        used = time.process_time()
        train(config_of(run, data, work), out=folder, force=True)
        cost.write_text(json.dumps(time.process_time() - used))
    last = RunFolder(folder).read_metrics()[-1]
    return {
        **asdict(run),
        "linear": last["average_incremental_accuracy"],
        "nearest_mean": last["nme_average_incremental_accuracy"],
        "memory_bytes": last["memory_bytes"],
        "cpu_seconds": round(json.loads(cost.read_text()), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="folder with train/ and test/")
    parser.add_argument("--work", type=Path, default=Path("work/methods"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/methods.json"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    rows = []
    with ProcessPoolExecutor(args.jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for row in pool.map(partial(measured, data=args.data, work=args.work), RUNS):
            print(json.dumps(row), flush=True)
            rows.append(row)
    args.out.write_text(json.dumps({"about": about(torch_threads=1), "runs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
