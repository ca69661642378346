"""Small image files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RGB = np.random.default_rng(3).integers(0, 256, (13, 17, 3), np.uint8)


def save(path: Path, image: Image.Image | None = None, **options: Any) -> Path:
    """An image file of the format that the ending names, or of ``format``; noise of 17 x 13 pixels by default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = options.pop("format", None) or {"jpg": "JPEG"}.get(path.suffix[1:].lower(), path.suffix[1:].upper() or "PNG")
    (image or Image.fromarray(RGB)).save(path, format=kind, **options)
    return path
