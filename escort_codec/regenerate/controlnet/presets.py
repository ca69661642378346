"""The paper's two presets: every number of its scripts except the sizes (``escort_codec.edges``). No torch.

From the scripts published with "ESCORT" (``compress.py`` is ``hires``, ``compress_lowres.py`` is ``lowres``) and
ControlNet 1.0 (Zhang, Rao, Agrawala 2023), whose "guess mode" they use if the class tag is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from escort_codec.coding import EdgeMap
from escort_codec.errors import RegenerationError
from escort_codec.recipe import HIRES, LOWRES
from escort_codec.registry import Registry

GUESS_DECAY: Final = 0.825
"""Guess mode multiplies each control residual by this once more than the next deeper one."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One of the paper's scripts. ``suffix`` follows the class tag after a comma."""

    suffix: str
    negative_prompt: str
    steps: int
    guidance: float = 9.0
    control_strength: float = 1.0
    scheduler: str = "ddim"
    guess_steps: int = 50
    guess_guidance: float = 4.5


presets: Registry[Preset] = Registry("preset")
presets.add(
    HIRES,
    Preset(
        suffix="best quality, extremely detailed",
        negative_prompt="longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, fewer digits, "
        "cropped, worst quality, low quality",
        steps=20,
    ),
)
presets.add(
    LOWRES,
    Preset(
        suffix="clean, clear, bright, neat",
        negative_prompt="blurry, dark, messy, dotted",
        steps=50,
    ),
)


def full_prompt(tag: str, suffix: str) -> str:
    """``tag, suffix``; without a tag the comma stays, as in the paper's scripts. An empty suffix adds nothing."""
    return f"{tag}, {suffix}" if suffix else tag


def control_image(edges: EdgeMap, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The edge map (bool, any shape) at generation size (H, W), nearest neighbour: uint8 (H, W, 3), 0 and 255.

    Divided by 255 it is the ControlNet's input.
    """
    import cv2

    if not edges.size:
        raise RegenerationError("the edge map has no pixels")
    scaled = cv2.resize(edges.astype(np.uint8) * 255, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    return np.repeat(scaled.astype(np.uint8)[:, :, None], 3, axis=2)


def to_source_size(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A generated image (uint8 RGB (H, W, 3)) at the source image's ``size`` (h, w).

    Lanczos over 8 x 8 pixels if min(H, W) <= min(h, w), else area means, as in the scripts.
    """
    import cv2

    H, W = image.shape[:2]
    method = cv2.INTER_LANCZOS4 if min(H, W) <= min(size) else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=method), dtype=np.uint8)


def enlarged_hint(hint: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A colour hint (uint8 RGB (h, w, 3)) at generation size (H, W), bicubic: the start of img2img."""
    import cv2

    return np.asarray(cv2.resize(hint, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def guess_scales(count: int, control_strength: float = 1.0) -> tuple[float, ...]:
    """Guess mode's factors for ``count`` control residuals, shallowest first, the middle block's last.

    ``control_strength * 0.825 ** (count - 1 - i)``: for Stable Diffusion 1's thirteen, 0.825 ** (12 - i). (diffusers'
    own guess mode has ``logspace(-1, 0, 13)``, within 1 % of it.)
    """
    return tuple(control_strength * GUESS_DECAY ** (count - 1 - i) for i in range(count))
