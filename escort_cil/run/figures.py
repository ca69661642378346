"""Reads the figures in a run folder: the lines of ``metrics.jsonl`` and the counts of ``confusion.npz``.

Neither file is trusted. What is returned has the form that training writes.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from escort_cil.metrics import Counts, PhaseFigures, RunFigures
from escort_cil.run.settings import VIEWS
from escort_codec.atomic import replacing
from escort_codec.errors import TrainingError
from escort_codec.untrusted import open_file, parse_json, read_file

MAX_TEXT: Final = 128 << 20  # bytes of a metrics.jsonl
MAX_COUNTS: Final = 1 << 30  # bytes of all arrays of a confusion.npz
MAX_IMAGES: Final = 1 << 32  # of one count
MAX_CLASSES: Final = 1 << 16
MAX_NUMBER: Final = 1e15  # of a figure; floats are still exact for whole numbers

_PERCENT: Final = (
    *("top1", "top5", "class_mean", "old", "new", "average_incremental_accuracy"),
    *("nme_top1", "nme_top5", "nme_old", "nme_new", "nme_average_incremental_accuracy"),
)
_DIFFERENCES: Final = ("forgetting", "nme_forgetting", "backward_transfer")
_MEMORY: Final = ("memory_bytes", "memory_real", "memory_prompt", "memory_units", "model_bytes")
_BY_CLASS: Final = ("memory_real_by_class", "memory_prompt_by_class")


def read_records(path: Path, *, notices: list[str] | None = None) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, one per phase.

    Raises TrainingError if the file cannot be read or is not such a file. With ``notices`` a last line that was
    cut short is skipped and noted there; training never leaves one.
    """
    records: list[dict[str, Any]] = []
    lines = read_file(path, TrainingError, most=MAX_TEXT).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
        except ValueError as exc:
            if notices is not None and number == len(lines):  # no newline after it
                notices.append(f"the last line of {path.name} is incomplete and was skipped")
                break
            raise TrainingError(f"{path}, line {number}: is not JSON: {exc}") from exc
        fault = record_fault(record, records)
        if fault:
            raise TrainingError(f"{path}, line {number}: is not a phase's figures: {fault}")
        records.append(record)
    return records


def record_fault(record: Any, before: Sequence[Mapping[str, Any]]) -> str:
    """Why ``record`` cannot follow the lines ``before`` of a metrics.jsonl, or ""."""
    if not isinstance(record, dict):
        return "it is not a JSON object"
    groups = record.get("groups")
    if not isinstance(groups, list) or not all(_is_count(size) and 0 < size <= MAX_CLASSES for size in groups):
        return "groups is not a list of numbers of classes"
    if len(groups) != len(before) + 1 or (before and groups[:-1] != before[-1]["groups"]):
        return "groups does not continue the line before"
    classes = sum(groups)
    for key, value in (("phase", len(before)), ("classes", classes)):
        if not _is_count(record.get(key)) or record[key] != value or classes > MAX_CLASSES:
            return f"{key} does not match groups"
    views = record.get("views")
    if not isinstance(views, dict) or not views or not set(views) <= set(VIEWS) or record.get("view") not in [*views]:
        return "it has no view"
    if before and set(views) != set(before[-1]["views"]):
        return "its views are not those of the line before"
    for each in (record, *views.values()):
        if not isinstance(each, dict):
            return "a view is not a JSON object"
        if fault := _figures_fault(each, len(groups)):
            return fault
    for key in _MEMORY:
        if not _is_number(record.get(key), 0, MAX_NUMBER):
            return f"{key} is not a number"
    for key in _BY_CLASS:
        counts = record.get(key)
        if not isinstance(counts, list) or len(counts) not in (0, classes) or not all(map(_is_count, counts)):
            return f"{key} does not count the exemplars of {classes} classes"
    if len(record[_BY_CLASS[0]]) != len(record[_BY_CLASS[1]]):
        return "real exemplars and prompts are not counted for the same classes"
    return ""


def _figures_fault(figures: Mapping[str, Any], phases: int) -> str:
    if not _is_count(figures.get("images")):
        return "images is not a number of images"
    for key in (*_PERCENT, *_DIFFERENCES):
        least = 0 if key in _PERCENT else -100
        if key not in figures or not (figures[key] is None or _is_number(figures[key], least, 100)):
            return f"{key} is not a percentage"
    for key in ("accuracy_by_phase", "nme_accuracy_by_phase"):
        values = figures.get(key)
        if values is None and key.startswith("nme_"):
            continue
        if not isinstance(values, list) or len(values) != phases:
            return f"{key} does not list {phases} phases"
        if not all(value is None or _is_number(value, 0, 100) for value in values):
            return f"{key} has a value that is not a percentage"
    return ""


def _is_number(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_IMAGES


# confusion.npz

_NAME: Final = re.compile(rf"(0|[1-9][0-9]{{0,4}})/({'|'.join(VIEWS)})/(linear|nearest)/(confusion|within)")
_HEADER: Final = re.compile(
    rb"\x93NUMPY\x01\x00v\x00"
    rb"\{'descr': '<i8', 'fortran_order': False, 'shape': \(([0-9]{1,9},|[0-9]{1,9}, [0-9]{1,9})\), \} *\n"
)
_HEADER_BYTES: Final = 128
"""The header of numpy's array format (NEP 1) for the counts of one or two dimensions that are written here."""
_DAMAGE: Final = (
    *(ValueError, KeyError, MemoryError, EOFError, RuntimeError, NotImplementedError),
    *(zlib.error, zipfile.BadZipFile),
)


def save_figures(figures: RunFigures, path: Path) -> None:
    """Writes the counts of every phase, view and head; the same counts give the same bytes. Raises OutputError."""
    arrays: dict[str, NDArray[np.int64]] = {}
    for p, views in enumerate(figures.phases):
        for view, phase in views.items():
            arrays["groups"] = np.asarray(phase.groups, np.int64)
            for head, counts in (("linear", phase.linear), ("nearest", phase.nearest)):
                if counts is not None:
                    arrays[f"{p}/{view}/{head}/confusion"] = counts.confusion
                    if counts.within is not None:
                        arrays[f"{p}/{view}/{head}/within"] = counts.within
    with replacing(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_figures(path: Path) -> RunFigures:
    """The inverse of ``save_figures``; raises TrainingError if the file is missing, damaged or of another kind."""
    try:
        with open_file(path, TrainingError) as file, zipfile.ZipFile(file) as archive:
            return _from_arrays(_read_arrays(archive))
    except OSError as exc:
        raise TrainingError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    except _DAMAGE as exc:
        raise TrainingError(f"{path}: cannot be read: it is damaged ({' '.join(str(exc).split())[:200]})") from exc


def _read_arrays(archive: zipfile.ZipFile) -> dict[str, NDArray[np.int64]]:
    """The arrays of the archive by name. Headers are checked against file sizes before memory is allocated."""
    members = archive.infolist()
    if sum(member.file_size for member in members) > MAX_COUNTS:
        raise ValueError(f"it holds more than {MAX_COUNTS:,} bytes of counts")
    arrays: dict[str, NDArray[np.int64]] = {}
    for member in members:
        name = member.filename.removesuffix(".npy")
        if name in arrays or not (name == "groups" or _NAME.fullmatch(name)):
            raise ValueError(f"it has an unknown or repeated array {name[:60]!r}")
        with archive.open(member) as file:
            header = _HEADER.fullmatch(file.read(_HEADER_BYTES))
            shape = tuple(int(side) for side in header[1].split(b",") if side.strip()) if header else ()
            size = 8 * math.prod(shape)
            if header is None or size != member.file_size - _HEADER_BYTES:
                raise ValueError(f"{name} is not an array of int64 of that size")
            values = np.frombuffer(file.read(size), "<i8").astype(np.int64, copy=False).reshape(shape)
        if values.size and not 0 <= int(values.min()) <= int(values.max()) <= MAX_IMAGES:
            raise ValueError(f"{name} has a value that is not a number of images")
        arrays[name] = values
    return arrays


def _from_arrays(arrays: Mapping[str, NDArray[np.int64]]) -> RunFigures:
    if not arrays:
        return RunFigures()
    sizes = arrays.get("groups", np.empty(0, np.int64))
    if sizes.ndim != 1 or not 0 < len(sizes) < len(arrays) or not 0 < sizes.min() <= sizes.sum() <= MAX_CLASSES:
        raise ValueError("groups is not a list of numbers of classes")
    groups = tuple(sizes.tolist())
    classes = list(accumulate(groups))
    found: list[dict[str, dict[str, Counts]]] = [{} for _ in groups]
    for name, confusion in arrays.items():
        phase, _, rest = name.partition("/")
        if not rest.endswith("/confusion"):
            continue
        if int(phase) >= len(groups):
            raise ValueError(f"{name} is of a phase that groups does not have")
        view, head, _ = rest.split("/")
        within = arrays.get(f"{phase}/{view}/{head}/within")
        _check_counts(name, confusion, within, classes[int(phase)])
        found[int(phase)].setdefault(view, {})[head] = Counts(confusion, within)
    figures = RunFigures()
    for p, views in enumerate(found):
        figures = figures.after(
            {
                view: PhaseFigures(groups[: p + 1], heads["linear"], heads.get("nearest"))
                for view, heads in views.items()
            }
        )
    return figures


def _check_counts(name: str, confusion: NDArray[np.int64], within: NDArray[np.int64] | None, classes: int) -> None:
    """Raises ValueError if they do not count the images of ``classes`` classes."""
    if confusion.shape != (classes, classes):
        raise ValueError(f"{name} is {confusion.shape}, not ({classes}, {classes})")
    if within is None:
        return
    if within.shape != (classes,) or (within > confusion.sum(axis=1)).any():
        raise ValueError(f"{name} and its top-5 counts do not match")
