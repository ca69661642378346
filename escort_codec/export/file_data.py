"""The bytes of each file of an export, and its digest and recipe for the manifest. Writes nothing."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image

from escort_codec.errors import EscortError, OutputError
from escort_codec.export.options import LONGEST, ExportOptions
from escort_codec.export.plan import Task
from escort_codec.export.real import check_real
from escort_codec.regenerate.base import JobResult, RGBImage, image_digest
from escort_codec.regenerate.latent import LearnedPictures, enlarged, learned_digest, recipe_of


@dataclass(frozen=True, slots=True)
class FileData:
    """A file's bytes and digest; for an image also the regenerator and the recipe."""

    data: bytes
    digest: str
    regenerator: str | None = None
    recipe: dict[str, Any] | None = None


def image_file(task: Task, result: JobResult, regenerator: str, options: ExportOptions) -> FileData:
    """The file of a regenerated image. Raises the result's error, OutputError."""
    if result.image is None:
        raise result.error or EscortError("no image was made")
    recipe = result.recipe.to_map()
    digest = image_digest(task.exemplar, task.seed, regenerator, recipe)
    return FileData(encode_image(result.image, options), digest, regenerator, recipe)


def exemplar_file(task: Task, options: ExportOptions) -> FileData:
    """The file of an edge map, a real exemplar or a learned picture. Raises EscortError."""
    exemplar = task.exemplar
    if task.kind == "latent":
        data = encode_image(enlarged(exemplar, task.seed), options)
        recipe = recipe_of(exemplar).to_map()
        return FileData(data, learned_digest(exemplar, task.seed), LearnedPictures.name, recipe)
    if task.kind == "edges":
        file = io.BytesIO()
        Image.fromarray(exemplar.edges).save(file, "PNG", optimize=True)
        return FileData(file.getvalue(), image_digest(exemplar))
    check_real(exemplar)
    return FileData(exemplar.image, image_digest(exemplar))


def memory_needed(task: Task) -> int:
    """The memory in bytes that ``exemplar_file`` takes for a task."""
    height, width = task.exemplar.map_shape if task.kind != "latent" else task.exemplar.size
    return len(task.exemplar.payload) + 3 * height * width


def encode_image(image: RGBImage, options: ExportOptions) -> bytes:
    """An image file of uint8 RGB (H, W, 3). Raises OutputError if it is too long for the format."""
    longest = LONGEST[options.format]
    if max(image.shape) > longest:
        raise OutputError(
            f"has {max(image.shape):,} pixels on a side, and {options.format} takes {longest:,}: set `format` to png"
        )
    file = io.BytesIO()
    more = {} if options.used_quality is None else {"quality": options.used_quality}
    Image.fromarray(image).save(file, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[options.format], **more)
    return file.getvalue()
