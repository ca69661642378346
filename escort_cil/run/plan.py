"""A run before it begins: the data, the class order, the phases, and the configuration with nothing left open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from escort_cil.augment import transforms
from escort_cil.data.protocol import read_data, split_phases
from escort_cil.learners import Learner, learners
from escort_cil.memory.selection import selections
from escort_cil.networks import backbones
from escort_cil.run import folder as names
from escort_cil.run.folder import RunFolder
from escort_cil.run.resolve import find_data, resolve
from escort_cil.run.settings import TrainConfig
from escort_codec.container import Reader
from escort_codec.errors import ConfigError, TrainingError
from escort_codec.source import SourceImage, find_layout

INHERITED: Final = ("method", "backbone", "image_size", "transform", "eval_views")
"""Settings that a continued run must share with the run before: its network and its figures depend on them."""


class RunPlan:
    """Resolves a configuration: reads the data folder, draws the class order, splits the phases.

    ``class_to_idx`` maps a label to its class number; ``base`` is the run that this one continues, and ``first`` the
    first phase to train. No training images are needed of the classes ``learnt`` before a run was stopped (the first in
    its order). A context manager: the file of prompts is open. Raises EscortError.
    """

    def __init__(self, config: TrainConfig, learnt: Sequence[str] = ()) -> None:
        self.base = RunFolder(Path(config.continued)) if config.continued else None
        before = None if self.base is None else self.base.train_config()
        earlier = () if self.base is None or before is None else _phases_of(config, self.base, before)
        self.prompts_file = Reader(config.prompts_file) if config.prompts_file else None
        try:
            known = before.class_order if before is not None else ()
            self.data = read_data(find_data(config, self.prompts_file), config.holdout, learnt or known, config.layout)
            labels = sorted({*self.data.labels, *learnt} - set(known))
            self.config = resolve(config, self.data.folder, self.prompts_file, known, labels)
            self.order = self.config.class_order
            self.class_to_idx = {label: number for number, label in enumerate(self.order)}
            self.sizes = earlier + split_phases(len(labels), self.config.init_cls, self.config.increment)
            self.first = len(earlier)
            self.hyperparameters = self.config.hyperparameters()
            self.transform = transforms.get(self.config.transform)(self.config.image_size)
            self.select = selections.get(self.config.selection)
            self.budget = self.config.memory
            backbones.get(self.config.backbone)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file of prompts."""
        if self.prompts_file is not None:
            self.prompts_file.close()

    def __enter__(self) -> RunPlan:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The name of the run's folder: method, network, protocol, order seed, model seed."""
        c = self.config
        if self.base is not None:
            added = sum(self.sizes[self.first :])
            return f"{self.base.path.resolve().name}-then{added}-seed{c.seed}-model{c.model_seed}"
        return f"{c.method}-{c.backbone}-init{c.init_cls}-inc{c.increment}-seed{c.seed}-model{c.model_seed}"

    def values(self) -> dict[str, Any]:
        """The whole configuration as config.json holds it."""
        options = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.hyperparameters).items()}
        return self.config.to_map() | {"method_options": options}

    def learner(self) -> Learner:
        """The learner, before its first phase."""
        return learners.get(self.config.method)(self.hyperparameters, backbones.get(self.config.backbone))

    def labels(self, phase: int) -> tuple[str, ...]:
        """The classes of a phase."""
        known = sum(self.sizes[:phase])
        return self.order[known : known + self.sizes[phase]]

    def labels_until(self, phase: int) -> tuple[str, ...]:
        """All classes up to a phase's, in class order."""
        return self.order[: sum(self.sizes[: phase + 1])]

    def train_images(self, phase: int) -> Mapping[str, tuple[SourceImage, ...]]:
        """The training images of a phase's classes."""
        return {label: self.data.train[label] for label in self.labels(phase)}

    def describe(self) -> Iterator[str]:
        """Lines about the memory and the synthetic images, for the user to see what was decided."""
        config, budget = self.config, self.budget
        limit = budget.limit(len(self.order))
        bound = f"at most {limit:,} bytes in the end" if limit is not None else "bytes are reported, not limited"
        per_class = " per class" if budget.keep.counts else " of the budget" if len(budget.keep.parts) > 1 else ""
        yield f"memory: {budget.keep}{per_class}; {bound}"
        yield f"synthetic images: by {config.regenerator}, shown with probability {config.probability:g}"


def learnt_by(run: RunFolder) -> tuple[str, ...]:
    """The classes whose training images a stopped run no longer needs, in its order.

    None if the test images are held out from the same folders, if the learner sees all images in every phase, or if no
    class is left.
    """
    if not run.exists:
        return ()
    config, records = run.train_config(), run.read_metrics()
    learnt = config.class_order[: sum(records[-1]["groups"])] if records else ()
    data = Path(config.data)
    apart = data.is_dir() and find_layout(data, config.layout).held_apart and not learners.get(config.method).sees_all
    return learnt if apart and len(learnt) < len(config.class_order) else ()


def _phases_of(config: TrainConfig, base: RunFolder, before: TrainConfig) -> tuple[int, ...]:
    """The classes of each phase of the finished run ``base``, whose configuration is ``before``.

    Raises TrainingError if it is not finished, ConfigError if ``config`` cannot continue it.
    """
    records = base.read_metrics()
    groups = tuple(int(size) for size in records[-1]["groups"]) if records else ()
    if sum(groups) != len(before.class_order) or (base / names.CHECKPOINT).exists():
        raise TrainingError(f"{base.path}: is not finished: `resume` it first")
    for key in INHERITED:
        mine, theirs = getattr(config, key), getattr(before, key)
        if mine != theirs and not (key == "transform" and config.transform_name == theirs):
            raise ConfigError(f"{base.path} has {theirs}, which its continuation keeps", setting=key, value=mine)
    if learners.get(config.method).sees_all:
        raise ConfigError(f"{base.path}: {config.method} needs the images of all classes: train it anew on all of them")
    return groups
