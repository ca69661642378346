"""A run before it begins: its data, class order and phases, and its configuration with all defaults filled in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from escort_cil.data.protocol import numbers_note, read_data, split_phases
from escort_cil.data.split import Splits
from escort_cil.learners import Learner, learners
from escort_cil.memory.selection import selections
from escort_cil.networks import STEMS, BackboneMaker, backbone_maker, is_pretrained
from escort_cil.run import folder as names
from escort_cil.run.checkpoint import Checkpoints
from escort_cil.run.folder import RunFolder
from escort_cil.run.presets import filled
from escort_cil.run.resolve import find_data, resolve
from escort_cil.run.settings import TrainConfig
from escort_codec.container import open_memory
from escort_codec.errors import ConfigError, TrainingError
from escort_codec.source import SourceImage, find_layout
from escort_codec.untrusted import check_file

SLOW_SIDE: Final = 128  # from this image size on, training on a CPU takes days

INHERITED: Final = ("method", "backbone", "stem", "image_size", "transform", "eval_views", "background")
"""Settings that a continued run must share with its base: network and figures depend on them."""


class RunPlan:
    """Resolves a configuration: reads the data folder, draws the class order, splits the phases.

    ``class_to_idx`` maps a label to its class number; ``base`` is the run that this one continues, and ``first`` the
    first phase to train. A stopped run does not need the training images of classes that it has ``learnt`` (the first
    in its order), and has ``recorded`` its held-out images; if it is ``trained``, the weights of a pretrained backbone
    are not loaded again. Use it in a ``with`` block: it keeps the file of prompts open. Raises EscortError.
    """

    def __init__(
        self,
        config: TrainConfig,
        learnt: Sequence[str] = (),
        recorded: Splits | None = None,
        *,
        trained: bool = False,
    ) -> None:
        self.base = RunFolder(Path(config.continued)) if config.continued else None
        before = None if self.base is None else self.base.train_config()
        if before is not None and config.backbone == before.backbone:
            config = replace(config, backbone_config=before.backbone_config)
        if before is not None and config.budget and not (config.keep or config.prompts_file):
            units = config.memory.unit, before.memory.unit
            config = replace(config, keep=str(before.kept)) if units == ("bytes", "bytes") else config
        earlier = () if self.base is None or before is None else _phases_of(config, self.base, before)
        self.prompts_file = open_memory(config.prompts_file) if config.prompts_file else None
        try:
            known = before.class_order if before is not None else ()
            data = find_data(config, self.prompts_file)
            if before is not None and self.base is not None and recorded is None and _same(data, before.data):
                recorded = self.base.read_split()
            self.data = read_data(data, config.holdout, learnt or known, config.layout, recorded)
            labels = sorted({*self.data.labels, *learnt} - set(known))
            train = (image for group in self.data.train.values() for image in group)
            config, self.decided = filled(config, train)
            self.config = resolve(config, self.data.folder, self.prompts_file, known, labels)
            self.order = self.config.class_order
            drawn = config.shuffle and not config.class_order
            self.notes = numbers_note(labels, self.config.seed) if drawn else ()
            self.class_to_idx = {label: number for number, label in enumerate(self.order)}
            self.sizes = earlier + split_phases(len(labels), self.config.init_cls, self.config.increment)
            self.first = len(earlier)
            self.hyperparameters = self.config.hyperparameters()
            self.transform = self.config.make_transform()
            self.select = selections.get(self.config.selection)
            self.budget = self.config.memory
            self._backbone = self._backbone_maker(trained or before is not None)
        except BaseException:
            self.close()
            raise

    def _backbone_maker(self, trained: bool) -> BackboneMaker:
        """Makes the network's backbones. Raises ConfigError if the method cannot use them."""
        c, kind = self.config, learners.get(self.config.method)
        if c.freeze and not (is_pretrained(c.backbone) or self.base is not None):
            raise ConfigError(f"{c.backbone} is not pretrained: its weights are random", setting="freeze", value=True)
        if c.freeze and kind.grows:
            raise ConfigError(f"{c.method} adds trained parts to the backbone each phase", setting="freeze", value=True)
        maker = backbone_maker(c.backbone, c.stem, c.backbone_config, weights=not trained)
        if is_pretrained(c.backbone):
            from escort_cil.networks.pretrained import check_use, has_stages

            if kind.needs_stages and not has_stages(c.backbone_config):
                raise ConfigError(
                    f"{kind.needs_stages}, and {c.backbone} has no stages: take a resnet or another method",
                    setting="method",
                    value=c.method,
                )
            assert c.image_size is not None
            check_use(c.backbone, c.backbone_config, maker, c.image_size)
        return maker

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
        network = c.backbone
        if is_pretrained(network):
            network = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(network).name.removeprefix("hf:"))
        return f"{c.method}-{network}-init{c.init_cls}-inc{c.increment}-seed{c.seed}-model{c.model_seed}"

    def values(self) -> dict[str, Any]:
        """The whole configuration as config.json holds it."""
        options = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.hyperparameters).items()}
        return self.config.to_map() | {"method_options": options}

    def learner(self) -> Learner:
        """The learner, before its first phase."""
        c = self.config
        return learners.get(c.method)(
            self.hyperparameters, self._backbone, frozen=c.freeze, backbone_rate=c.backbone_rate
        )

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

    @property
    def remembers(self) -> bool:
        """Whether the method keeps a memory."""
        return learners.get(self.config.method).uses_memory

    @property
    def sees_all(self) -> bool:
        """Whether the method sees the images of all classes in every phase."""
        return learners.get(self.config.method).sees_all

    def use_keep(self, keep: str) -> None:
        """Replaces ``keep`` auto by the choice."""
        self.config = replace(self.config, keep=keep)
        self.budget = self.config.memory

    def leave_out(self, bad: Mapping[SourceImage, str]) -> None:
        """Drops bad images and notes the reasons. Raises SourceError if a class has no training image left."""
        if bad:
            data = self.data.without(bad)
            self.data = replace(data, changes=(*data.changes, *(f"skipped: {fault}" for fault in bad.values())))

    def describe_network(self) -> str:
        """One line on method, network, image size and transform."""
        config = self.config
        stem = f", stem {config.stem} ({STEMS[config.stem].describe()})" if config.stem in STEMS else ""
        trained = ""
        if config.freeze:
            trained = ", frozen"
        elif config.backbone_rate != 1:
            trained = f", trained at {config.backbone_rate:g} of the learning rate"
        augmented = "with" if self.transform.auto_augment else "without"
        return (
            f"{config.method} with {config.backbone}{trained} at {config.image_size} pixels{stem}; "
            f"transform {config.transform} {augmented} AutoAugment"
        )

    def describe(self, device: str, *, on_cpu: bool) -> Iterator[str]:
        """Lines on data, network, memory and synthetic images, so that the user sees all decisions."""
        yield from (self.data.layout, *self.data.notes, *self.notes, *self.data.changes)
        yield f"{self.describe_network()}; on {device}"
        if on_cpu and self.transform.size >= SLOW_SIDE:
            yield "this is slow on a CPU: resnet10 at 64 pixels with 30 epochs takes minutes, not days"
        if self.remembers:
            yield from self.describe_memory()

    def describe_memory(self) -> Iterator[str]:
        """Lines on the memory and the synthetic images."""
        config, budget = self.config, self.budget
        limit = budget.limit(len(self.order))
        bound = f"at most {limit:,} bytes in the end" if limit is not None else "bytes are reported, not limited"
        per_class = " per class" if budget.keep.counts else " of the budget" if len(budget.keep.parts) > 1 else ""
        units = ""
        if budget.amount is not None and budget.unit == "units":
            each = " + ".join(map(str, budget.counts(len(self.order))))
            shared = f"{budget.amount:g} units " + ("per class" if budget.per_class else "in all")
            units = f"; {shared}: at most {each} per class in the end"
        yield f"memory: {budget.keep}{per_class}{units}; {bound}"
        if not config.keep and not config.prompts_file and budget.unit == "bytes":
            yield "there is no file of prompts: learned pictures are kept (`keep` chooses otherwise)"
        options = ", ".join(f"{name} {value}" for name, value in config.regenerator_options.items())
        regenerator = f"{config.regenerator} ({options})" if options else config.regenerator
        yield f"synthetic images: by {regenerator}, shown with probability {config.probability:g}"


def _same(folder: str, other: str) -> bool:
    return bool(other) and Path(folder).resolve() == Path(other).resolve()


def plan_of(config: TrainConfig, stopped: RunFolder | None = None) -> RunPlan:
    """The plan of a new run, or of one that ``stopped`` in its folder and will continue. Raises EscortError."""
    if stopped is None or not stopped.exists:
        return RunPlan(config)
    trained = Checkpoints(stopped.path).load() is not None
    return RunPlan(config, learnt_by(stopped), stopped.read_split(), trained=trained)


def learnt_by(run: RunFolder) -> tuple[str, ...]:
    """The classes whose training images a stopped run no longer needs, in its order.

    There are none if the test images are held out from the same folders, if the learner sees all images in every phase,
    or if no class is left.
    """
    if not run.exists:
        return ()
    config, records = run.train_config(), Checkpoints(run.path).records()
    learnt = config.class_order[: sum(records[-1]["groups"])] if records else ()
    data = Path(config.data)
    apart = data.is_dir() and find_layout(data, config.layout).held_apart and not learners.get(config.method).sees_all
    return learnt if apart and len(learnt) < len(config.class_order) else ()


def _phases_of(config: TrainConfig, base: RunFolder, before: TrainConfig) -> tuple[int, ...]:
    """The classes of each phase of the finished run ``base``, whose configuration is ``before``.

    Raises TrainingError if it is not finished, ConfigError if ``config`` cannot continue it.
    """
    for name in names.FILES:
        if base.has(name):
            check_file(base / name, TrainingError)
    records = base.read_metrics()
    groups = tuple(int(size) for size in records[-1]["groups"]) if records else ()
    if sum(groups) != len(before.class_order) or base.has(f"{names.CHECKPOINT}/{names.STATE}"):
        raise TrainingError(f"{base.path}: is not finished: `resume` it first")
    whole, _ = filled(config)
    for key in INHERITED:
        mine, theirs = getattr(whole, key), getattr(before, key)
        if mine != theirs:
            raise ConfigError(f"{base.path} has {theirs}: leave it out to continue that run", setting=key, value=mine)
    if learners.get(config.method).sees_all:
        raise ConfigError(f"{base.path}: {config.method} needs the images of all classes: train it anew on all of them")
    return groups
