"""Trains a prior of coding 2 (``context``) on photographs: ``python training/train_prior.py DATA... --out FILE``.

Turns every image under each DATA into edge maps (Canny, OpenCV) of many sizes: native size, native times a random
factor, short sides 64, 128, 256 and 512, and the size of preset ``lowres``; mirrored at random, and with both
thresholds times a random factor. Then trains all tables together, as one logistic model, by stochastic gradient descent
(AdaGrad; Duchi, Hazan and Singer, 2011) on the pixels that the coder codes, with gain and biases adapting as they do in
the coder. One thread and one seed: the same images, libraries and machine give the same file.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from escort_codec.coding.base import EdgeMap
from escort_codec.coding.context import (
    BLOCK,
    ENTRIES,
    GAIN_RATE_SHIFT,
    NARROW_RATE,
    QUIET,
    RATE_SHIFT,
    REACH,
    RING,
    STEP,
    WIDE_RATE,
    WINDOWS,
    pack_prior,
)
from escort_codec.coding.context_kernels import HERE, N_CONTEXTS, NARROW, WIDE, note_row, prepare_row
from escort_codec.source import load_rgb
from escort_codec.workers import kernel

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"}
N_WINDOWS = len(WINDOWS)
F = np.float32


@dataclass(frozen=True, slots=True)
class Training:
    """All that a prior depends on besides its images."""

    seed: int = 1
    rounds: int = 2
    """How often each image is used, each time with other sizes and thresholds."""
    rate: float = 0.3
    last_rate: float = 0.01
    jitter: float = 0.4
    """The factor of the size is between exp(-jitter) and exp(jitter)."""
    threshold_jitter: float = 0.2


@kernel()
def _descend(
    pixels: NDArray[np.uint8],
    tables: NDArray[np.float32],
    squares: NDArray[np.float32],
    rate: np.float32,
) -> tuple[float, int]:
    """One step per coded pixel of a map (0 or 1 each). Returns their cost in bits before the step, and their number."""
    height, width = pixels.shape
    columns = np.zeros((RING, width + REACH), np.uint16)
    contexts = np.zeros((N_CONTEXTS, width), np.uint16)
    near = np.zeros(width, np.uint16)
    bias = np.zeros(WIDE + NARROW, np.float32)
    gain = np.float32(1)
    slope_of_gain = np.float32(0)
    one = np.float32(1)
    wide_rate = np.float32(WIDE_RATE / (1 << RATE_SHIFT))
    narrow_rate = np.float32(NARROW_RATE / (1 << RATE_SHIFT))
    gain_rate = np.float32(1 / (1 << GAIN_RATE_SHIFT))
    bits, count = 0.0, 0
    places = np.zeros(N_CONTEXTS, np.int64)
    for y in range(height):
        row = pixels[y]
        prepare_row(y, columns, contexts, near)
        x, held, zeros = 0, 0, QUIET
        while x < width:
            if zeros >= QUIET and near[x] == 0:
                length = min(BLOCK, width - x)
                first = 0
                while first < length and row[x + first] == 0:
                    first += 1
                if first == length:
                    held = 0
                    x += length
                else:
                    held = 1
                    zeros = 0
                    x += first + 1
                continue
            static = np.float32(0)
            for i in range(N_CONTEXTS):
                places[i] = contexts[i, x] | (held & HERE[i])
            for i in range(N_WINDOWS):
                static += tables[i, places[i]]
            wide, narrow = places[N_WINDOWS], WIDE + places[N_WINDOWS + 1]
            logit = static * gain + bias[wide] + bias[narrow]
            logit = min(max(logit, np.float32(-9.5)), np.float32(9.5))
            p = one / (one + np.exp(-logit))
            bit = int(row[x])
            error = np.float32(bit) - p
            bits -= np.log2(p if bit else one - p)
            count += 1
            bias[wide] += wide_rate * error
            bias[narrow] += narrow_rate * error
            slope = error * gain
            for i in range(N_WINDOWS):
                squares[i, places[i]] += slope * slope
                tables[i, places[i]] += rate * slope / np.sqrt(squares[i, places[i]])
            slope_of_gain += error * static
            held = ((held << 1) | bit) & 0xFFFF
            zeros = 0 if bit else zeros + 1
            x += 1
        gain += gain_rate * slope_of_gain
        slope_of_gain = np.float32(0)
        note_row(row, columns[y % RING])
    return bits, count


def edge_map(rgb: NDArray[np.uint8], height: int, width: int, factor: float) -> EdgeMap:
    """Canny of the image at that size, with thresholds 100 and 200 times ``factor``."""
    if (height, width) != rgb.shape[:2]:
        smaller = height * width < rgb.shape[0] * rgb.shape[1]
        rgb = cv2.resize(  # type: ignore[assignment]
            rgb, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LANCZOS4
        )
    return np.asarray(cv2.Canny(rgb, 100 * factor, 200 * factor) != 0)


def sizes(height: int, width: int, training: Training, draw: np.random.Generator) -> list[tuple[int, int]]:
    """The sizes at which an image is used in one round."""
    short = min(height, width)
    factors = [1.0, float(np.exp(draw.uniform(-training.jitter, training.jitter)))]
    factors += [side / short for side in (64, 128)]
    factors.append((256, 512)[int(draw.integers(4)) == 0] / short)  # 512 is expensive: one in four
    found = [(max(1, round(height * f)), max(1, round(width * f))) for f in factors]
    found.append((max(64, round(height * 256 / short / 64) * 64), max(64, round(width * 256 / short / 64) * 64)))
    return found


def train(images: list[NDArray[np.uint8]], training: Training) -> NDArray[np.float32]:
    """The tables, float32 (windows, 65536), in units of the logit."""
    draw = np.random.default_rng(training.seed)
    tables = np.zeros((N_WINDOWS, ENTRIES), F)
    squares = np.ones_like(tables)
    steps = training.rounds * len(images)
    step = 0
    for number in range(training.rounds):
        began, bits, count, pixels = time.monotonic(), 0.0, 0, 0
        for which in draw.permutation(len(images)):
            rgb = images[which]
            rate = F(training.rate * (training.last_rate / training.rate) ** (step / steps))
            for height, width in sizes(rgb.shape[0], rgb.shape[1], training, draw):
                factor = float(np.exp(draw.uniform(-training.threshold_jitter, training.threshold_jitter)))
                edges = edge_map(rgb, height, width, factor)
                if draw.random() < 0.5:
                    edges = edges[:, ::-1]
                map_bits, map_count = _descend(np.ascontiguousarray(edges).view(np.uint8), tables, squares, rate)
                bits += map_bits
                count += map_count
                pixels += edges.size
            step += 1
        print(
            f"round {number + 1}: {pixels / 1e6:.0f} Mpixel, {count / 1e6:.0f} M coded one by one,"
            f" {bits / pixels:.4f} bits per pixel, {time.monotonic() - began:.0f} s",
            flush=True,
        )
    return tables


def main() -> None:
    """Trains a prior and writes its file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, help="folders of images, searched recursively")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=Training().seed)
    parser.add_argument("--rounds", type=int, default=Training().rounds)
    arguments = parser.parse_args()
    training = Training(seed=arguments.seed, rounds=arguments.rounds)
    cv2.setNumThreads(1)
    paths = sorted(path for root in arguments.data for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    images = [load_rgb(path) for path in paths]
    tables = train(images, training)
    data = pack_prior(np.clip(np.rint(tables * STEP), -127, 127).astype(np.int8))
    arguments.out.write_bytes(data)
    print(f"{len(paths)} images; {arguments.out}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
