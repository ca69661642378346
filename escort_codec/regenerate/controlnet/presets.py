"""The paper's two presets: every number that its scripts fix. numpy and OpenCV only.

From the scripts published with "ESCORT" (``compress.py`` is ``hires``, ``compress_lowres.py`` is ``lowres``) and
ControlNet 1.0 (Zhang, Rao, Agrawala 2023), whose "guess mode" they use where the class tag is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from escort_codec.coding import EdgeMap
from escort_codec.errors import RegenerationError
from escort_codec.registry import Registry

MULTIPLE: Final = 64  # sides are multiples of this: the VAE's factor of 8 times the UNet's three halvings
MAX_AREA: Final = 786_432  # pixels generated at resolutions up to 512: 512 x 512 x 3
GUESS_DECAY: Final = 0.825  # guess mode weakens control by this from each residual to the shallower one before it


@dataclass(frozen=True, slots=True)
class Preset:
    """One of the paper's scripts.

    ``resolution`` is the shorter side in pixels that is generated, ``small_resolution`` that for images whose own
    shorter side is below it. ``suffix`` follows the class tag after a comma.
    """

    resolution: int
    small_resolution: int
    suffix: str
    negative_prompt: str
    steps: int
    guidance: float = 9.0
    control_strength: float = 1.0
    scheduler: str = "ddim"
    guess_steps: int = 50
    guess_guidance: float = 4.5

    def resolution_of(self, size: tuple[int, int]) -> int:
        """The resolution for a source image of ``size`` (h, w)."""
        return self.resolution if min(size) >= self.resolution else self.small_resolution


presets: Registry[Preset] = Registry("preset")
presets.add(
    "hires",
    Preset(
        resolution=512,
        small_resolution=512,
        suffix="best quality, extremely detailed",
        negative_prompt="longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, fewer digits, "
        "cropped, worst quality, low quality",
        steps=20,
    ),
)
presets.add(
    "lowres",
    Preset(
        resolution=512,
        small_resolution=256,
        suffix="clean, clear, bright, neat",
        negative_prompt="blurry, dark, messy, dotted",
        steps=50,
    ),
)


def full_prompt(tag: str, suffix: str) -> str:
    """``tag, suffix``; without a tag the comma stays, as in the paper's scripts. An empty suffix adds nothing."""
    return f"{tag}, {suffix}" if suffix else tag


def generation_size(size: tuple[int, int], resolution: int = 512) -> tuple[int, int]:
    """The (H, W) that is generated for a source image of ``size`` (h, w), both in pixels, multiples of 64.

    The shorter side becomes ``resolution``; while the area is above 786432 pixels both sides are halved; then each
    is rounded to the nearest multiple of 64, halves to the even one (numpy's rounding). Ours beyond the scripts:
    for resolutions above 512 the area allowed grows with the square (3 * resolution ** 2); no side is below 64, and
    of an extremely long image the longer side is cut to what the area allows.
    """
    if min(size) < 1:
        raise RegenerationError(f"an image of {size[1]} x {size[0]} pixels has nothing to regenerate")
    area = max(MAX_AREA, 3 * resolution * resolution)
    k = resolution / min(size)
    height, width = k * size[0], k * size[1]
    while height * width > area:
        height, width = height / 2, width / 2
    longest = area // MULTIPLE // MULTIPLE * MULTIPLE
    H, W = (min(max(int(np.round(side / MULTIPLE)) * MULTIPLE, MULTIPLE), longest) for side in (height, width))
    return H, W


def control_image(edges: EdgeMap, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The edge map (bool, any shape) at generation size (H, W), nearest neighbour: uint8 (H, W, 3), 0 and 255.

    Divided by 255 it is what the ControlNet sees.
    """
    import cv2

    if not edges.size:
        raise RegenerationError("the edge map has no pixels")
    scaled = cv2.resize(edges.astype(np.uint8) * 255, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    return np.repeat(scaled.astype(np.uint8)[:, :, None], 3, axis=2)


def to_source_size(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A generated image (uint8 RGB (H, W, 3)) at the source image's ``size`` (h, w).

    Lanczos over 8 x 8 pixels where min(H, W) <= min(h, w), else area means, as the scripts do.
    """
    import cv2

    H, W = image.shape[:2]
    method = cv2.INTER_LANCZOS4 if min(H, W) <= min(size) else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=method), dtype=np.uint8)


def enlarged_hint(hint: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A colour hint (uint8 RGB (h, w, 3)) at generation size (H, W), bicubic: what img2img starts from."""
    import cv2

    return np.asarray(cv2.resize(hint, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def guess_scales(count: int, control_strength: float = 1.0) -> tuple[float, ...]:
    """Guess mode's factors of ``count`` control residuals, shallowest first, the middle block's last.

    ``control_strength * 0.825 ** (count - 1 - i)``: for Stable Diffusion 1's thirteen, 0.825 ** (12 - i). (diffusers'
    own guess mode has ``logspace(-1, 0, 13)``, within 1 % of it.)
    """
    return tuple(control_strength * GUESS_DECAY ** (count - 1 - i) for i in range(count))
