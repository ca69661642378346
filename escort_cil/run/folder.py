"""The run folder: ``config.json``, ``split.json`` if test images are held out, ``metrics.jsonl``, ``confusion.npz``,
``memory.escx``, ``model.safetensors``, ``log.txt``, and ``checkpoint/`` until the run is finished.
"""

from __future__ import annotations

import json
import logging
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import escort_codec
from escort_cil.data.split import Splits, splits_from_map, splits_to_map
from escort_cil.metrics import Counts, PhaseFigures, RunFigures
from escort_cil.run.settings import TrainConfig
from escort_codec.atomic import replacing, write_file
from escort_codec.errors import ConfigError, OutputError, TrainingError

CONFIG: Final = "config.json"
SPLIT: Final = "split.json"
METRICS: Final = "metrics.jsonl"
CONFUSION: Final = "confusion.npz"
MEMORY: Final = "memory.escx"
MODEL: Final = "model.safetensors"
LOG: Final = "log.txt"
CACHE: Final = "cache"
CHECKPOINT: Final = "checkpoint"

# What may differ between a run and the command that resumes it: where and how it runs, not what is computed.
FREE: Final = frozenset(
    ["device", "cache", "cache_memory", "workers", "checkpoint_every", "track", "command", "version"]
)


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def exists(self) -> bool:
        """Whether a run has begun here."""
        return (self / CONFIG).exists() or (self / METRICS).exists()

    def begin(self, *, force: bool) -> None:
        """Makes the folder for a new run. Raises OutputError if it holds one already, unless ``force``."""
        if self.exists and not force:
            raise OutputError(
                f"{self.path}: holds a run already: `resume` it, replace it (`force`), or give another `out`"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in (CONFIG, SPLIT, METRICS, CONFUSION, MEMORY, MODEL, LOG):
                (self / name).unlink(missing_ok=True)
            shutil.rmtree(self / CHECKPOINT, ignore_errors=True)
        except OSError as exc:
            raise OutputError(f"{self.path}: the run folder cannot be made: {exc.strerror or exc}") from exc

    def write_config(self, values: Mapping[str, Any], command: Sequence[str]) -> None:
        """Writes config.json: the resolved configuration, the version, and the command line."""
        whole = {"version": escort_codec.__version__, "command": list(command), **values}
        write_file(self / CONFIG, (json.dumps(whole, indent=2, ensure_ascii=False) + "\n").encode())

    def write_split(self, splits: Splits) -> None:
        """Writes split.json: which images are held out as the test set."""
        write_file(self / SPLIT, (json.dumps(splits_to_map(splits), ensure_ascii=False) + "\n").encode())

    def read_split(self) -> Splits | None:
        """Which images the run held out; None if it held out none. Raises TrainingError if that cannot be read."""
        try:
            values = json.loads((self / SPLIT).read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as exc:
            raise TrainingError(f"{self / SPLIT}: cannot be read: {exc}") from exc
        return splits_from_map(values, str(self / SPLIT))

    def read_config(self) -> dict[str, Any]:
        """The contents of config.json. Raises TrainingError if it is missing or not a configuration."""
        try:
            values = json.loads((self / CONFIG).read_text("utf-8"))
        except FileNotFoundError as exc:
            runs = sorted(str(path.parent) for path in self.path.glob(f"*/{CONFIG}"))
            if runs:
                more = f" or {len(runs) - 1} more" if len(runs) > 1 else ""
                raise TrainingError(f"{self.path}: holds runs and is not one: give {runs[0]}{more}") from exc
            raise TrainingError(f"{self.path}: is not a run folder: it has no {CONFIG}") from exc
        except (OSError, ValueError) as exc:
            raise TrainingError(f"{self / CONFIG}: cannot be read: {exc}") from exc
        if not isinstance(values, dict):
            raise TrainingError(f"{self / CONFIG}: is not a configuration")
        return values

    def train_config(self) -> TrainConfig:
        """The configuration of the run."""
        values = self.read_config()
        return TrainConfig.from_map({key: value for key, value in values.items() if key not in ("version", "command")})

    def check_config(self, values: Mapping[str, Any]) -> None:
        """Raises ConfigError, which shows the difference, if the run has another configuration than ``values``."""
        held = self.read_config()
        wanted = json.loads(json.dumps(values))
        keys = sorted((set(held) | set(wanted)) - FREE)
        differing = [key for key in keys if held.get(key) != wanted.get(key)]
        if differing:
            shown = "; ".join(f"{key} was {held.get(key)!r}, is {wanted.get(key)!r}" for key in differing)
            raise ConfigError(f"{self.path}: has another configuration: {shown}")

    def write_metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Writes metrics.jsonl, one line per phase."""
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
        write_file(self / METRICS, "".join(lines).encode())

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; none if there is no such file."""
        if not (self / METRICS).exists():
            return []
        return [json.loads(line) for line in (self / METRICS).read_text("utf-8").splitlines() if line.strip()]

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Log records of the packages go to log.txt with their time while the block runs, details included."""
        handler = logging.FileHandler(self / LOG, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        loggers = [logging.getLogger(name) for name in ("escort_cil", "escort_codec")]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.removeHandler(handler)
                logger.setLevel(level)
            handler.close()


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
