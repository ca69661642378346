"""How fast do the paper's networks train without a GPU?

    python benchmarks/networks.py [--seconds 20] [--out FILE.json]

Steps of training (forward, backward, SGD) on random images, in one thread: images a second, and what torch counts of
multiply-adds for one image forward, which the hours in REPRODUCE.md follow from. A step counts three times that.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.about import about
from escort_cil.networks import IncrementalNet, backbone_maker

# Name in the results: backbone, stem, side of the images, images a step.
NETWORKS = {
    "ResNet-32, 32 pixels": ("resnet32", "cifar", 32, 128),
    "ResNet-18, 224 pixels": ("resnet18", "imagenet", 224, 16),
    "ResNet-18, PyCIL's stem, 224 pixels": ("resnet18", "pycil", 224, 8),
}
CLASSES = 100


def measured(backbone: str, stem: str, side: int, batch: int, seconds: float) -> dict[str, Any]:
    torch.manual_seed(0)
    network = IncrementalNet(backbone_maker(backbone, stem))
    network.grow(CLASSES)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    images, targets = torch.randn(batch, 3, side, side), torch.randint(CLASSES, (batch,))
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        network(images[:1])
    work = counted.get_total_flops() / 2

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images).logits, targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    step()
    steps, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        step()
        steps += 1
    rate = steps * batch / spent
    return {
        "images_per_second": round(rate, 2),
        "million_multiply_adds": round(work / 1e6),
        "gflop_per_second": round(rate * work * 3 * 2 / 1e9, 1),
        "batch": batch,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="of each network")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: measured(*of, seconds=args.seconds) for name, of in NETWORKS.items()}
    text = json.dumps({"about": about(torch_threads=1), "networks": found}, indent=1) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
