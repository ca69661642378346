"""How fast do images reach the network, against the usual way: decode and transform each image anew in two workers?

    python benchmarks/data_path.py DATA [--rounds 5] [--out benchmarks/results/data_path.json]
    python benchmarks/data_path.py DATA --sharpness [--out benchmarks/results/data_path.json]

The usual way is PyCIL's, written here from its description: an ImageFolder-like dataset that opens a file with Pillow,
the transforms one image at a time, and a torch DataLoader with two worker processes that are started anew for each
epoch. Ours is `escort_cil.data.pictures` (at 224) or `escort_cil.data.store` (at 64), filled before the clock starts,
but for "first epoch", and `escort_cil.augment`.
Both do the same: at 64 the whole image resized, crop of 64 from 64 + 2 x 8, flip, brightness; at 224 random resized
crop, flip, brightness, AutoAugment's ImageNet policy; then normalisation. Batches of 128.

"data" is three passes over DATA's training images within one epoch, without a network; "epoch" is one pass;
"first epoch" is ours with an empty store, decoding included; "training" is one epoch of resnet10 (SGD) on the CPU.
Each way has a process of its own, and they take turns; each ratio is that of two runs of one round, and the median over
the rounds is quoted.
"--sharpness" measures instead how sharp the crops at 224 are: the energy of their edges over that of torchvision's
random resized crop of the original with the same box, and the bytes that an image takes in the store.

Beside the time that passed stands the processors' time (all threads and workers): where a machine has other things to
do, it is the steadier of the two.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.about import about
from escort_cil.augment import Transform, augment, transforms
from escort_cil.augment.crops import ATTEMPTS, crop_boxes, crop_pictures
from escort_cil.augment.policy import IMAGENET_POLICY, image_operations
from escort_cil.data.base import Store
from escort_cil.data.pictures import training_store
from escort_cil.networks import backbone_maker
from escort_codec.source import load_image, scan

BATCH = 128
PASSES = 3
WAYS = ("usual", "ours")
PARTS = ("data", "epoch", "first epoch", "training")
GREY = (128, 128, 128)


class PerImage(Dataset[tuple[Tensor, int]]):
    """Opens, converts and transforms one image at a time with Pillow, ``passes`` times over the files."""

    def __init__(self, files: list[Path], labels: list[int], transform: Transform, passes: int) -> None:
        self.files, self.labels, self.transform, self.passes = files, labels, transform, passes
        self.mean = torch.tensor(transform.mean).view(3, 1, 1)
        self.std = torch.tensor(transform.std).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.files) * self.passes

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        index %= len(self.files)
        with self.files[index].open("rb") as file:
            image = Image.open(file).convert("RGB")
        transform = self.transform
        image = resized_crop(image, transform) if transform.crop == "resized" else padded_crop(image, transform)
        if random.random() < transform.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        factor = random.uniform(1 - transform.brightness, 1 + transform.brightness)
        image = ImageEnhance.Brightness(image).enhance(factor)
        if transform.auto_augment:
            for name, chance, level in random.choice(IMAGENET_POLICY):
                if random.random() < chance:
                    image = by_pillow(name, image, image_operations.get(name).magnitude(level, random.choice((-1, 1))))
        pixels = torch.from_numpy(np.array(image, np.uint8)).permute(2, 0, 1).contiguous()
        return pixels.float().div_(255).sub_(self.mean).div_(self.std), self.labels[index]


def padded_crop(image: Image.Image, transform: Transform) -> Image.Image:
    size, padding = transform.size, transform.padding
    image = image.resize((size, size), Image.Resampling.BILINEAR)
    image = ImageOps.expand(image, padding)
    left, top = random.randint(0, 2 * padding), random.randint(0, 2 * padding)
    return image.crop((left, top, left + size, top + size))


def resized_crop(image: Image.Image, transform: Transform) -> Image.Image:
    w, h = image.size
    left, top, width, height = 0, 0, w, h
    for _ in range(10):
        area = w * h * random.uniform(*transform.scale)
        ratio = math.exp(random.uniform(math.log(transform.ratio[0]), math.log(transform.ratio[1])))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if width <= w and height <= h:
            left, top = random.randint(0, w - width), random.randint(0, h - height)
            break
    else:
        width, height = min(w, round(h * transform.ratio[1])), min(h, round(w / transform.ratio[0]))
        left, top = (w - width) // 2, (h - height) // 2
    crop = image.crop((left, top, left + width, top + height))
    return crop.resize((transform.size, transform.size), Image.Resampling.BILINEAR)


def by_pillow(name: str, image: Image.Image, m: float) -> Image.Image:
    """The operations of the ImageNet policy."""
    match name:
        case "ShearX":
            bicubic = Image.Resampling.BICUBIC
            return image.transform(image.size, Image.Transform.AFFINE, (1, m, 0, 0, 1, 0), bicubic, fillcolor=GREY)
        case "Rotate":
            return image.rotate(m, fillcolor=GREY)
        case "Color" | "Contrast" | "Sharpness":
            enhanced: Image.Image = getattr(ImageEnhance, name)(image).enhance(m)
            return enhanced
        case "Posterize":
            return ImageOps.posterize(image, round(m))
        case "Solarize":
            return ImageOps.solarize(image, round(m))
        case "AutoContrast":
            return ImageOps.autocontrast(image)
        case "Equalize":
            return ImageOps.equalize(image)
        case "Invert":
            return ImageOps.invert(image)
    raise ValueError(name)


def usual(files: list[Path], labels: list[int], transform: Transform, passes: int) -> Iterator[tuple[Tensor, Tensor]]:
    data = PerImage(files, labels, transform, passes)
    yield from DataLoader(data, BATCH, shuffle=True, num_workers=2, multiprocessing_context="fork")


def ours(
    store: Store,
    ids: Tensor,
    labels: Tensor,
    transform: Transform,
    passes: int,
    generator: torch.Generator,
    out: Tensor,
) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.cat([torch.randperm(len(ids), generator=generator) for _ in range(passes)])
    for i in range(0, len(order), BATCH):
        batch = order[i : i + BATCH]
        pixels, aspects = store.batch(ids[batch])
        yield augment(pixels, aspects, transform, generator, out=out[: len(batch)]), labels[batch]


def consume(batches: Iterator[tuple[Tensor, Tensor]]) -> None:
    for _ in batches:
        pass


def train(network: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    for images, labels in batches:
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(network(images), labels))
        optimizer.step()


def usual_parts(size: int, files: list[Path], names: list[int]) -> dict[str, Callable[[], None]]:
    transform, network = transform_of(size), network_of(names)
    return {
        "data": lambda: consume(usual(files, names, transform, PASSES)),
        "epoch": lambda: consume(usual(files, names, transform, 1)),
        "first epoch": lambda: consume(usual(files, names, transform, 1)),
        "training": lambda: train(network, usual(files, names, transform, 1)),
    }


def our_parts(size: int, files: list[Path], names: list[int]) -> dict[str, Callable[[], None]]:
    transform, network = transform_of(size), network_of(names)
    generator, labels = torch.Generator().manual_seed(0), torch.tensor(names)
    out = torch.empty(BATCH, 3, size, size)  # a training loop has one, too
    store = training_store(transform)
    ids = store.add(list(files))

    def mine(passes: int) -> Iterator[tuple[Tensor, Tensor]]:
        return ours(store, ids, labels, transform, passes, generator, out)

    def first_epoch() -> None:
        fresh = training_store(transform)
        consume(ours(fresh, fresh.add(list(files)), labels, transform, 1, generator, out))

    return {
        "data": lambda: consume(mine(PASSES)),
        "epoch": lambda: consume(mine(1)),
        "first epoch": first_epoch,
        "training": lambda: train(network, mine(1)),
    }


def transform_of(size: int) -> Transform:
    return transforms.get("large" if size == 224 else "small")(size)


def network_of(names: list[int]) -> nn.Module:
    backbone = backbone_maker("resnet10")()
    return nn.Sequential(backbone, nn.Linear(backbone.feature_dim, max(names) + 1))


def edge_energy(image: Image.Image) -> float:
    """The mean squared difference of neighbouring pixels."""
    pixels = np.asarray(image).astype(np.float64)
    return float(sum((np.diff(pixels, axis=axis) ** 2).mean() for axis in (0, 1)))


def sharpness(files: list[Path]) -> dict[str, float]:
    """Edge energy of our crops at 224 over that of crops of the originals: median, 5th and 95th percentile."""
    transform = transforms.get("large")(224)
    store = training_store(transform)
    pictures, aspects = store.batch(store.add(list(files)))
    assert not isinstance(pictures, Tensor)
    draws = torch.rand(len(files), 2 * ATTEMPTS + 2, generator=torch.Generator().manual_seed(0))
    boxes = crop_boxes(draws, aspects, transform.scale, transform.ratio)
    plain = torch.zeros(len(files), dtype=torch.bool), torch.ones(len(files))
    crops = crop_pictures(pictures, boxes, *plain, transform.size)
    ratios = []
    for file, box, crop in zip(files, boxes.tolist(), crops, strict=True):
        original = load_image(file)
        left, top = round(box[0] * original.width), round(box[1] * original.height)
        right = left + max(1, round(box[2] * original.width))
        bottom = top + max(1, round(box[3] * original.height))
        usual = original.crop((left, top, right, bottom)).resize((224, 224), Image.Resampling.BILINEAR)
        ratios.append(edge_energy(Image.fromarray(crop.permute(1, 2, 0).numpy())) / edge_energy(usual))
    found = dict(zip(("median", "5 %", "95 %"), np.percentile(ratios, [50, 5, 95]).round(3).tolist(), strict=True))
    return found | {"bytes an image": round(store.memory_bytes / len(files))}


def clocks() -> tuple[float, float]:
    """Seconds passed, and processor seconds of this process and of its workers that have ended."""
    times = os.times()
    return time.perf_counter(), times.user + times.system + times.children_user + times.children_system


def serve(pipe: Connection, way: str, size: int, files: list[Path], names: list[int]) -> None:
    """Runs the parts that it is asked for, and answers with the seconds passed and those of the processors."""
    parts = (usual_parts if way == "usual" else our_parts)(size, files, names)
    for part in iter(pipe.recv, None):
        before = clocks()
        parts[part]()
        after = clocks()
        pipe.send((after[0] - before[0], after[1] - before[1]))


def measured(
    size: int, files: list[Path], names: list[int], parts: list[str], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds passed and processor seconds by "part, way", each way in a process of its own."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for way in WAYS:
        pipes[way], theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(theirs, way, size, files, names)))
        processes[-1].start()
    passed: dict[str, list[float]] = {f"{part}, {way}": [] for part in parts for way in WAYS}
    worked: dict[str, list[float]] = {f"{part}, {way}": [] for part in parts for way in WAYS}
    for round_ in range(rounds + 1):  # the first fills the caches of the disk and of the processor
        for part in parts:
            for way in WAYS:
                pipes[way].send(part)
                seconds = pipes[way].recv()
                if round_:
                    passed[f"{part}, {way}"].append(seconds[0])
                    worked[f"{part}, {way}"].append(seconds[1])
    for pipe in pipes.values():
        pipe.send(None)
    for process in processes:
        process.join()
    return passed, worked


def ratios(seconds: dict[str, list[float]]) -> dict[str, tuple[float, float, float]]:
    """How many times as fast ours is, by part: median, least, most of the rounds."""
    table = {}
    for part in PARTS:
        if f"{part}, usual" in seconds:
            rounds = [a / b for a, b in zip(seconds[f"{part}, usual"], seconds[f"{part}, ours"], strict=True)]
            table[part] = (statistics.median(rounds), min(rounds), max(rounds))
    return table


def compared(seconds: dict[str, list[float]]) -> dict[str, object]:
    return {
        "times as fast (median, least, most)": {k: [round(x, 2) for x in v] for k, v in ratios(seconds).items()},
        "seconds": {name: [round(v, 3) for v in values] for name, values in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--name", default="", help="what to call the data set in the results")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224], choices=[64, 224])
    parser.add_argument("--data-only", action="store_true", help="leave out the training")
    parser.add_argument("--sharpness", action="store_true", help="how sharp the crops are, and nothing else")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    facts = about(torch_threads=torch.get_num_threads())
    images = scan(options.data)
    classes = sorted({image.label for image in images})
    files, labels = [image.path for image in images], [classes.index(image.label) for image in images]

    if options.sharpness:
        found = sharpness(files)
        print(found)
        if options.out:
            known = json.loads(options.out.read_text()) if options.out.exists() else {}
            options.out.write_text(json.dumps(known | {"edge energy of crops at 224": found}, indent=2) + "\n")
        return

    result: dict[str, object] = {
        "data": f"{options.name or Path(options.data).name}, {len(files)} training images",
        "about": facts,
        "batch": BATCH,
        "rounds": options.rounds,
    }
    for size in options.sizes:
        parts = [part for part in PARTS if not (options.data_only and part == "training")]
        passed, worked = measured(size, files, labels, parts, options.rounds)
        count = len(files) * PASSES
        rates = {way: round(count / statistics.median(passed[f"data, {way}"])) for way in WAYS}
        print(f"\n{size} x {size}: images/s, data: usual {rates['usual']}, ours {rates['ours']}")
        result[f"{size}"] = {
            "images/s, data": rates,
            "time passed": compared(passed),
            "processor time": compared(worked),
        }
        for clock, seconds in (("time passed", passed), ("processor time", worked)):
            print(f"{clock}, seconds: median (least to most)")
            for name, values in seconds.items():
                print(f"  {name:20s} {statistics.median(values):8.2f} ({min(values):.2f} to {max(values):.2f})")
            print("  times as fast: median (least to most)")
            for name, (middle, least, most) in ratios(seconds).items():
                print(f"  {name:20s} {middle:8.2f} ({least:.2f} to {most:.2f})")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
