"""The pipeline of ``escort encode``: data folder -> prompts or copies -> ``.escx``, in parallel threads."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from escort_codec.coding import codings
from escort_codec.container import Writer, pack
from escort_codec.container.reader import Reader
from escort_codec.encode.copies import EncodedImage, parse_copy
from escort_codec.encode.images import encode_image, encode_images, prepare
from escort_codec.errors import FidelityError, ImageError, LimitError, SourceError, UsageError
from escort_codec.limits import MAX_EXEMPLARS, MAX_LABELS, MAX_PAYLOAD
from escort_codec.measure import prepare as prepare_measures
from escort_codec.progress import Progress
from escort_codec.ray_engine import parse_engine
from escort_codec.recipe import EncodeOptions, check_options
from escort_codec.settings import settings_of
from escort_codec.source import SourceImage, check_heads, image_fault, scan_folder
from escort_codec.words import counted

log: Final = logging.getLogger(__name__)

SAMPLED: Final = 64
"""The least number of images that are encoded to estimate what a budget allows."""
LEAST: Final = int(settings_of(EncodeOptions)["bytes_per_exemplar"].least or 1)


@dataclass(slots=True)
class EncodeReport:
    """The result of ``encode_folder``. ``skipped`` has a line for each skipped file: path and reason.

    ``left_out`` counts images whose fidelity would be too low. ``source_bytes`` leaves out the ``resumed`` exemplars of
    an earlier call. ``bytes_per_exemplar`` is the most that rate control gave each exemplar.
    """

    exemplars: int = 0
    resumed: int = 0
    left_out: int = 0
    bytes_per_exemplar: int | None = None
    source_bytes: int = 0
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)


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
    parse_copy(options.kind, 1000 if options.budget else options.bytes_per_exemplar)
    started = time.perf_counter()
    report = EncodeReport()
    images = _usable_images(data, options, report)
    most = options.bytes_per_exemplar if options.budget is None else first_rate(images, options)
    done, size = _encode(images, data, out, replace(options, bytes_per_exemplar=most), report, progress)
    while size is not None:
        assert most is not None
        assert options.budget is not None
        most -= 1 + math.ceil((size - options.budget) / max(1, done.exemplars))
        if most < LEAST:
            what = f"{counted(len(images), 'image')} do not fit: give more"
            raise UsageError(what, setting="budget", value=options.budget)
        log.info("the file would have %s bytes: encoding again with at most %d per exemplar", f"{size:,}", most)
        done, size = _encode(images, data, out, replace(options, bytes_per_exemplar=most), report, progress)
    if done.left_out:
        log.warning("%s left out: less than %g would be kept", counted(done.left_out, "image"), options.min_fidelity)
    done.seconds = time.perf_counter() - started
    return done


def _encode(
    images: list[SourceImage],
    data: str,
    out: str | os.PathLike[str],
    options: EncodeOptions,
    before: EncodeReport,
    progress: Progress,
) -> tuple[EncodeReport, int | None]:
    """Encodes images into ``out``. Returns the report and None; or, if the file would be above the budget, its size in
    bytes, and writes no file."""
    report = replace(before, skipped=[*before.skipped], bytes_per_exemplar=options.bytes_per_exemplar)
    copy = parse_copy(options.kind, options.bytes_per_exemplar)
    background = options.background_code
    writer = Writer(out, source=data, background=background, overwrite=options.overwrite, resume=options.resume)
    try:
        prepare(options.coding) if copy is None else copy.prepare()
        if options.bytes_per_exemplar is not None or options.min_fidelity:
            prepare_measures()
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
            raise SourceError(f"{data}: {_nothing(report)}")
        report.exemplars = len(writer)
        if options.budget is not None and (size := writer.finished_size()) > options.budget:
            writer.abort()
            return report, size
        writer.close(keep_partial=options.resume)
    except BaseException:
        writer.abort(keep_partial=options.resume)
        raise
    return report, None


def _nothing(report: EncodeReport) -> str:
    """Why there are no exemplars."""
    if report.left_out and not report.skipped:
        return "all images would be below `min_fidelity`: give a lower one, or more bytes"
    return f"none of its {len(report.skipped) + report.left_out} files is usable"


def first_rate(images: Sequence[SourceImage], options: EncodeOptions) -> int:
    """Bytes per exemplar with which a file of ``images`` should just fit into the budget.

    The size of the tables is measured on a sample. Raises UsageError if the budget is too small for so many images.
    """
    assert options.budget is not None
    count, budget = len(images), options.budget
    sample = images[:: max(1, count // SAMPLED)]
    most = min(MAX_PAYLOAD, budget // count)
    trial = replace(options, bytes_per_exemplar=max(LEAST, most), on_error="skip")
    copy = parse_copy(options.kind, trial.bytes_per_exemplar)
    prepare(options.coding) if copy is None else copy.prepare()
    made = [each.exemplar for _, each in encode_images(sample, trial) if isinstance(each, EncodedImage)]
    kept = count * len(made) / len(sample)
    fixed, each = len(pack(made[:1])), 0.0
    payload = sum(len(exemplar.payload) + len(exemplar.hint or b"") for exemplar in made)
    if len(made) > 1:
        fixed -= len(made[0].payload) + len(made[0].hint or b"")
        each = (len(pack(made)) - payload - fixed) / (len(made) - 1)
    most = min(MAX_PAYLOAD, int((budget - fixed) / max(1.0, kept) - each))
    if most < LEAST:
        needed = math.ceil(fixed + max(1.0, kept) * (LEAST + each))
        message = f"{counted(count, 'image')} need at least about {needed:,} bytes"
        raise UsageError(message, setting="budget", value=budget)
    log.info("at most %d bytes per exemplar, for a file of %s bytes", most, f"{budget:,}")
    return most


def _add(
    writer: Writer, image: SourceImage, encoded: EncodedImage | ImageError, options: EncodeOptions, report: EncodeReport
) -> None:
    if isinstance(encoded, FidelityError):
        report.left_out += 1
        return
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


def _remaining(images: list[SourceImage], partial: Path, data: str, options: EncodeOptions) -> list[SourceImage]:
    """The images that are missing in the file of a killed run. Raises UsageError if its data or options differ.

    Encodes the last exemplar again and compares it: any other option would change it.
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
        raise UsageError(f"{partial} has other options or another data folder: use those again, or remove it")
    return [image for image in images if image.key not in done]
