"""The two networks of model 1, pixels to latents and back, in OpenCV's ``dnn``. They work at any size."""

from __future__ import annotations

import threading

import cv2
import numpy as np
from numpy.typing import NDArray

from escort_codec.errors import EscortError
from escort_codec.latent.tables import BLOCK, DECODER, ENCODER, QUALITIES, load_tables, read_file

CUT = 4  # pixels per position of the finest layer, in each direction

_OF_THREAD = threading.local()


def _network(name: str) -> cv2.dnn.Net:
    """The network of an installed file; each thread has its own, as they are not thread-safe."""
    held: dict[str, cv2.dnn.Net] = _OF_THREAD.__dict__.setdefault("networks", {})
    if name not in held:
        try:
            held[name] = cv2.dnn.readNetFromONNX(np.frombuffer(read_file(name), np.uint8))
        except cv2.error as exc:
            raise EscortError(f"the installed file {name} is damaged: install escort again ({exc})") from exc
    return held[name]


def _run(name: str, planes: NDArray[np.float32], quality: int) -> NDArray[np.float32]:
    """(C, h, w) through a network that also gets a plane with the quality, 0 to 1."""
    level = np.full((1, *planes.shape[1:]), quality / (QUALITIES - 1), np.float32)
    network = _network(name)
    network.setInput(np.concatenate([planes, level])[None])
    result: NDArray[np.float32] = network.forward()[0]
    return result


def analyse(rgb: NDArray[np.uint8], quality: int) -> NDArray[np.float32]:
    """Latents (ceil(H / 8), ceil(W / 8), 64) of a picture (H, W, 3) in units of their quantisation cells.

    The last row and column are repeated up to whole positions.
    """
    height, width = rgb.shape[:2]
    padded = np.pad(rgb, ((0, -height % BLOCK), (0, -width % BLOCK), (0, 0)), mode="edge")
    rows, columns = padded.shape[0] // CUT, padded.shape[1] // CUT
    cut = padded.reshape(rows, CUT, columns, CUT, 3).transpose(4, 1, 3, 0, 2).reshape(3 * CUT * CUT, rows, columns)
    planes = cut.astype(np.float32) / np.float32(255) - np.float32(0.5)
    latents = _run(ENCODER, planes, quality).transpose(1, 2, 0)
    return np.ascontiguousarray(latents * load_tables().gains[quality])


def synthesise(latents: NDArray[np.float32], quality: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture, uint8 RGB of ``shape`` (H, W), of latents in units of their quantisation cells."""
    scaled = (latents.astype(np.float32) * load_tables().steps[quality]).transpose(2, 0, 1)
    cut = _run(DECODER, np.ascontiguousarray(scaled), quality)
    rows, columns = cut.shape[1:]
    rgb = cut.reshape(3, CUT, CUT, rows, columns).transpose(3, 1, 4, 2, 0).reshape(CUT * rows, CUT * columns, 3)
    grey = np.rint((rgb[: shape[0], : shape[1]] + 0.5) * 255)
    pixels: NDArray[np.uint8] = np.clip(grey, 0, 255).astype(np.uint8)
    return pixels
