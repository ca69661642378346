"""Checkpoints: safetensors and JSON, in ``checkpoint/`` of the run folder. Nothing is pickled.

``state.json`` is the one file that counts: it names the tensors' file and is replaced in one step, so that a process
killed at any point leaves the checkpoint before or the one after. What a phase's end publishes (memory, counts,
metrics) is written into ``checkpoint/`` first and moved to its place after ``state.json``; a resumed run moves what is
left of a killed one.

Tensors: ``network.NAME``; within a phase also ``old.NAME`` (the network that is distilled from) and
``optimizer.I.KEY``, and in the file's header the epochs done. The random state is the model seed, the phase and the
epoch: every epoch's numbers are drawn from these alone (``escort_cil.epochs``).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from escort_cil.run.folder import CHECKPOINT
from escort_codec.atomic import write_file
from escort_codec.errors import OutputError, TrainingError

STATE: Final = "state.json"
FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """How far a run is: ``phase`` is the current phase and ``epoch`` counts its finished epochs.

    ``records`` are the lines of metrics.jsonl so far, ``tensors`` the file of weights ("" before the first), and
    ``random`` what every later random number is drawn from.
    """

    phase: int = 0
    epoch: int = 0
    tensors: str = ""
    records: tuple[Mapping[str, Any], ...] = ()
    random: Mapping[str, int] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one run folder."""

    def __init__(self, run: Path) -> None:
        self.folder = run / CHECKPOINT

    def load(self) -> CheckpointState | None:
        """The last complete checkpoint, or None. Raises TrainingError if it is damaged."""
        path = self.folder / STATE
        try:
            values = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            raise TrainingError(f"{path}: the checkpoint cannot be read: {exc}") from exc
        try:
            if values.pop("format") != FORMAT:
                raise TrainingError(f"{path}: the checkpoint is of another version of escort")
            return CheckpointState(**{**values, "records": tuple(values["records"])})
        except (KeyError, TypeError, AttributeError) as exc:
            raise TrainingError(f"{path}: the checkpoint is damaged: {exc}") from exc

    def tensors(self, state: CheckpointState) -> dict[str, Tensor]:
        """The tensors of a checkpoint, on the CPU."""
        return load_tensors(self.folder / state.tensors)

    def save(self, state: CheckpointState, tensors: Mapping[str, Tensor]) -> None:
        """Makes ``state`` with its tensors the last checkpoint and removes the one before. Raises OutputError."""
        self.folder.mkdir(exist_ok=True)
        name = f"phase{state.phase:03d}-epoch{state.epoch:05d}.safetensors"
        save_tensors(self.folder / name, tensors)
        values = {
            "format": FORMAT,
            "phase": state.phase,
            "epoch": state.epoch,
            "tensors": name,
            "records": list(state.records),
            "random": dict(state.random),
        }
        write_file(self.folder / STATE, json.dumps(values).encode())
        for old in self.folder.glob("*.safetensors"):
            if old.name != name:
                old.unlink(missing_ok=True)

    def pending(self, name: str, phase: int) -> Path:
        """Where a file of the run folder waits until the checkpoint of the phase's end is complete."""
        self.folder.mkdir(exist_ok=True)
        return self.folder / f"after{phase:03d}-{name}"

    def publish(self, run: Path, phase: int) -> None:
        """Moves what waits from phase ``phase`` to the run folder, and removes what other phases left."""
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob("after*-*")):
            number, _, name = path.name[len("after") :].partition("-")
            if int(number) == phase:
                path.replace(run / name)
            else:
                path.unlink()

    def remove(self) -> None:
        """Removes all checkpoints, ``state.json`` first."""
        (self.folder / STATE).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes tensors as safetensors, the whole file or nothing. Raises OutputError."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        data = save(plain, dict(metadata) if metadata else None)
    except (RuntimeError, ValueError) as exc:
        raise OutputError(f"{path}: the weights cannot be written: {exc}") from exc
    write_file(path, data)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads safetensors. Raises TrainingError if the file is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as exc:
        raise TrainingError(f"{path}: the weights cannot be read: {exc}") from exc


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, with the prefix and a dot before their names."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def restore(module: nn.Module, prefix: str, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Loads a module's weights from the tensors with a prefix. Raises TrainingError if they are another network's."""
    start = f"{prefix}."
    state = {name[len(start) :]: tensor for name, tensor in tensors.items() if name.startswith(start)}
    try:
        module.load_state_dict(state)
    except RuntimeError as exc:
        reason = " ".join(str(exc).split())
        raise TrainingError(f"{where}: the weights are of another network: {reason[:300]}") from exc


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as tensors ``optimizer.I.KEY``, I counting the parameters."""
    found: dict[str, Tensor] = {}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            if value is not None:
                found[f"optimizer.{index}.{key}"] = torch.as_tensor(value)
    return found


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of ``optimizer_tensors``."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
