"""The run folder: ``config.json``, ``split.json`` if test images are held out, ``metrics.jsonl``, ``confusion.npz``,
``memory.escx``, ``model.safetensors``, ``first-phase.safetensors``, ``log.txt``, and ``checkpoint/`` until the run is
finished.

It is not trusted: links in it are not followed, only files with our names are removed, and what is read is checked.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import escort_codec
from escort_cil.data.split import Splits, splits_from_map, splits_to_map
from escort_cil.metrics import RunFigures
from escort_cil.run.figures import load_figures, read_records
from escort_cil.run.settings import TrainConfig
from escort_codec.atomic import replacing, write_file
from escort_codec.container.locked_file import lock
from escort_codec.errors import BusyError, ConfigError, OutputError, TrainingError, UsageError
from escort_codec.names import refuse_link
from escort_codec.untrusted import open_file, parse_json, read_file
from escort_codec.words import escaped

CONFIG: Final = "config.json"
SPLIT: Final = "split.json"
METRICS: Final = "metrics.jsonl"
CONFUSION: Final = "confusion.npz"
MEMORY: Final = "memory.escx"
MODEL: Final = "model.safetensors"
FIRST_PHASE: Final = "first-phase.safetensors"
LOG: Final = "log.txt"
VIEW: Final = "memory.html"
"""A page that `escort view --export` may write there; the report links to it."""
CACHE: Final = "cache"
CHECKPOINT: Final = "checkpoint"
STATE: Final = "state.json"
KEEP: Final = "keep.json"
"""The search of `keep` auto."""

FILES: Final = (CONFIG, SPLIT, METRICS, CONFUSION, MEMORY, MODEL, FIRST_PHASE, LOG, KEEP)
FOLDERS: Final = (CACHE, "tensorboard", "wandb")

WEIGHTS: Final = re.compile(r"phase[0-9]{3,}-epoch[0-9]{5,}\.safetensors")
PENDING: Final = re.compile(rf"after([0-9]{{3,}})-({re.escape(MEMORY)}|{re.escape(CONFUSION)})")
"""The files in ``checkpoint/`` beside ``state.json``."""

MAX_CONFIG: Final = 16 << 20  # bytes
MAX_SPLIT: Final = 128 << 20

# Settings that may differ between a run and the command that resumes it: they do not change the results.
_MACHINE: Final = ("device", "cache", "cache_memory", "workers", "checkpoint_every", "track")
FREE: Final = frozenset([*_MACHINE, "check", "on_error", "command", "version"])

NOT_SETTINGS: Final = frozenset(["version", "command", "from"])
"""Keys in config.json and in the output of ``escort train --print-config`` that are not settings."""

log = logging.getLogger(__name__)


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def exists(self) -> bool:
        """Whether a run has begun here."""
        return any(os.path.lexists(self / name) for name in (CONFIG, METRICS))

    def has(self, name: str) -> bool:
        """Whether there is anything of that name, even a broken link."""
        return os.path.lexists(self / name)

    def refuse_links(self) -> None:
        """Raises OutputError if a file or folder that the run would write to is a link."""
        for name in (*FILES, CHECKPOINT, *FOLDERS):
            refuse_link(self / name)

    def check_free(self) -> None:
        """Raises OutputError if the folder holds a run."""
        if self.exists:
            raise OutputError(
                f"{self.path}: holds a run already: `resume` it, replace it (`force`), or give another `out`"
            )

    def begin(self, *, force: bool) -> None:
        """Makes the folder for a new run. Raises OutputError if it holds one already, unless ``force``."""
        if not force:
            self.check_free()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in FOLDERS:
                refuse_link(self / name)
            for name in FILES:
                (self / name).unlink(missing_ok=True)
            self.remove_checkpoint()
        except OSError as exc:
            raise OutputError(f"{self.path}: the run folder cannot be made: {exc.strerror or exc}") from exc

    def remove_checkpoint(self) -> None:
        """Removes the checkpoints, ``state.json`` first, and ``checkpoint/`` if it is empty then. Raises OSError."""
        folder = self / CHECKPOINT
        if folder.is_symlink():
            folder.unlink()
        if not folder.is_dir():
            return
        (folder / STATE).unlink(missing_ok=True)
        for path in list(folder.iterdir()):
            if WEIGHTS.fullmatch(path.name) or PENDING.fullmatch(path.name):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()

    def write_config(self, values: Mapping[str, Any], command: Sequence[str]) -> None:
        """Writes config.json: the resolved configuration, the version, and the command line."""
        shown = [part.encode(errors="backslashreplace").decode() for part in command]
        whole = {"version": escort_codec.__version__, "command": shown, **values}
        write_file(self / CONFIG, (json.dumps(whole, indent=2, ensure_ascii=False) + "\n").encode())

    def write_keep(self, keep: str) -> None:
        """Records the choice of ``keep`` in config.json."""
        values = {**self.read_config(), "keep": keep}
        write_file(self / CONFIG, (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())

    def write_split(self, splits: Splits) -> None:
        """Writes split.json: which images are held out as the test set."""
        write_file(self / SPLIT, (json.dumps(splits_to_map(splits), ensure_ascii=False) + "\n").encode())

    def read_split(self) -> Splits | None:
        """Which images the run held out; None if it held out none. Raises TrainingError if that cannot be read."""
        path = self / SPLIT
        if not self.has(SPLIT):
            return None
        try:
            values = parse_json(read_file(path, TrainingError, most=MAX_SPLIT))
        except ValueError as exc:
            raise TrainingError(f"{path}: is not JSON: {exc}") from exc
        return splits_from_map(values, str(path))

    def read_config(self) -> dict[str, Any]:
        """The contents of config.json. Raises TrainingError if it is missing or not a configuration."""
        path = self / CONFIG
        try:
            values = parse_json(read_file(path, TrainingError, most=MAX_CONFIG))
        except TrainingError as exc:
            if not isinstance(exc.__cause__, FileNotFoundError):
                raise
            runs = sorted(str(found.parent) for found in self.path.glob(f"*/{CONFIG}"))
            if runs:
                more = f" or {len(runs) - 1} more" if len(runs) > 1 else ""
                raise TrainingError(f"{self.path}: holds runs and is not one: give {runs[0]}{more}") from exc
            raise TrainingError(f"{self.path}: is not a run folder: it has no {CONFIG}") from exc
        except ValueError as exc:
            raise TrainingError(f"{path}: is not JSON: {exc}") from exc
        if not isinstance(values, dict):
            raise TrainingError(f"{path}: is not a configuration")
        return values

    def train_config(self) -> TrainConfig:
        """The configuration of the run. Raises TrainingError, also for values that are not valid."""
        values = self.read_config()
        try:
            return TrainConfig.from_map({key: value for key, value in values.items() if key not in NOT_SETTINGS})
        except UsageError as exc:
            raise TrainingError(f"{self / CONFIG}: {exc}") from exc

    def check_config(self, values: Mapping[str, Any]) -> None:
        """Raises ConfigError, which shows the difference, if the run has another configuration than ``values``."""
        held, wanted = self.train_config().to_map(), TrainConfig.from_map(values).to_map()
        differing = [key for key in sorted(set(wanted) - FREE) if held[key] != wanted[key]]
        if differing:
            shown = "; ".join(f"{key} was {held[key]!r}, is {wanted[key]!r}" for key in differing)
            raise ConfigError(f"{self.path}: has another configuration: {shown}")

    def write_metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Writes metrics.jsonl, one line per phase."""
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
        write_file(self / METRICS, "".join(lines).encode())

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; none if there is no such file. Raises TrainingError if it is not such a file."""
        return read_records(self / METRICS) if self.has(METRICS) else []

    def read_figures(self) -> RunFigures:
        """The counts in confusion.npz. Raises TrainingError."""
        return load_figures(self / CONFUSION)

    def finished(self, groups: Sequence[int]) -> list[dict[str, Any]] | None:
        """The lines of metrics.jsonl if the run is finished, None if it can be resumed.

        ``groups`` are the classes that each of its phases brings. Raises TrainingError if it can do neither.
        """
        if self.has(f"{CHECKPOINT}/{STATE}"):
            return None
        records = self.read_metrics()
        done = list(records[-1]["groups"]) if records else []
        if done == list(groups):
            return records
        if not done and not self.has(MODEL):  # it was stopped before its first checkpoint
            return None
        raise TrainingError(
            f"{self.path}: {len(done)} of {len(groups)} phases are finished, but {CHECKPOINT}/ is missing. "
            "`escort evaluate` and `escort report` still work; set `force` to train from the start"
        )

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Log records of the packages go to log.txt with their time while the block runs, details included.

        The file is locked: two processes never write one run at once. Raises BusyError.
        """
        handler = _LogFile(self / LOG)
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


class _LogFile(logging.Handler):
    """Appends each record as one line with its time. Warns once if a line cannot be written."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        self._path = path
        self._file = _open_log(path)
        try:
            with contextlib.suppress(OutputError):  # a file system without locks
                lock(self._file, path)
        except BusyError as exc:
            os.close(self._file)
            raise BusyError(f"{path.parent}: another process is training this run: wait until it ends") from exc
        self._torn = self._failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line."""
        line = b"\n" * self._torn + escaped(self.format(record)).encode() + b"\n"
        written = 0
        try:
            written = os.write(self._file, line)
            if written < len(line):
                os.write(self._file, line[written:])  # raises the reason
            self._torn = False
        except OSError as exc:
            self._torn = self._torn or written > 0
            if not self._failed:
                self._failed = True
                log.warning("%s: cannot be written: %s: the run continues without it", self._path, exc.strerror or exc)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)
        super().close()


def _open_log(path: Path) -> int:
    """A descriptor to append to ``path``; raises OutputError if it is a link or no regular file."""
    refuse_link(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, flag, 0)
    try:
        if path.exists() and path.stat().st_nlink > 1:  # a hard link: make it a file of its own
            with open_file(path, OutputError) as file, replacing(path) as copy:
                shutil.copyfileobj(file, copy)
        descriptor = os.open(path, flags, 0o666)
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written: {exc.strerror or exc}") from exc
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OutputError(f"{path}: cannot be written: it is not a regular file")
    return descriptor
