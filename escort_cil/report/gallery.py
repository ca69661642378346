"""The contents of a memory file: counts and bytes by class, and a few exemplars as embedded images."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from escort_cil.report.drawing import size_text
from escort_codec.coding.base import EdgeMap
from escort_codec.container import Reader
from escort_codec.errors import EscortError
from escort_codec.exemplar import Exemplar
from escort_codec.export.real import check_real
from escort_codec.regenerate.base import Job, Regenerator
from escort_codec.source import load_rgb

THUMBNAIL: Final = 224  # pixels of a photograph's longer side
MAX_MAP_SIDE: Final = 512  # pixels of an edge map's longer side
SEEDS: Final = 3  # images of each prompt
MAX_REGENERATED: Final = 1 << 25  # pixels of a regenerated image: an untrusted file may ask for more


@dataclass(frozen=True)
class GalleryImage:
    """An image as a data URI of ``width`` x ``height`` pixels; if ``uri`` is empty, ``alt`` says why."""

    uri: str
    caption: str
    alt: str
    width: int = 0
    height: int = 0
    pixelated: bool = False


@dataclass(frozen=True)
class GalleryEntry:
    """One exemplar of the gallery."""

    title: str
    kind: str
    facts: str
    pictures: tuple[GalleryImage, ...]


@dataclass
class ClassBytes:
    """The memory of one class: exemplars, and bytes of images (files and learned pictures), edge maps and hints."""

    real: int = 0
    prompts: int = 0
    real_bytes: int = 0
    edge_bytes: int = 0
    hint_bytes: int = 0

    @property
    def bytes(self) -> int:
        """All its payload's bytes."""
        return self.real_bytes + self.edge_bytes + self.hint_bytes


def memory_by_class(reader: Reader) -> dict[str, ClassBytes]:
    """By label, in the order of first appearance."""
    found: dict[str, ClassBytes] = {}
    for exemplar in reader:
        memory = found.setdefault(exemplar.label, ClassBytes())
        if exemplar.kind != "prompt":
            memory.real += 1
            memory.real_bytes += len(exemplar.payload)
        else:
            memory.prompts += 1
            memory.edge_bytes += len(exemplar.payload)
            memory.hint_bytes += len(exemplar.hint or b"")
    return found


def gallery(path: Path, count: int, regenerator: Regenerator) -> list[GalleryEntry]:
    """``count`` exemplars of a memory file, half of them real and half prompts, spread over its classes.

    Raises EscortError if the file cannot be read. If an image cannot be shown, its text says why.
    """
    with Reader(path) as reader:
        chosen = [reader[position] for position in _choose(reader, count)]
    return [_prompt(exemplar, regenerator) if exemplar.kind == "prompt" else _real(exemplar) for exemplar in chosen]


def _choose(reader: Reader, count: int) -> list[int]:
    """Positions, half of each kind if there are enough: of each kind the first of evenly spaced classes."""
    firsts: dict[str, dict[str, int]] = {"real": {}, "prompt": {}}
    kinds: dict[str, list[int]] = {"real": [], "prompt": []}
    for position, exemplar in enumerate(reader):
        kind = "prompt" if exemplar.kind == "prompt" else "real"
        kinds[kind].append(position)
        firsts[kind].setdefault(exemplar.label, position)
    share = {kind: min(len(positions), count // 2) for kind, positions in kinds.items()}
    share["prompt"] = min(len(kinds["prompt"]), count - share["real"])
    share["real"] = min(len(kinds["real"]), count - share["prompt"])
    chosen: list[int] = []
    for kind in ("prompt", "real"):
        pool = list(firsts[kind].values())
        pool = pool if len(pool) >= share[kind] else kinds[kind]
        chosen += [pool[i * len(pool) // share[kind]] for i in range(share[kind])]
    return chosen


def _real(exemplar: Exemplar) -> GalleryEntry:
    learned = exemplar.kind == "latent"
    try:
        if not learned:
            check_real(exemplar)
        pixels = exemplar.picture() if learned else load_rgb(exemplar.image)
        image = photograph(pixels, "image kept", f"{exemplar.label}: the image that is kept")
    except EscortError as exc:
        image = GalleryImage("", "image kept", f"not shown: {exc}")
    height, width = pixels.shape[:2] if image.uri else exemplar.size
    facts = f"{size_text(len(exemplar.payload))}; {width} × {height} pixels{', learned picture' if learned else ''}"
    return GalleryEntry(exemplar.key, exemplar.kind, facts, (image,))


def _prompt(exemplar: Exemplar, regenerator: Regenerator) -> GalleryEntry:
    label = exemplar.label
    images = []
    try:
        images.append(edge_picture(exemplar.edges, label, size_text(len(exemplar.payload))))
    except EscortError as exc:
        images.append(GalleryImage("", "edge map", f"not shown: {exc}"))
    if exemplar.hint is not None:
        try:
            hint = exemplar.hint_pixels
            assert hint is not None
            caption = f"hint, {size_text(len(exemplar.hint))}"
            images.append(_image(hint, caption, f"{label}: the colour hint", "PNG", pixelated=True))
        except EscortError as exc:
            images.append(GalleryImage("", "hint", f"not shown: {exc}"))
    height, width = exemplar.size
    seeds = exemplar.seeds[:SEEDS] or tuple(range(SEEDS))
    if height * width > MAX_REGENERATED:
        images.append(GalleryImage("", "image", f"not regenerated: {width} × {height} pixels are too many for a page"))
        seeds = ()
    results = list(regenerator.regenerate([Job(exemplar, seed, key=seed) for seed in seeds]))
    for result in sorted(results, key=lambda result: seeds.index(result.job.seed)):
        caption = f"seed {result.job.seed}"
        if result.image is None:
            images.append(GalleryImage("", caption, f"not regenerated: {result.error}"))
        else:
            images.append(photograph(result.image, caption, f"{label}: regenerated with {caption}"))
    parts = [f"{size_text(len(exemplar.payload) + len(exemplar.hint or b''))} in all"]
    parts.append(f"map {exemplar.map_shape[1]} × {exemplar.map_shape[0]} in coding {exemplar.coding}")
    if exemplar.prompt != exemplar.label:
        parts.append(f"prompt “{exemplar.prompt}”")
    return GalleryEntry(exemplar.key, "prompt", "; ".join(parts), tuple(images))


def photograph(rgb: NDArray[np.uint8], caption: str, alt: str) -> GalleryImage:
    """An image, uint8 RGB, reduced to ``THUMBNAIL``."""
    import cv2

    height, width = rgb.shape[:2]
    scale = THUMBNAIL / max(height, width)
    if scale < 1:
        shape = (max(1, round(width * scale)), max(1, round(height * scale)))
        rgb = np.asarray(cv2.resize(rgb, shape, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return _image(rgb, caption, alt, "WEBP", pixelated=max(rgb.shape[:2]) < 64)


def edge_picture(edges: EdgeMap, label: str, size: str) -> GalleryImage:
    """Edges dark on light; a large map is reduced without losing an edge. ``size`` is part of the caption."""
    step = -(-max(*edges.shape, 1) // MAX_MAP_SIDE)
    if step > 1:
        padded = np.pad(edges, [(0, -side % step) for side in edges.shape])
        height, width = (side // step for side in padded.shape)
        edges = np.asarray(padded.reshape(height, step, width, step).any(axis=(1, 3)), dtype=np.bool_)
    if not edges.size:
        return GalleryImage("", "edge map", "not shown: it has no pixels")
    return _image(~edges, f"edge map, {size}", f"{label}: the edge map", "PNG", pixelated=max(edges.shape) < 64)


def _image(
    pixels: NDArray[np.uint8] | EdgeMap, caption: str, alt: str, file_format: str, *, pixelated: bool
) -> GalleryImage:
    from PIL import Image

    file = io.BytesIO()
    if file_format == "PNG":
        Image.fromarray(pixels).save(file, "PNG", optimize=True)
    else:
        Image.fromarray(pixels).save(file, "WEBP", quality=80, method=4)
    text = base64.b64encode(file.getvalue()).decode("ascii")
    uri = f"data:image/{file_format.lower()};base64,{text}"
    return GalleryImage(uri, caption, alt, pixels.shape[1], pixels.shape[0], pixelated)
