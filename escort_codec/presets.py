"""The paper's two presets, as far as the edge map needs them: the size at which images are generated.

Source: Duan et al., arXiv 2311.18266, and its published scripts.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from escort_codec.errors import UnknownNameError

HIRES: Final = "hires"
LOWRES: Final = "lowres"
PRESETS: Final = (HIRES, LOWRES)

_MAX_AREA: Final = 786_432  # pixels, at resolutions up to 512: 1024 x 768, or 512 x 512 x 3
_MULTIPLE: Final = 64  # the latent's factor of 8 times the network's three halvings


def check_preset(preset: str) -> str:
    """``preset`` where there is such a one; raises UnknownNameError."""
    if preset not in PRESETS:
        raise UnknownNameError(f"no preset is called {preset!r} (there are: {', '.join(PRESETS)})")
    return preset


def short_side(size: tuple[int, int], preset: str) -> int:
    """The shorter side in pixels that a (height, width) image is generated at."""
    return 512 if check_preset(preset) == HIRES or min(size) >= 512 else 256


def generation_size(size: tuple[int, int], preset: str, resolution: int | None = None) -> tuple[int, int]:
    """(H, W) at which an image of ``size`` (height, width), both >= 1, is generated: multiples of 64.

    The shorter side becomes 512 (``lowres``: 256 for images below 512), or ``resolution``; both sides are halved
    while the area is above 1024 x 768; then each is rounded to the nearest multiple of 64 (halves to the even
    multiple, as numpy rounds). Ours beyond the scripts: for resolutions above 512 the area allowed grows with the
    square (3 * resolution ** 2); no side is below 64, and of an extremely long image the longer side is cut to what
    the area allows.
    """
    short = resolution or short_side(size, preset)
    scale = short / min(size)
    area = max(_MAX_AREA, 3 * short * short)
    height, width = size[0] * scale, size[1] * scale
    while height * width > area:
        height, width = height / 2, width / 2
    longest = area // _MULTIPLE // _MULTIPLE
    H, W = (min(max(1, int(np.round(side / _MULTIPLE))), longest) * _MULTIPLE for side in (height, width))
    return H, W
