"""Checkpoints: safetensors and JSON, in ``checkpoint/`` of the run folder. Nothing is pickled.

``state.json`` defines the checkpoint: it names the file of tensors and is replaced in one step, so that a process
killed at any point leaves either the old or the new checkpoint. At the end of a phase memory, counts and metrics are
first written into ``checkpoint/`` and moved to their places after ``state.json`` is replaced; a resumed run moves what
a killed one left.

Tensors: ``network.NAME``; within a phase also ``old.NAME`` (the network to distil from) and ``optimizer.I.KEY``. The
random state is the model seed, the phase and the epoch: all random numbers of an epoch follow from these alone
(``escort_cil.epochs``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from escort_cil.run.figures import record_fault
from escort_cil.run.folder import CHECKPOINT, PENDING, STATE, WEIGHTS, RunFolder
from escort_codec.atomic import write_file
from escort_codec.errors import OutputError, TrainingError
from escort_codec.names import make_folder, refuse_link
from escort_codec.untrusted import check_file, parse_json, read_file

FORMAT: Final = 1
MAX_STATE: Final = 128 << 20  # bytes of state.json
ABOUT: Final = "escort"  # the key of a safetensors file's metadata


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """How far a run is: ``phase`` is the current phase and ``epoch`` counts its finished epochs.

    ``records`` are the lines of metrics.jsonl so far, ``tensors`` the file of weights ("" before the first), and
    ``random`` what all later random numbers follow from.
    """

    phase: int = 0
    epoch: int = 0
    tensors: str = ""
    records: tuple[Mapping[str, Any], ...] = ()
    random: Mapping[str, int] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one run folder."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self.folder = run / CHECKPOINT

    def load(self) -> CheckpointState | None:
        """The last complete checkpoint, or None. Raises TrainingError if it is damaged."""
        path = self.folder / STATE
        refuse_link(self.folder)
        try:
            values = parse_json(read_file(path, TrainingError, most=MAX_STATE))
        except TrainingError as exc:
            if isinstance(exc.__cause__, FileNotFoundError):
                return None
            raise
        except ValueError as exc:
            raise TrainingError(f"{path}: the checkpoint cannot be read: {exc}") from exc
        if isinstance(values, dict) and values.get("format", FORMAT) != FORMAT:
            raise TrainingError(f"{path}: the checkpoint is of another version of escort")
        fault = _state_fault(values)
        if fault:
            raise TrainingError(f"{path}: the checkpoint is damaged: {fault}")
        return CheckpointState(
            values["phase"], values["epoch"], values["tensors"], tuple(values["records"]), values["random"]
        )

    def records(self) -> Sequence[Mapping[str, Any]]:
        """The figures of the finished phases: those of the checkpoint, or of metrics.jsonl if there is none."""
        state = self.load()
        return RunFolder(self._run).read_metrics() if state is None else state.records

    def tensors(self, state: CheckpointState) -> dict[str, Tensor]:
        """The tensors of a checkpoint, on the CPU."""
        return load_tensors(self.folder / state.tensors)

    def save(self, state: CheckpointState, tensors: Mapping[str, Tensor]) -> None:
        """Makes ``state`` with its tensors the last checkpoint and removes the one before. Raises OutputError."""
        make_folder(self._run, CHECKPOINT)
        name = _weights_name(state.phase, state.epoch)
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
        for old in list(self.folder.iterdir()):
            if WEIGHTS.fullmatch(old.name) and old.name != name:
                old.unlink(missing_ok=True)

    def pending(self, name: str, phase: int) -> Path:
        """Where a file of the run folder waits until the checkpoint of the phase's end is complete."""
        make_folder(self._run, CHECKPOINT)
        return self.folder / f"after{phase:03d}-{name}"

    def publish(self, phase: int) -> None:
        """Moves what waits from phase ``phase`` to the run folder, and removes what other phases left."""
        refuse_link(self.folder)
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.iterdir()):
            waits = PENDING.fullmatch(path.name)
            if waits and int(waits[1]) == phase:
                refuse_link(path)
                path.replace(self._run / waits[2])
            elif waits:
                path.unlink()


def _weights_name(phase: int, epoch: int) -> str:
    return f"phase{phase:03d}-epoch{epoch:05d}.safetensors"


def _state_fault(values: Any) -> str:
    """Why ``values`` are not the contents of a state.json, or ""."""
    if not isinstance(values, dict) or set(values) != {"format", "phase", "epoch", "tensors", "records", "random"}:
        return "it has other keys than a checkpoint"
    phase, epoch, records, random = (values[key] for key in ("phase", "epoch", "records", "random"))
    for number in (phase, epoch, *(random.values() if isinstance(random, dict) else (None,))):
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            return "a phase, an epoch or a seed is not a whole number"
    if values["tensors"] != _weights_name(phase, epoch):
        return "its weights are not those of its phase and epoch"
    if not isinstance(records, list) or len(records) != phase:
        return "it does not have the figures of each finished phase"
    for number, record in enumerate(records):
        if fault := record_fault(record, records[:number]):
            return f"the figures of phase {number + 1}: {fault}"
    return ""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> None:
    """Writes tensors as safetensors, the whole file or nothing; ``read_about`` gives ``about`` back. Raises
    OutputError.

    ``about`` is one key of the metadata, as safetensors writes several in any order.
    """
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        data = save(plain, None if about is None else {ABOUT: json.dumps(about)})
    except (RuntimeError, ValueError) as exc:
        raise OutputError(f"{path}: the weights cannot be written: {exc}") from exc
    write_file(path, data)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads safetensors. Raises TrainingError if the file is missing, damaged, a link, or has values that are not
    finite."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_file(path, TrainingError)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError) as exc:
        raise TrainingError(f"{path}: the weights cannot be read: {exc}") from exc
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise TrainingError(f"{path}: the weights cannot be used: {name} is not finite")
    return tensors


def read_about(path: Path) -> dict[str, Any]:
    """The JSON object ``escort`` in the metadata of a safetensors file, {} if there is none. Raises TrainingError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = parse_json((file.metadata() or {}).get(ABOUT, "{}").encode())
    except (OSError, SafetensorError, ValueError) as exc:
        raise TrainingError(f"{path}: the weights cannot be read: {exc}") from exc
    return about if isinstance(about, dict) else {}


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, with the prefix and a dot before their names."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def restore(module: nn.Module, prefix: str, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Loads a module's weights from the tensors with a prefix. Raises TrainingError if they do not fit."""
    start = f"{prefix}."
    state = {name[len(start) :]: tensor for name, tensor in tensors.items() if name.startswith(start)}
    wanted = module.state_dict()
    for name, tensor in state.items():
        if name in wanted and tensor.dtype != wanted[name].dtype:
            raise TrainingError(f"{where}: the weights are of another network: {name} is {tensor.dtype}")
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
    """The inverse of ``optimizer_tensors``, for SGD. Raises TrainingError if they do not fit."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            number = int(index) if index.isdecimal() and len(index) < 9 else len(weights)
            if key != "momentum_buffer" or number >= len(weights) or tensor.shape != weights[number].shape:
                raise TrainingError(f"the checkpoint is damaged: {name[:60]!r} belongs to no weight")
            state.setdefault(number, {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
