"""Sends the figures of a run to TensorBoard or Weights & Biases."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from escort_codec.errors import ConfigError
from escort_codec.registry import Registry


class Tracker(Protocol):
    """Receives the figures of a run."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Takes the figures of a step."""

    def close(self) -> None:
        """Writes buffered figures."""


class TensorBoard:
    """Event files in the run folder. Raises ConfigError if tensorboard is not installed."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        _need("tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("config", json.dumps(dict(config), indent=2))

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Adds scalars."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the files."""
        self._writer.close()


class WandB:
    """A run of the project "escort"; its files are in the run folder. Raises ConfigError if wandb is not installed."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        _need("wandb")
        wandb: Any = importlib.import_module("wandb")
        self._run = wandb.init(project="escort", dir=str(folder), name=folder.name, config=dict(config))

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Logs scalars."""
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


trackers: Final[Registry[type[TensorBoard] | type[WandB]]] = Registry("tracker")
trackers.add("tensorboard", TensorBoard)
trackers.add("wandb", WandB)


def make_trackers(names: Sequence[str], folder: Path, config: Mapping[str, Any]) -> list[Tracker]:
    """The trackers of a run. Raises ConfigError."""
    return [trackers.get(name)(folder, config) for name in names]


def check_trackers(names: Sequence[str]) -> None:
    """Raises ConfigError or UnknownNameError for a tracker that cannot be used, before anything is trained."""
    for name in names:
        trackers.get(name)
        _need(name)


def _need(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"{package} is not installed: pip install {package}", setting="track", value=package)
