"""The pipeline of ``escort encode``: data folder -> edge maps, hints, prompts -> ``.escx``, in parallel."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from escort_codec.coding import EdgeMap, codings
from escort_codec.container import Writer, pack
from escort_codec.container.assembler import settings_fault
from escort_codec.container.reader import Reader
from escort_codec.edges import check_preset, edge_map
from escort_codec.errors import ImageError, LimitError, SourceError, UsageError
from escort_codec.exemplar import EdgeSettings, Exemplar, Recipe
from escort_codec.hint import encode_hint
from escort_codec.limits import (
    MAX_EXEMPLARS,
    MAX_HINT_SIDE,
    MAX_LABELS,
    MAX_PIXELS,
    MAX_PROMPT,
    label_fault,
    name_fault,
    seeds_fault,
    text_fault,
)
from escort_codec.source import SourceImage, check_image, load_image, read_file, scan
from escort_codec.workers import in_groups, in_order, single_threaded_opencv

if TYPE_CHECKING:
    from PIL import Image

_GROUP: Final = 8  # images that a worker takes at a time
_HELD: Final = 1 << 22  # pixels of edge maps that it holds before they are coded


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """What ``escort encode`` may be told.

    ``hint`` is the colour hint's longer side in pixels, 0 for none. ``workers`` None means one a core. ``shard`` (k, n)
    takes the k-th of n parts, 1 <= k <= n; merged in their order the parts equal the whole. ``max_pixels`` is the
    cap for one image. ``resume`` goes on with what a killed run left.
    """

    split: str = "train"
    preset: str = "hires"
    settings: EdgeSettings = field(default_factory=EdgeSettings)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    hint: int = 32
    hint_quality: int = 20
    coding: str = "context"
    workers: int | None = None
    on_error: Literal["raise", "skip"] = "raise"
    max_pixels: int = MAX_PIXELS
    shard: tuple[int, int] | None = None
    overwrite: bool = False
    resume: bool = False


@dataclass(slots=True)
class EncodeReport:
    """What was done: sizes in bytes, and the files that were skipped, each with its reason.

    ``source_bytes`` and ``pixel_bytes`` (24 bits a pixel) are those of the images encoded by this call.
    """

    exemplars: int = 0
    resumed: int = 0
    source_bytes: int = 0
    pixel_bytes: int = 0
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Encoded:
    """An exemplar and the size of the file it was made of."""

    exemplar: Exemplar
    source_bytes: int


def encode_image(image: SourceImage, options: EncodeOptions, data: bytes | None = None) -> Encoded:
    """One image file as a prompt exemplar; ``data`` are its bytes where they are at hand. Raises ImageError."""
    return _code(_look(image, options, data), options)


def encode_picture(image: SourceImage, picture: Image.Image, options: EncodeOptions) -> Exemplar:
    """An image that is decoded already (``source.load_image``: Pillow, mode RGB) as a prompt exemplar."""
    return _code(_seen(image, picture, options), options).exemplar


def encode_images(
    images: Iterable[SourceImage], options: EncodeOptions
) -> Iterator[tuple[SourceImage, Encoded | ImageError]]:
    """Each image as an exemplar, or why not, in the order of ``images`` and with bounded memory.

    Threads do the work: decoding, Canny, the coder and WebP all run outside Python's lock.
    """
    with single_threaded_opencv():
        groups = in_groups(images, _GROUP)
        for group, found in in_order(groups, lambda group: _encode_group(group, options), options.workers):
            yield from zip(group, found, strict=True)


@dataclass(frozen=True, slots=True)
class _Looked:
    """All of an image that is kept, its edge map not yet coded."""

    image: SourceImage
    edges: EdgeMap
    hint: bytes | None
    size: tuple[int, int]
    source_bytes: int


def _look(image: SourceImage, options: EncodeOptions, data: bytes | None = None) -> _Looked:
    data = read_file(image.path) if data is None else data
    picture = load_image(data, max_pixels=options.max_pixels, name=str(image.path))
    return _seen(image, picture, options, len(data))


def _seen(image: SourceImage, picture: Image.Image, options: EncodeOptions, source_bytes: int = 0) -> _Looked:
    rgb = np.asarray(picture)
    edges = edge_map(rgb, options.preset, options.settings)
    hint = encode_hint(picture, options.hint, options.hint_quality) if options.hint else None
    return _Looked(image, edges, hint, (rgb.shape[0], rgb.shape[1]), source_bytes)


def _code(looked: _Looked, options: EncodeOptions) -> Encoded:
    image = looked.image
    exemplar = Exemplar.from_edges(
        looked.edges,
        label=image.label,
        name=image.name,
        size=looked.size,
        prompt=image.label if image.caption is None else image.caption,
        seeds=options.seeds,
        hint=looked.hint,
        edge_settings=options.settings,
        recipe=Recipe(preset=options.preset),
        coding=options.coding,
    )
    return Encoded(exemplar, looked.source_bytes)


def _encode_group(images: Sequence[SourceImage], options: EncodeOptions) -> list[Encoded | ImageError]:
    """A few images as exemplars, or why not.

    Their maps are coded one after another, in batches of at most _HELD pixels or one map: the coder's tables stay in
    the processor's cache.
    """
    found: list[Encoded | ImageError] = []
    held: list[_Looked | ImageError] = []

    def code_held() -> None:
        found.extend(one if isinstance(one, ImageError) else _code(one, options) for one in held)
        held.clear()

    pixels = 0
    for image in images:
        try:
            looked = _look(image, options)
        except ImageError as exc:
            held.append(exc)
            continue
        if pixels + looked.edges.size > _HELD:
            code_held()
            pixels = 0
        held.append(looked)
        pixels += looked.edges.size
    code_held()
    return found


def encode_folder(
    data: str,
    out: str | os.PathLike[str],
    options: EncodeOptions | None = None,
    *,
    begin: Callable[[int], None] = lambda total: None,
    step: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda line: None,
) -> EncodeReport:
    """Encodes a data folder into a new ``.escx`` file; the same bytes for any number of workers.

    ``begin`` is told the number of images, ``step`` is called after each, ``say`` gets a line for each file skipped.
    ``data`` is recorded as it is given. After an error or an interrupt there is no ``out``; with ``resume`` the part
    that is done is kept beside it as ``<out>.partial`` and taken up by the next call with the same options.

    Raises SourceError, ImageError, LimitError, OutputError, BusyError, UsageError.
    """
    options = options or EncodeOptions()
    _check(options)
    started = time.perf_counter()
    report = EncodeReport()

    def skip(fault: str) -> None:
        report.skipped.append(fault)
        say(f"skipped: {fault}")

    whole = scan(data, options.split)
    if options.shard is not None and options.shard[1] > len(whole):
        raise UsageError(f"--shard {options.shard[0]}/{options.shard[1]}: {data} has only {len(whole)} images")
    images = _share(whole, options.shard)
    usable = []
    for image in images:
        if fault := _fault(image):
            if options.on_error == "raise":
                raise LimitError(fault)
            skip(fault)
        else:
            usable.append(image)
    if len(usable) > MAX_EXEMPLARS:
        raise LimitError(f"{data}: {len(usable)} images are above the cap of {MAX_EXEMPLARS} for one file: use --shard")
    if (classes := len({image.label for image in usable})) > MAX_LABELS:
        raise LimitError(f"{data}: {classes} classes are above the cap of {MAX_LABELS} for one file: use --shard")
    writer = Writer(out, source=data, overwrite=options.overwrite, resume=options.resume)
    try:
        prepare(options.coding)
        if len(writer):
            usable = _remaining(usable, writer.partial, data, options)
            report.resumed = len(writer)
        if options.on_error == "raise":
            _check_images(usable, options)
        begin(len(usable))
        for image, encoded in encode_images(usable, options):
            if isinstance(encoded, ImageError):
                if options.on_error == "raise":
                    raise encoded
                skip(str(encoded))
            else:
                try:
                    writer.add(encoded.exemplar)
                except LimitError as exc:
                    raise LimitError(f"{image.path}: {exc}") from exc
                report.source_bytes += encoded.source_bytes
                height, width = encoded.exemplar.size
                report.pixel_bytes += 3 * height * width
            step()
        if not len(writer):
            raise SourceError(f"{data}: none of its {len(images)} files could be used")
        writer.close(keep_partial=options.resume)
    except BaseException:
        writer.abort(keep_partial=options.resume)
        raise
    report.exemplars = len(writer)
    report.seconds = time.perf_counter() - started
    return report


def prepare(coding: str) -> None:
    """Compiles what ``coding``, and the simpler ones that may be smaller, need: before threads are started."""
    number = codings.get(coding).number
    for simpler in codings:
        if simpler.number <= number:
            simpler.prepare()


def _check(options: EncodeOptions) -> None:
    """Raises UsageError for options that cannot be meant."""
    check_preset(options.preset)
    codings.get(options.coding)
    if options.workers is not None and options.workers < 1:
        raise UsageError(f"--workers {options.workers}: at least one is needed")
    if not 1 <= options.max_pixels <= MAX_PIXELS:
        raise UsageError(f"--max-pixels {options.max_pixels}: the format takes 1 to {MAX_PIXELS} pixels")
    if options.shard is not None and not 1 <= options.shard[0] <= options.shard[1]:
        raise UsageError(f"--shard {options.shard[0]}/{options.shard[1]}: write 1/16 to 16/16")
    if not 0 <= options.hint <= MAX_HINT_SIDE:
        raise UsageError(f"--hint {options.hint}: a hint's longer side is 1 to {MAX_HINT_SIDE} pixels, or 0 for none")
    if not 0 <= options.hint_quality <= 100:
        raise UsageError(f"--hint-quality {options.hint_quality}: WebP's quality is 0 to 100")
    settings = options.settings
    if not 0 <= settings.low <= settings.high <= 0xFFFF:
        raise UsageError(f"Canny's thresholds {settings.low} and {settings.high} must rise within 0 to 65535")
    if not (math.isfinite(settings.blur) and settings.blur >= 0) or settings_fault(settings):
        raise UsageError(f"an edge map's blur {settings.blur} or contour {settings.min_contour} cannot be meant")
    if fault := seeds_fault(options.seeds):
        raise UsageError(f"--seeds: {fault}")


def _share(images: list[SourceImage], shard: tuple[int, int] | None) -> list[SourceImage]:
    """The k-th of n runs of the sorted list, as even as can be: merged in order they are the whole again."""
    if shard is None:
        return images
    k, n = shard
    return images[len(images) * (k - 1) // n : len(images) * k // n]


def _fault(image: SourceImage) -> str | None:
    """Why an image cannot be an exemplar, whatever is in the file: known before any work is done."""
    fault = label_fault(image.label) or name_fault(image.name)
    fault = fault or (text_fault("caption", image.caption, MAX_PROMPT) if image.caption is not None else None)
    return f"{str(image.path)!r}: {fault}" if fault else None


def _check_images(images: list[SourceImage], options: EncodeOptions) -> None:
    """Raises the ImageError of the first file that is no image or too large, by the files' heads: before work is lost.

    What is wrong further on in a file shows only when it is decoded.
    """

    def check(group: Sequence[SourceImage]) -> None:
        for image in group:
            check_image(image.path, max_pixels=options.max_pixels)

    for _ in in_order(in_groups(images, 64), check, options.workers):
        pass


def _remaining(images: list[SourceImage], partial: Path, data: str, options: EncodeOptions) -> list[SourceImage]:
    """The images that are not in what a killed run left; raises UsageError where that was another DATA or options.

    The last exemplar is made again and compared: whatever option differs shows in it.
    """
    by_key = {image.key: image for image in images}
    with Reader(partial, recover=True) as reader:
        done = {block.key(row) for block in reader.blocks() for row in range(len(block))}
        last, source = reader[-1], reader.source
    same = source == data and done <= by_key.keys()
    if same:
        try:
            same = pack([encode_image(by_key[last.key], options).exemplar]) == pack([last])
        except ImageError:
            same = False
    if not same:
        raise UsageError(f"{partial} was begun with other options or another DATA: repeat those, or remove it")
    return [image for image in images if image.key not in done]
