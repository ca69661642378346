"""What a run writes: checkpoints, and after each phase metrics, counts, memory and weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from escort_cil.augment import Transform
from escort_cil.learners import Learner, learners
from escort_cil.memory.budget import Budget
from escort_cil.memory.contents import Contents, packed, read_contents
from escort_cil.metrics import RunFigures
from escort_cil.networks import GrowingNet, backbone_maker
from escort_cil.run import folder as names
from escort_cil.run.checkpoint import (
    Checkpoints,
    CheckpointState,
    load_tensors,
    prefixed,
    read_about,
    restore,
    save_tensors,
)
from escort_cil.run.figures import save_figures
from escort_cil.run.folder import RunFolder
from escort_cil.run.settings import TrainConfig
from escort_codec.atomic import replacing, write_file
from escort_codec.errors import TrainingError
from escort_codec.untrusted import check_file, open_file


class Recorder:
    """Writes the run folder, in the main process only (``writes``).

    A phase ends in one step, when ``state.json`` is replaced: before it none of its results count, after it all do.
    """

    def __init__(self, folder: RunFolder, model_seed: int, *, writes: bool, every: int) -> None:
        self.folder = folder
        self.records: list[Mapping[str, Any]] = []
        self.figures = RunFigures()
        self._checkpoints = Checkpoints(folder.path)
        self._model_seed = model_seed
        self._writes = writes
        self._every = every

    def state(self, groups: Sequence[int], epochs: Sequence[int]) -> CheckpointState | None:
        """The checkpoint of the run, or None; ``groups`` and ``epochs`` are those of its phases.

        Raises TrainingError if the checkpoint is damaged or of another run.
        """
        state = self._checkpoints.load()
        if state is not None:
            done = list(state.records[-1]["groups"]) if state.records else []
            if done != list(groups[: state.phase]) or state.epoch > (*epochs, 0)[state.phase]:
                raise TrainingError(f"{self._checkpoints.folder}: the checkpoint is of another run")
        return state

    def read_memory(self, labels: Sequence[str]) -> Contents:
        """The memory of the classes ``labels``. Raises TrainingError if it is missing or has other classes."""
        path = self.folder / names.MEMORY
        check_file(path, TrainingError)
        contents = read_contents(path, labels)
        if len(contents) > len(labels):
            raise TrainingError(f"{path}: holds {contents[-1].label!r}, which this run has not learnt")
        return contents

    def write_memory(self, contents: Contents, phase: int, budget: Budget) -> int:
        """Writes the memory after a phase, to be published with the rest; returns its size on disk in bytes.

        Raises TrainingError if it is above the budget.
        """
        data = packed(contents)
        limit = budget.limit(len(contents))
        if limit is not None and len(data) > limit:
            raise TrainingError(f"{self.folder / names.MEMORY}: {len(data)} bytes are above the budget of {limit}")
        if self._writes:
            path = self._checkpoints.pending(names.MEMORY, phase)
            write_file(path, data)
            if path.stat().st_size != len(data):
                raise TrainingError(f"{path}: has {path.stat().st_size} bytes on disk, not {len(data)}")
        return len(data)

    def end_phase(self, phase: int, record: Mapping[str, Any], learner: Learner) -> None:
        """Ends a phase: saves its checkpoint and publishes its files."""
        self.records.append(record)
        if self._writes:
            save_figures(self.figures, self._checkpoints.pending(names.CONFUSION, phase))
            self._save(CheckpointState(phase + 1, 0), learner.net, {})
            self._publish(phase, learner)

    def inside(self, phase: int, done: int, epochs: int, learner: Learner, optimizer: Mapping[str, Tensor]) -> None:
        """Saves a checkpoint every N epochs of a phase and after the last one."""
        if not self._writes or (done % self._every and done < epochs):
            return
        more = dict(optimizer)
        if learner.old_network is not None:
            more |= prefixed("old", learner.old_network.state_dict())
        self._save(CheckpointState(phase, done), learner.net, more)

    def _save(self, state: CheckpointState, network: nn.Module, more: Mapping[str, Tensor]) -> None:
        random = {"model_seed": self._model_seed, "phase": state.phase, "epoch": state.epoch}
        whole = CheckpointState(state.phase, state.epoch, "", tuple(self.records), random)
        self._checkpoints.save(whole, prefixed("network", network.state_dict()) | dict(more))

    def _publish(self, phase: int, learner: Learner | None) -> None:
        """Moves the files of a finished phase to their places; may be repeated."""
        self._checkpoints.publish(phase)
        self.folder.write_metrics(self.records)
        if learner is not None:
            about = {"groups": self.records[-1]["groups"]}  # ``load_model`` builds the network from it
            save_tensors(self.folder / names.MODEL, learner.net.state_dict(), about)

    def restore(self, state: CheckpointState, learner: Learner) -> None:
        """Continues from a checkpoint. ``learner`` has gone through the phases before it without training.

        Loads the weights after a finished phase; within a phase ``restore_inside`` loads them once it has begun.
        """
        self.records = list(state.records)
        ended = state.epoch == 0
        if state.phase and ended:
            restore(learner.net, "network", self._checkpoints.tensors(state), self._checkpoints.folder)
            learner.end_phase()
        if state.phase and self._writes:
            self._publish(state.phase - 1, learner if ended else None)

    def load_figures(self) -> None:
        """Reads the counts of the phases so far."""
        if self.records:
            self.figures = self.folder.read_figures()

    def restore_inside(self, state: CheckpointState, learner: Learner) -> Mapping[str, Tensor] | None:
        """Loads the weights of a checkpoint within a phase; returns the optimizer's tensors, or None at its start."""
        if state.epoch == 0:
            return None
        tensors = self._checkpoints.tensors(state)
        restore(learner.net, "network", tensors, self._checkpoints.folder)
        if learner.old_network is not None:
            restore(learner.old_network, "old", tensors, self._checkpoints.folder)
        return tensors

    def begin_from(self, base: RunFolder, learner: Learner) -> None:
        """Copies weights, memory, metrics and counts of a finished run."""
        self.records = list(base.read_metrics())
        self.figures = base.read_figures()
        restore(learner.net, "network", prefixed("network", load_tensors(base / names.MODEL)), base / names.MODEL)
        learner.end_phase()
        if self._writes and base.has(names.MEMORY):
            with open_file(base / names.MEMORY, TrainingError) as file, replacing(self.folder / names.MEMORY) as copy:
                shutil.copyfileobj(file, copy)

    def finish(self) -> None:
        """Removes the checkpoints of a finished run."""
        if self._writes:
            self.folder.remove_checkpoint()


def phase_line(record: Mapping[str, Any]) -> str:
    """One line about a phase's line of metrics.jsonl."""
    figures = [
        (name, record[key])
        for name, key in (
            ("top-1", "top1"),
            ("nearest mean", "nme_top1"),
            ("average incremental", "average_incremental_accuracy"),
        )
    ]
    facts = [f"{name} {value:.2f} %" for name, value in figures if value is not None]
    facts += [] if record["images"] else ["no test images yet"]
    facts += [f"memory {record['memory_bytes']:,} bytes"] if record["memory_bytes"] else []
    return f"phase {record['phase'] + 1} finished: {', '.join(facts)}"


def phase_values(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl for trackers: those of each view and of the memory."""
    found = {f"memory/{key[len('memory_') :]}": record[key] for key in record if "memory_" in key}
    found["model/bytes"] = record["model_bytes"]
    for view, figures in record["views"].items():
        found |= {f"{view}/{key}": value for key, value in figures.items()}
    return {key: float(value) for key, value in found.items() if isinstance(value, int | float)}


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A trained network on the CPU, in evaluation mode, with its configuration.

    Logit c is the class ``labels[c]``; ``groups`` says how many classes each phase brought. ``network`` maps float
    (B, 3, S, S), an evaluation image under ``transform``, to features and logits.
    """

    folder: RunFolder
    config: TrainConfig
    labels: tuple[str, ...]
    groups: tuple[int, ...]
    network: GrowingNet
    transform: Transform


def load_model(run: Path) -> SavedModel:
    """Loads the model of a run folder: that of the last finished phase.

    Raises TrainingError if there is no run or no finished phase, or if a file is damaged or of another run.
    """
    folder = RunFolder(run)
    config = folder.train_config()
    path = folder / names.MODEL
    if not folder.has(names.MODEL):
        raise TrainingError(f"{run}: has no {names.MODEL}: no phase of this run is finished")
    tensors = load_tensors(path)
    groups = _groups(path)
    if sum(groups) > len(config.class_order):
        raise TrainingError(f"{path}: knows {sum(groups)} classes, {names.CONFIG} names {len(config.class_order)}")
    maker = backbone_maker(config.backbone, config.stem, config.backbone_config, weights=False)
    learner = learners.get(config.method)(config.hyperparameters(), maker)
    held = sum(tensor.numel() for tensor in tensors.values())
    for size in groups:
        learner.begin_phase(size, 0)  # the weights are replaced
        if sum(weights.numel() for weights in learner.net.parameters()) > held:
            raise TrainingError(f"{path}: the weights are of another network: there are too few")
    restore(learner.net, "network", prefixed("network", tensors), path)
    return SavedModel(
        folder,
        config,
        config.class_order[: sum(groups)],
        groups,
        learner.net.eval(),
        config.make_transform(),
    )


def _groups(path: Path) -> tuple[int, ...]:
    """The classes that each phase brought, from the file's header."""
    groups = read_about(path).get("groups")
    if not isinstance(groups, list) or not groups or not all(type(size) is int and size > 0 for size in groups):
        raise TrainingError(f"{path}: does not say which classes it knows: it is not a model of `escort train`")
    return tuple(groups)
