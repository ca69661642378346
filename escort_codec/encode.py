"""The pipeline of ``escort encode``: data folder -> prompts or copies -> ``.escx``, in parallel threads."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from escort_codec.coding import EdgeMap, codings
from escort_codec.container import Writer, pack
from escort_codec.container.reader import Reader
from escort_codec.copies import EncodedImage, copied, hint_of, opened, parse_copy
from escort_codec.edges import edge_map
from escort_codec.errors import ImageError, LimitError, SourceError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.limits import MAX_EXEMPLARS, MAX_LABELS
from escort_codec.progress import Progress
from escort_codec.ray_engine import LOCAL, RayEngine, parse_engine
from escort_codec.recipe import EncodeOptions, Recipe, check_options
from escort_codec.source import SourceImage, check_heads, image_fault, read_ahead, read_file, scan_folder
from escort_codec.workers import DECODED, in_groups, in_order, single_threaded_opencv

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

_GROUP: Final = 8  # images per task of a thread
_SHARD: Final = 128  # images per task of a cluster: what a worker that dies costs
_BATCH_PIXELS: Final = 1 << 22  # pixels of edge maps that are coded in one go, at most


@dataclass(slots=True)
class EncodeReport:
    """The result of ``encode_folder``. ``skipped`` has a line for each skipped file: path and reason.

    ``source_bytes`` and ``pixel_bytes`` (24 bits per pixel) leave out the ``resumed`` exemplars of an earlier call.
    """

    exemplars: int = 0
    resumed: int = 0
    source_bytes: int = 0
    pixel_bytes: int = 0
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)


def encode_image(image: SourceImage, options: EncodeOptions, data: bytes | None = None) -> EncodedImage:
    """One image file as an exemplar; ``data`` are its bytes if already read. Raises ImageError."""
    if copy := parse_copy(options.kind):
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
    """What an exemplar keeps of an image, its edge map not yet coded."""

    image: SourceImage
    edges: EdgeMap
    hint: bytes | None
    size: tuple[int, int]
    source_bytes: int


def _read(image: SourceImage, options: EncodeOptions, data: bytes | None = None) -> _Features:
    data = read_file(image.path) if data is None else data
    with DECODED.holding() as reserve:
        return _extract(image, opened(image, options, data, reserve), options, len(data))


def _extract(image: SourceImage, picture: Image.Image, options: EncodeOptions, source_bytes: int = 0) -> _Features:
    rgb = np.asarray(picture)
    edges = edge_map(rgb, options.preset, options.settings)
    hint = hint_of(picture, options)
    return _Features(image, edges, hint, (rgb.shape[0], rgb.shape[1]), source_bytes)


def _encode_map(features: _Features, options: EncodeOptions) -> EncodedImage:
    image = features.image
    exemplar = Exemplar.from_edges(
        features.edges,
        label=image.label,
        name=image.name,
        size=features.size,
        prompt=image.label if image.caption is None else image.caption,
        seeds=options.seeds,
        hint=features.hint,
        hint_codec=options.hint_codec,
        edge_settings=options.settings,
        recipe=Recipe(preset=options.preset),
        coding=options.coding,
    )
    return EncodedImage(exemplar, features.source_bytes)


def _encode_group(images: Sequence[SourceImage], options: EncodeOptions) -> list[EncodedImage | ImageError]:
    """A few images as exemplars or errors.

    Their maps are coded one after another in batches, so that the tables of the coder stay in the processor's cache.
    """
    found: list[EncodedImage | ImageError] = []
    if parse_copy(options.kind):
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
        if pixels + features.edges.size > _BATCH_PIXELS:
            code_batch()
            pixels = 0
        batch.append(features)
        pixels += features.edges.size
    code_batch()
    return found


def encode_folder(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: EncodeOptions | None = None,
    *,
    progress: Progress = Progress(),
) -> EncodeReport:
    """Encodes a data folder into a new ``.escx`` file: the same bytes for any number of workers.

    Logs a warning for each skipped file. Records ``data`` as given. After an error or an interrupt there is no ``out``;
    with ``resume`` the finished part stays beside it as ``<out>.partial``, and the next call with the same options
    continues it.

    Raises SourceError, ImageError, LimitError, OutputError, BusyError, UsageError.
    """
    data = os.fspath(data)
    options = options or EncodeOptions()
    check_options(options)
    codings.get(options.coding)
    parse_engine(options.engine)
    copy, background = parse_copy(options.kind), options.background_code
    started = time.perf_counter()
    report = EncodeReport()
    images = _usable_images(data, options, report)
    writer = Writer(out, source=data, background=background, overwrite=options.overwrite, resume=options.resume)
    try:
        prepare(options.coding) if copy is None else copy.prepare()
        if len(writer):
            images = _remaining(images, writer.partial, data, options)
            report.resumed = len(writer)
        if options.on_error == "raise":
            check_heads(images, options.max_pixels, options.workers)
        progress.begin("encode", len(images))
        try:
            for image, encoded in encode_images(images, options, progress):
                _add(writer, image, encoded, options, report)
                progress.advance()
        finally:
            progress.end()
        if not len(writer):
            raise SourceError(f"{data}: none of its {len(report.skipped)} files is usable")
        writer.close(keep_partial=options.resume)
    except BaseException:
        writer.abort(keep_partial=options.resume)
        raise
    report.exemplars = len(writer)
    report.seconds = time.perf_counter() - started
    return report


def _add(
    writer: Writer, image: SourceImage, encoded: EncodedImage | ImageError, options: EncodeOptions, report: EncodeReport
) -> None:
    if isinstance(encoded, ImageError):
        if options.on_error == "raise":
            raise encoded
        _skip(str(encoded), report)
        return
    try:
        writer.add(encoded.exemplar)
    except LimitError as exc:
        raise LimitError(f"{image.path}: {exc}") from exc
    report.source_bytes += encoded.source_bytes
    height, width = encoded.exemplar.size
    report.pixel_bytes += 3 * height * width


def _skip(fault: str, report: EncodeReport) -> None:
    report.skipped.append(fault)
    log.warning("skipped: %s", fault)


def _usable_images(data: str, options: EncodeOptions, report: EncodeReport) -> list[SourceImage]:
    """The images of the data folder, or of its shard, whose names and captions respect the caps."""
    scanned = scan_folder(data, options.split, options.layout)
    images = list(scanned.images)
    for line in (scanned.describe(), *scanned.notes):
        log.info("%s", line)
    if options.shard is not None:
        k, n = options.shard
        if n > len(images):
            raise UsageError(f"{data} has only {len(images)} images", setting="shard", value=f"{k}/{n}")
        images = images[len(images) * (k - 1) // n : len(images) * k // n]  # in order: merged shards are the whole
    usable = []
    for image in images:
        if not (fault := image_fault(image)):
            usable.append(image)
        elif options.on_error == "raise":
            raise LimitError(fault)
        else:
            _skip(fault, report)
    classes = {image.label for image in usable}
    for what, found, cap in (("images", usable, MAX_EXEMPLARS), ("classes", classes, MAX_LABELS)):
        if len(found) > cap:
            raise LimitError(f"{data}: {len(found)} {what} are above the cap of {cap} for one file: set `shard`")
    return usable


def prepare(coding: str) -> None:
    """Compiles the kernels of ``coding`` and of the simpler codings, before threads start."""
    number = codings.get(coding).number
    for simpler in codings:
        if simpler.number <= number:
            simpler.prepare()


def _remaining(images: list[SourceImage], partial: Path, data: str, options: EncodeOptions) -> list[SourceImage]:
    """The images that are missing in the file of a killed run. Raises UsageError if its data or options differ.

    Encodes the last exemplar again and compares it: any different option shows in it.
    """
    by_key = {image.key: image for image in images}
    with Reader(partial, recover=True) as reader:
        done = {key for rows in reader.tables() for key in rows.all_keys()}
        last, head = reader[-1], (reader.source, reader.background)
    same = head == (data, options.background_code) and done <= by_key.keys()
    if same:
        try:
            same = pack([encode_image(by_key[last.key], options).exemplar]) == pack([last])
        except ImageError:
            same = False
    if not same:
        raise UsageError(f"{partial} comes from other options or another data folder: repeat those, or remove it")
    return [image for image in images if image.key not in done]
