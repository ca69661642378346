"""A learned picture: some 60 to 800 bytes for 64 to 128 pixels, of any size and aspect ratio (spec/latent-1.md).

``u8 model, u8 quality, height - 1, width - 1`` (a byte each below 128, else two), then the coded latents.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from escort_codec.errors import DamagedError, EscortError, LimitError, UsageError
from escort_codec.hint import thumbnail_shape
from escort_codec.latent.tables import BLOCK, CHANNELS, MODEL, QUALITIES, load_costs, load_tables
from escort_codec.limits import MAX_LATENT, MAX_LATENT_SIDE
from escort_codec.workers import compiling

if TYPE_CHECKING:
    from PIL import Image

DEFAULT_QUALITY: Final = 32
LEAST_BYTES: Final = 32
"""The least that may be requested: any picture of one position fits."""
WEIGHT: Final = 10.0
"""The encoder's price in bits of a squared error of one cell, when it rounds a latent."""


@dataclass(frozen=True, slots=True)
class LatentHead:
    """The head of a learned picture. ``size`` is (height, width), ``start`` the offset of the latents."""

    model: int
    quality: int
    size: tuple[int, int]
    start: int

    @property
    def positions(self) -> tuple[int, int]:
        """Rows and columns of latents."""
        return -(-self.size[0] // BLOCK), -(-self.size[1] // BLOCK)


@functools.cache
def _kernels() -> ModuleType:
    with compiling("the coder of learned pictures"):
        from escort_codec.latent import kernels
    return kernels


def prepare() -> None:
    """Reads the tables; compiles the kernels or loads them from the cache. Call it once before workers start."""
    load_costs()
    _kernels()


def encode_latent(
    rgb: NDArray[np.uint8] | Image.Image,
    side: int | None = None,
    *,
    quality: int = DEFAULT_QUALITY,
    most_bytes: int | None = None,
) -> bytes:
    """An image as a learned picture: uint8 RGB (H, W, 3) with H, W >= 1, or a Pillow image of mode RGB.

    ``side`` is the longer side of the picture in pixels (1..1024); a smaller image keeps its size. ``quality`` is 0 to
    63. With ``most_bytes`` (32 or more) it is the highest one that fits; if none fits, the side is reduced.
    Raises UsageError for other values.
    """
    pixels = reduced(rgb, side)
    if most_bytes is None:
        if not 0 <= quality < QUALITIES:
            raise UsageError(f"give 0 to {QUALITIES - 1}", setting="quality", value=quality)
        return _encode(pixels, quality)
    if most_bytes < LEAST_BYTES:
        raise UsageError(f"give at least {LEAST_BYTES}", setting="most_bytes", value=most_bytes)
    while len(best := _encode(pixels, 0)) > most_bytes:
        pixels = reduced(rgb, max(1, 3 * max(pixels.shape[:2]) // 4))
    low, high = 1, QUALITIES - 1
    while low <= high:  # the length rises with the quality, with few exceptions
        middle = (low + high) // 2
        data = _encode(pixels, middle)
        if len(data) <= most_bytes:
            best, low = data, middle + 1
        else:
            high = middle - 1
    return best


def reduced(rgb: NDArray[np.uint8] | Image.Image, side: int | None) -> NDArray[np.uint8]:
    """The pixels of an image, reduced to a longer side of at most ``side``: uint8 RGB. Raises UsageError."""
    from PIL import Image

    if isinstance(rgb, np.ndarray):
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
            raise UsageError(f"a learned picture needs a uint8 image (H, W, 3), not {rgb.dtype} {tuple(rgb.shape)}")
    elif rgb.mode != "RGB" or not (rgb.width and rgb.height):
        raise UsageError(f"a learned picture needs an image of mode RGB, not {rgb.mode} {rgb.size}")
    if side is not None and not 1 <= side <= MAX_LATENT_SIDE:
        raise UsageError(f"give 1 to {MAX_LATENT_SIDE} pixels", setting="side", value=side)
    image = Image.fromarray(rgb) if isinstance(rgb, np.ndarray) else rgb
    if side is None and max(image.size) > MAX_LATENT_SIDE:
        raise UsageError(
            f"an image of {image.width} x {image.height} pixels is above {MAX_LATENT_SIDE} a side: give a `side`"
        )
    height, width = thumbnail_shape((image.height, image.width), side or MAX_LATENT_SIDE)
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0))


def _encode(pixels: NDArray[np.uint8], quality: int) -> bytes:
    from escort_codec.latent.networks import analyse

    tables, kernels = load_tables(), _kernels()
    exact = analyse(pixels, quality)
    latents = np.empty(exact.shape, np.int16)
    out = np.empty(exact.size + 16384, np.uint8)
    while (
        written := kernels.encode(tables.arrays, quality, exact, load_costs(), WEIGHT, latents, out)
    ) == kernels.FULL:
        out = np.empty(2 * out.size, np.uint8)
    data = bytes((MODEL, quality, *_length(pixels.shape[0]), *_length(pixels.shape[1]))) + out[:written].tobytes()
    if len(data) > MAX_LATENT:
        raise LimitError(f"a learned picture of {len(data)} bytes is above the cap of {MAX_LATENT}: reduce its side")
    return data


def _length(pixels: int) -> bytes:
    """A side: pixels - 1 in one byte, or its low 7 bits with the highest bit set, and the rest."""
    left = pixels - 1
    return bytes((left,)) if left < 128 else bytes((left & 127 | 128, left >> 7))


def latent_head(data: bytes) -> LatentHead:
    """The head of a learned picture, read without decoding.

    Raises LimitError if length or size is above the caps, DamagedError if it is not the head of a learned picture.
    """
    if len(data) > MAX_LATENT:
        raise LimitError(f"a learned picture of {len(data)} bytes is above the cap of {MAX_LATENT}")
    if data and data[0] != MODEL:
        raise DamagedError(f"a learned picture of model {data[0]} needs a newer escort")
    sides, at = [], 2
    for _ in range(2):
        low = data[at] if at < len(data) else 256
        high = data[at + 1] if low & 128 and at + 1 < len(data) else 0
        if low == 256 or (low & 128 and not high):  # cut off, or not in the shortest form
            raise DamagedError("a learned picture's head is cut off or not in its shortest form")
        sides.append((low & 127 | high << 7) + 1)
        at += 2 if low & 128 else 1
    if data[1] >= QUALITIES:
        raise DamagedError(f"a learned picture of quality {data[1]}, above {QUALITIES - 1}")
    height, width = sides
    if max(sides) > MAX_LATENT_SIDE:
        raise LimitError(f"a learned picture of {width} x {height} pixels is above the cap of {MAX_LATENT_SIDE} a side")
    return LatentHead(MODEL, data[1], (height, width), at)


def latent_fault(data: bytes) -> str | None:
    """Why a learned picture cannot be stored, or None; one of another model is copied as it is."""
    try:
        if data[:1] == bytes([MODEL]):
            latent_head(data)
    except EscortError as exc:
        return str(exc)
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Latents:
    """Decoded latents: ``values`` int16 (h, w, 64), and the prediction of each, relative to its value.

    ``offsets`` are predicted mean minus value, in 1/256 (int16); ``scales`` indices of the logistic's scale (uint8).
    """

    head: LatentHead
    values: NDArray[np.int16]
    offsets: NDArray[np.int16]
    scales: NDArray[np.uint8]


def read_latents(data: bytes) -> Latents:
    """The integers of a learned picture: the same on every machine.

    Raises DamagedError for bytes that ``encode_latent`` does not write, LimitError for a picture above the caps.
    """
    head = latent_head(data)
    kernels = _kernels()
    shape = (*head.positions, CHANNELS)
    found = Latents(head, np.zeros(shape, np.int16), np.zeros(shape, np.int16), np.zeros(shape, np.uint8))
    coded = np.frombuffer(data, np.uint8)[head.start :]
    fault = kernels.decode(load_tables().arrays, head.quality, coded, found.values, found.offsets, found.scales)
    if fault:
        height, width = head.size
        raise DamagedError(f"the latents of a picture of {width} x {height} pixels are damaged")
    return found


def decode_latent(data: bytes, seed: int | None = None) -> NDArray[np.uint8]:
    """The picture: uint8 RGB (h, w, 3). A ``seed`` draws each latent inside its quantisation cell.

    It follows the predicted distribution, so that these pictures have the same latents and are about equally likely.
    Raises DamagedError, LimitError.
    """
    from escort_codec.latent.networks import synthesise

    found = read_latents(data)
    exact = found.values.astype(np.float32)
    if seed is not None:
        exact += drawn(found, seed)
    return synthesise(exact, found.head.quality, found.head.size)


def drawn(found: Latents, seed: int) -> NDArray[np.float32]:
    """Where in its cell, -0.5 to 0.5, a seed puts each latent: float32 (h, w, 64)."""
    generator = np.random.Generator(np.random.PCG64(seed))
    mean = found.offsets.astype(np.float32) / 256
    scale = load_tables().scales[found.scales]
    low, high = (np.clip((edge - mean) / scale, -30, 30) for edge in (np.float32(-0.5), np.float32(0.5)))
    # Computed on the side of the mean where the distribution function is numerically exact.
    flip = np.where(low + high > 0, np.float32(-1), np.float32(1))
    first, last = (1 / (1 + np.exp(-flip * edge)) for edge in (low, high))
    share = first + (last - first) * generator.random(mean.shape, np.float32)
    with np.errstate(divide="ignore"):
        place = mean + scale * flip * np.log(share / (1 - share))
    return np.clip(place, -0.5, 0.5).astype(np.float32)
