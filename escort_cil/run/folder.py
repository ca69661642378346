"""The run folder: ``config.json``, ``metrics.jsonl``, ``confusion.npz``, ``memory.escx``, ``model.safetensors``,
``log.txt``, and ``checkpoint/`` until the run is finished.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import escort_codec
from escort_cil.run.settings import TrainConfig
from escort_codec.atomic import write_file
from escort_codec.errors import ConfigError, OutputError, TrainingError

CONFIG: Final = "config.json"
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
            for name in (CONFIG, METRICS, CONFUSION, MEMORY, MODEL, LOG):
                (self / name).unlink(missing_ok=True)
            shutil.rmtree(self / CHECKPOINT, ignore_errors=True)
        except OSError as exc:
            raise OutputError(f"{self.path}: the run folder cannot be made: {exc.strerror or exc}") from exc

    def write_config(self, values: Mapping[str, Any], command: Sequence[str]) -> None:
        """Writes config.json: the resolved configuration, the version, and the command line."""
        whole = {"version": escort_codec.__version__, "command": list(command), **values}
        write_file(self / CONFIG, (json.dumps(whole, indent=2, ensure_ascii=False) + "\n").encode())

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
