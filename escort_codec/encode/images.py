"""Encodes image files as exemplars: prompts or copies; each file is decoded once, in parallel threads."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from escort_codec.coding import EdgeMap, codings
from escort_codec.edges import edge_map
from escort_codec.encode.copies import EncodedImage, LatentCopy, copied, opened, parse_copy, too_little
from escort_codec.encode.rate import HINT_SHARE, LATENT_HINT, VP8, fit_hint, fit_map, map_fidelity
from escort_codec.errors import ImageError
from escort_codec.exemplar import Exemplar
from escort_codec.hint import HINT_QUALITY, encode_hint
from escort_codec.latent.picture import encode_latent
from escort_codec.limits import MAX_HINT_SIDE
from escort_codec.progress import Progress
from escort_codec.ray_engine import LOCAL, RayEngine, parse_engine
from escort_codec.recipe import EdgeSettings, EncodeOptions, Recipe
from escort_codec.source import SourceImage, read_ahead, read_file
from escort_codec.workers import DECODED, in_groups, in_order, single_threaded_opencv

if TYPE_CHECKING:
    from PIL import Image

_GROUP: Final = 8  # images per task of a thread
_SHARD: Final = 128  # images per task of a cluster, lost when a worker dies
_BATCH_PIXELS: Final = 1 << 22  # pixels of edge maps that are coded in one go, at most


HINT_QUALITY_LATENT: Final = 54
"""The default quality of a latent hint: 48 pixels then take the bytes of a WebP frame of 32 pixels and quality 20."""


@dataclass(frozen=True, slots=True)
class PromptParts:
    """The parts of a prompt: edge map (bool, H, W), its settings, and the hint or None."""

    edges: EdgeMap
    settings: EdgeSettings
    hint: bytes | None


def prompt_parts(picture: Image.Image, options: EncodeOptions) -> PromptParts:
    """The parts of a prompt of a picture (Pillow, mode RGB): by rate control, or with the settings of ``options``."""
    rgb, most = np.asarray(picture), options.bytes_per_exemplar
    latent = options.hint_codec == LatentCopy.name

    def code(side: int, quality: int) -> bytes:
        return encode_latent(picture, side, quality=quality) if latent else encode_hint(picture, side, quality)

    if most is None:
        edges, hint = edge_map(rgb, options.preset, options.settings), None
        if options.hint:
            quality = HINT_QUALITY_LATENT if latent else HINT_QUALITY
            hint = code(options.hint, quality if options.hint_quality is None else options.hint_quality)
        return PromptParts(edges, options.settings, hint)
    scale = LATENT_HINT if latent else VP8
    share = max(scale.least, round(HINT_SHARE * most)) if options.hint and most >= 2 * scale.least else 0
    found = fit_map(rgb, most - share, options.coding)
    hint = fit_hint(code, most - found.bytes, min(MAX_HINT_SIDE, max(picture.size)), scale) if share else None
    return PromptParts(found.edges, found.settings, hint)


def encode_image(image: SourceImage, options: EncodeOptions, data: bytes | None = None) -> EncodedImage:
    """One image file as an exemplar; ``data`` are its bytes if already read. Raises ImageError."""
    if copy := parse_copy(options.kind, options.bytes_per_exemplar):
        return copied(image, copy, options, data)
    return _encode_map(_read(image, options, data), options)


def _encoded_or_error(image: SourceImage, options: EncodeOptions) -> EncodedImage | ImageError:
    try:
        return encode_image(image, options)
    except ImageError as exc:
        return exc


def encode_picture(image: SourceImage, picture: Image.Image, options: EncodeOptions) -> Exemplar:
    """A decoded image (``source.load_image``: Pillow, mode RGB) as a prompt exemplar."""
    return _encode_map(_extract(image, picture, options), options).exemplar


def encode_images(
    images: Iterable[SourceImage], options: EncodeOptions, progress: Progress = Progress()
) -> Iterator[tuple[SourceImage, EncodedImage | ImageError]]:
    """Each image with its exemplar or error, in the order of ``images``, in bounded memory.

    Works in threads (decoding, Canny, the coder and WebP release the GIL), or with the engine ``ray`` on a cluster.
    """
    if (address := parse_engine(options.engine)) is not None:
        alone = replace(options, engine=LOCAL, workers=1, shard=None)
        with RayEngine(address) as engine:
            shards = list(in_groups(images, _SHARD))
            for shard, made in engine.map_in_order(functools.partial(_encode_shard, alone), shards, progress):
                yield from zip(shard, made, strict=True)
        return
    with single_threaded_opencv():
        groups = in_groups(read_ahead(images), _GROUP)
        for group, found in in_order(groups, lambda group: _encode_group(group, options), options.workers):
            yield from zip(group, found, strict=True)


def _encode_shard(options: EncodeOptions, images: Sequence[SourceImage]) -> list[EncodedImage | ImageError]:
    """In a worker of a cluster: a few images, each decoded once."""
    prepare(options.coding)
    return [made for _, made in encode_images(images, options)]


@dataclass(frozen=True, slots=True)
class _Features:
    """The parts of a prompt before its edge map is coded."""

    image: SourceImage
    parts: PromptParts
    size: tuple[int, int]
    source_bytes: int


def _read(image: SourceImage, options: EncodeOptions, data: bytes | None = None) -> _Features:
    data = read_file(image.path) if data is None else data
    with DECODED.holding() as reserve:
        return _extract(image, opened(image, options, data, reserve), options, len(data))


def _extract(image: SourceImage, picture: Image.Image, options: EncodeOptions, source_bytes: int = 0) -> _Features:
    parts = prompt_parts(picture, options)
    if options.min_fidelity > 0 and (kept := map_fidelity(parts.edges, np.asarray(picture))) < options.min_fidelity:
        raise too_little(image, kept, options)
    return _Features(image, parts, (picture.height, picture.width), source_bytes)


def _encode_map(features: _Features, options: EncodeOptions) -> EncodedImage:
    image = features.image
    exemplar = Exemplar.from_edges(
        features.parts.edges,
        label=image.label,
        name=image.name,
        size=features.size,
        prompt=image.label if image.caption is None else image.caption,
        seeds=options.seeds,
        hint=features.parts.hint,
        hint_codec=options.hint_codec,
        edge_settings=features.parts.settings,
        recipe=Recipe(preset=options.preset),
        coding=options.coding,
    )
    return EncodedImage(exemplar, features.source_bytes)


def _encode_group(images: Sequence[SourceImage], options: EncodeOptions) -> list[EncodedImage | ImageError]:
    """A few images as exemplars or errors.

    It codes the maps in batches, so that the tables of the coder stay in the processor's cache.
    """
    found: list[EncodedImage | ImageError] = []
    if options.bytes_per_exemplar is not None or parse_copy(options.kind):
        return [_encoded_or_error(image, options) for image in images]
    batch: list[_Features | ImageError] = []

    def code_batch() -> None:
        found.extend(one if isinstance(one, ImageError) else _encode_map(one, options) for one in batch)
        batch.clear()

    pixels = 0
    for image in images:
        try:
            features = _read(image, options)
        except ImageError as exc:
            batch.append(exc)
            continue
        if pixels + features.parts.edges.size > _BATCH_PIXELS:
            code_batch()
            pixels = 0
        batch.append(features)
        pixels += features.parts.edges.size
    code_batch()
    return found


def prepare(coding: str) -> None:
    """Compiles the kernels of ``coding`` and of the simpler codings, before threads start."""
    number = codings.get(coding).number
    for simpler in codings:
        if simpler.number <= number:
            simpler.prepare()
