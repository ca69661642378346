"""Trains the network of learned pictures: encoder, decoder and entropy model, one network for all rates.

    python training/train_latent.py OUT --zip tinyimagenet-160.zip --photos caltech40-extra [--steps 60000]

OUT gets ``last.pt`` every few minutes (the run resumes from it), ``log.jsonl`` and at the end ``model.pt``. A picture
is cut into positions of 8 x 8 pixels; each has 32 latents, integers after multiplication with the gains of a level. The
probability of a latent comes from those decoded before it: a causal 5 x 5 neighbourhood and the earlier channels of its
own position. The loss is bytes plus lambda times the squared error, with a level drawn for every picture.
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

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 32
LEVELS = 8
LAMBDAS = [1.2e-4 * (200 ** (level / (LEVELS - 1))) for level in range(LEVELS)]
SIDE = 64
VALIDATION_CLASSES = 8


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        return x + self.second(F.relu(self.first(F.relu(x))))


def make_encoder() -> nn.Sequential:
    """RGB (B, 3, H, W) in -0.5 to 0.5, H and W multiples of 8, to latents (B, 32, H / 8, W / 8)."""
    return nn.Sequential(
        nn.PixelUnshuffle(4),
        nn.Conv2d(48, 64, 3, padding=1),
        *(Residual(64) for _ in range(3)),
        nn.Conv2d(64, 96, 3, stride=2, padding=1),
        *(Residual(96) for _ in range(4)),
        nn.Conv2d(96, CHANNELS, 3, padding=1),
    )


def make_decoder() -> nn.Sequential:
    """The inverse of the encoder, up to what was lost."""
    return nn.Sequential(
        nn.Conv2d(CHANNELS, 96, 3, padding=1),
        *(Residual(96) for _ in range(4)),
        nn.Conv2d(96, 256, 1),
        nn.PixelShuffle(2),
        *(Residual(64) for _ in range(3)),
        nn.Conv2d(64, 48, 3, padding=1),
        nn.PixelShuffle(4),
    )


class EntropyModel(nn.Module):
    """Mean and scale of each latent's logistic distribution from the latents before it, in raster and channel order."""

    def __init__(self, hidden: int = 96) -> None:
        super().__init__()
        self.neighbours = nn.Conv2d(2 * CHANNELS, hidden, 5, padding=2)
        self.level = nn.Embedding(LEVELS, hidden)
        self.middle = nn.Conv2d(hidden, hidden, 1)
        self.out = nn.Conv2d(hidden, 2 * CHANNELS, 1)
        self.earlier_mean = nn.Parameter(torch.zeros(CHANNELS, CHANNELS))
        self.earlier_scale = nn.Parameter(torch.zeros(CHANNELS, CHANNELS))
        mask = torch.zeros(5, 5)
        mask[:2] = 1
        mask[2, :2] = 1
        self.register_buffer("mask", mask)
        self.register_buffer("below", torch.tril(torch.ones(CHANNELS, CHANNELS), -1))

    def forward(self, latents: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Means and scales (B, 32, h, w) for integer latents and levels (B,)."""
        seen = torch.cat([latents, latents.abs()], 1) / 4
        x = F.conv2d(seen, self.neighbours.weight * self.mask, self.neighbours.bias, padding=2)
        x = F.relu(x + self.level(level)[:, :, None, None])
        mean, scale = self.out(F.relu(self.middle(x))).chunk(2, 1)
        mean = mean + torch.einsum("oc,bchw->bohw", self.earlier_mean * self.below, latents)
        scale = scale + torch.einsum("oc,bchw->bohw", self.earlier_scale * self.below, latents.abs().clamp(max=8))
        return mean, F.softplus(scale) + 0.05


class LatentModel(nn.Module):
    """All parts, and the gains of each level and channel."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = make_encoder()
        self.decoder = make_decoder()
        self.entropy = EntropyModel()
        start = torch.tensor([0.5 * math.log(each / LAMBDAS[-1]) for each in LAMBDAS])[:, None].repeat(1, CHANNELS)
        self.log_gain = nn.Parameter(start + math.log(8.0))
        self.log_step = nn.Parameter(-start - math.log(8.0))

    def forward(self, images: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures again (B, 3, H, W), and bits (B,)."""
        scaled = self.encoder(images).float() * self.log_gain[level].exp()[:, :, None, None]
        noisy = scaled + torch.rand_like(scaled) - 0.5 if self.training else scaled.round()
        rounded = scaled + (scaled.round() - scaled).detach()
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            mean, scale = self.entropy(rounded.detach() if not self.training else rounded, level)
            upper, lower = (noisy - mean + 0.5) / scale, (noisy - mean - 0.5) / scale
            flip = torch.where(upper + lower > 0, -1.0, 1.0)
            probability = (torch.sigmoid(flip * upper) - torch.sigmoid(flip * lower)).abs()
            bits = -torch.log2(probability.clamp(min=1e-7)).sum((1, 2, 3))
        shown = self.decoder(rounded * self.log_step[level].exp()[:, :, None, None])
        return shown.float(), bits


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


class Pictures:
    """Random squares of 64 pixels: small pictures as they are, photographs at a random size."""

    def __init__(self, small: list[bytes], photographs: list[Path], seed: int) -> None:
        self._small = np.stack([decode(data) for data in small if Image.open(io.BytesIO(data)).size == (SIDE, SIDE)])
        self._large = [Image.open(path).convert("RGB") for path in photographs]
        self._random = random.Random(seed)

    def batch(self, size: int, share: float = 0.3) -> Tensor:
        """(size, 3, 64, 64) in -0.5 to 0.5; a ``share`` of them cut from photographs."""
        rows = []
        for _ in range(size):
            if self._large and self._random.random() < share:
                pixels = self._cut(self._random.choice(self._large))
            else:
                pixels = self._small[self._random.randrange(len(self._small))]
            rows.append(pixels[:, ::-1] if self._random.random() < 0.5 else pixels)
        return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).float() / 255 - 0.5

    def _cut(self, image: Image.Image) -> np.ndarray:
        short = min(image.size)
        target = min(short, round(SIDE * 2 ** self._random.uniform(0, 1.5)))
        cut = SIDE * short / target
        left, top = (self._random.uniform(0, extent - cut) for extent in image.size)
        box = (left, top, left + cut, top + cut)
        return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=box))


@torch.no_grad()
def validate(model: LatentModel, images: Tensor) -> list[dict[str, float]]:
    """Mean bytes and PSNR of the mean squared error for every level."""
    model.eval()
    rows = []
    for number in range(LEVELS):
        errors, bits = [], []
        for batch in images.split(100):
            shown, cost = model(batch, torch.full((len(batch),), number))
            errors.append(
                ((shown.clamp(-0.5, 0.5) + 0.5).mul(255).round() / 255 - batch - 0.5).square().mean((1, 2, 3))
            )
            bits.append(cost)
        mse = float(torch.cat(errors).mean())
        rows.append({"bytes": round(float(torch.cat(bits).mean()) / 8, 1), "psnr": round(-10 * math.log10(mse), 3)})
    model.train()
    return rows


def avif_curve(images: Tensor) -> list[dict[str, float]]:
    """The same for AVIF's bare payload (the ``mdat`` box), libaom at speed 4."""
    rows = []
    for quality in (1, 5, 10, 20, 30, 40, 50, 60):
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


def main() -> None:
    """Trains, or goes on with what OUT holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--zip", type=Path, required=True, help="stored JPEG files <class>/<file> of 64 x 64 pixels")
    parser.add_argument("--photos", type=Path, help="folder of photographs <class>/<file>")
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--every", type=int, default=2000, help="steps between validations")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    training, held = load_zip(options.zip)
    photographs = sorted(options.photos.glob("*/*.jpg")) if options.photos else []
    held = held[:: max(1, len(held) // 400)][:400]
    seen = torch.from_numpy(np.stack([decode(data) for data in held])).permute(0, 3, 1, 2).float() / 255 - 0.5
    avif = avif_curve(seen)
    model = LatentModel().to(options.device, memory_format=torch.channels_last)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    adam = torch.optim.Adam(model.parameters(), options.lr, betas=(0.9, 0.99))
    step, last = 0, options.out / "last.pt"
    if last.exists():
        held_state = torch.load(last, weights_only=True, map_location=options.device)
        model.load_state_dict(held_state["model"])
        adam.load_state_dict(held_state["adam"])
        average, step = held_state["average"], held_state["step"]
    pictures = Pictures(training, photographs, options.seed + step)
    lambdas = torch.tensor(LAMBDAS, device=options.device)
    log = (options.out / "log.jsonl").open("a")
    if not step:
        log.write(json.dumps({"avif": avif, "parameters": sum(p.numel() for p in model.parameters())}) + "\n")
    started, first = time.monotonic(), step
    while step < options.steps:
        progress = step / options.steps
        rate = options.lr * min(1.0, (step + 1) / 500) * max(0.01, 0.5 + 0.5 * math.cos(math.pi * progress))
        for group in adam.param_groups:
            group["lr"] = rate
        images = pictures.batch(options.batch).to(options.device, memory_format=torch.channels_last)
        level = torch.randint(LEVELS, (options.batch,), device=options.device)
        with torch.autocast(options.device, dtype=torch.bfloat16):
            shown, bits = model(images, level)
        error = 255**2 * (shown - images).square().mean((1, 2, 3))
        # Each level's loss is divided by what its error weighs, so that no level drowns the others.
        loss = ((bits / SIDE**2 + lambdas[level] * error) / lambdas[level].pow(0.5)).mean()
        adam.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 20.0)
        if torch.isfinite(norm):
            adam.step()
        step += 1
        decay = min(0.9995, step / (step + 10))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - decay) if value.is_floating_point() else average[name].copy_(value)
        if step % options.every == 0 or step == options.steps:
            live = {name: value.clone() for name, value in model.state_dict().items()}
            model.load_state_dict(average)
            curve = validate(model, seen.to(options.device))
            model.load_state_dict(live)
            of_avif = [
                None if (avif_bytes := bytes_at(avif, each["psnr"])) is None else round(each["bytes"] / avif_bytes, 3)
                for each in curve
            ]
            row = {
                "step": step,
                "pictures_per_second": round((step - first) * options.batch / (time.monotonic() - started), 1),
                "loss": round(float(loss.detach()), 4),
                "curve": curve,
                "of_avif": of_avif,
            }
            log.write(json.dumps(row) + "\n")
            log.flush()
            state = {"model": live, "adam": adam.state_dict(), "average": average, "step": step}
            torch.save(state, options.out / "next.pt")
            (options.out / "next.pt").replace(last)
    torch.save(average, options.out / "model.pt")


if __name__ == "__main__":
    main()
