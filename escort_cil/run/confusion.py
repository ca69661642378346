"""The confusion matrices of a run in one file: ``confusion.npz`` of the run folder.

A NumPy archive without pickles: ``groups``, int64 (P,), the classes that each phase brought, and for each phase, view
and head ``PHASE/VIEW/HEAD/confusion``, int64 (C, C), images of class row called class column, and
``PHASE/VIEW/HEAD/within``, int64 (C,), images of each class whose class was among the first five. HEAD is ``linear``
or ``nearest``; classes stand in the class order. Every figure of the run follows from it (``escort_cil.metrics``).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from escort_cil.metrics import Counts, PhaseFigures, RunFigures
from escort_codec.atomic import replacing
from escort_codec.errors import TrainingError

MAX_BYTES: Final = 1 << 30  # of all arrays
_DAMAGE: Final = (
    *(ValueError, KeyError, IndexError, MemoryError, EOFError, RuntimeError),
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
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_BYTES:
                raise TrainingError(f"{path} cannot be read: it holds more than {MAX_BYTES} bytes of counts")
        with np.load(path, allow_pickle=False) as stored:
            return _from_arrays({name: stored[name] for name in stored.files})
    except OSError as exc:
        raise TrainingError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    except _DAMAGE as exc:
        raise TrainingError(f"{path} cannot be read: it is damaged ({' '.join(str(exc).split())})") from exc


def _from_arrays(arrays: Mapping[str, NDArray[Any]]) -> RunFigures:
    if not arrays:
        return RunFigures()
    groups = tuple(int(size) for size in _checked(arrays["groups"], "groups", (arrays["groups"].size,)))
    found: list[dict[str, dict[str, Counts]]] = [{} for _ in groups]
    for name, array in arrays.items():
        if not name.endswith("/confusion"):
            continue
        phase, view, head, _ = name.split("/")
        classes = sum(groups[: int(phase) + 1])
        within = arrays.get(f"{phase}/{view}/{head}/within")
        found[int(phase)].setdefault(view, {})[head] = Counts(
            _checked(array, name, (classes, classes)),
            None if within is None else _checked(within, name, (classes,)),
        )
    figures = RunFigures()
    for p, views in enumerate(found):
        figures = figures.after(
            {
                view: PhaseFigures(groups[: p + 1], heads["linear"], heads.get("nearest"))
                for view, heads in views.items()
            }
        )
    return figures


def _checked(array: NDArray[Any], name: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
    if array.dtype != np.int64 or array.shape != shape or (array.size and int(array.min()) < 0):
        raise ValueError(f"{name} is {array.dtype} {array.shape}, not counts of shape {shape}")
    return array
