"""A run before it begins: its data, class order and phases, and its configuration with all defaults filled in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from escort_cil.data.protocol import check_class_order, class_order, read_data, split_phases
from escort_cil.data.split import Splits
from escort_cil.learners import Learner, learners
from escort_cil.memory.prompts import options_of
from escort_cil.memory.selection import selections
from escort_cil.networks import backbones
from escort_cil.run import folder as names
from escort_cil.run.checkpoint import Checkpoints
from escort_cil.run.folder import RunFolder
from escort_cil.run.settings import TrainConfig
from escort_codec.container import Reader
from escort_codec.errors import ConfigError, TrainingError, UsageError
from escort_codec.foreign import check_file
from escort_codec.recipe import EncodeOptions, parse_colour
from escort_codec.settings import settings_of
from escort_codec.source import SourceImage, find_layout

PHASES = 5  # if the increment is not given


def find_data(config: TrainConfig, prompts_file: Reader | None) -> str:
    """The data folder: the setting, else what the file of prompts records. Raises ConfigError."""
    if config.data:
        return config.data
    if prompts_file is None:
        raise ConfigError("no data: give `data`, or `prompts_file`, which records it")
    if not prompts_file.source:
        raise ConfigError(f"{config.prompts_file}: does not record which folder it was made from: give `data`")
    if not Path(prompts_file.source).is_dir():
        raise ConfigError(
            f"{config.prompts_file}: was made from {prompts_file.source!r}, which is not here (it is relative to the "
            "current folder): give `data`"
        )
    return prompts_file.source


def resolve(
    config: TrainConfig, folder: str, prompts_file: Reader | None, known: tuple[str, ...], new: Sequence[str]
) -> TrainConfig:
    """The configuration with all defaults filled in. ``known`` are the labels of the run that it continues, in order;
    ``new`` labels are sorted. Raises ConfigError."""
    if config.class_order:
        order = check_class_order(config.class_order, [*known, *new])
        if order[: len(known)] != known:
            raise ConfigError("must begin with the classes that the continued run has learnt", setting="class_order")
    else:
        order = known + (class_order(new, config.seed) if config.shuffle else tuple(new))
    increment = config.increment or config.init_cls or max(1, -(-len(new) // PHASES))
    if (config.memory_only and not config.init_cls) or known:
        increment = config.increment or len(new)
    seeds = config.seeds or (prompts_file.seeds if prompts_file is not None else ()) or EncodeOptions().seeds
    copies = config.augmentations_per_image or len(seeds)
    if copies > len(seeds):
        raise ConfigError(
            f"there are {len(seeds)} seeds: give more `seeds`", setting="augmentations_per_image", value=copies
        )
    if config.memory_only and not learners.get(config.method).uses_memory:
        raise ConfigError(f"{config.method} keeps no memory", setting="memory_only")
    if prompts_file is not None:
        config = _as_the_prompts(config, prompts_file, may_differ=bool(known))
    return replace(
        config,
        data=folder,
        class_order=order,
        init_cls=config.init_cls or min(increment, len(new)),
        increment=increment,
        seeds=seeds,
        augmentations_per_image=copies,
        transform=config.transform_name,
        augmentation_prob=config.probability,
        selection="random" if config.memory_only else config.selection,
    )


def _as_the_prompts(config: TrainConfig, prompts_file: Reader, *, may_differ: bool) -> TrainConfig:
    """The configuration with the settings that the file's prompts were encoded with: they hold if the file is gone.

    Prompts are used as they are, except that their hints can be left out. Raises ConfigError if ``config`` asks for
    another setting, unless it ``may_differ`` because it was another run's.
    """
    made = options_of(prompts_file, config.encode_options(), None)
    used: dict[str, Any] = {
        "preset": made.preset,
        "canny_low": made.settings.low,
        "canny_high": made.settings.high,
        "blur": made.settings.blur,
        "min_contour": made.settings.min_contour,
        "coding": made.coding,
    }
    try:
        if prompts_file.background and parse_colour(prompts_file.background) != parse_colour(config.background):
            used["background"] = prompts_file.background
    except UsageError as exc:
        raise ConfigError(f"{config.prompts_file}: its background is no colour: {prompts_file.background!r}") from exc
    for key, value in used.items():
        asked = getattr(config, key)
        if not may_differ and asked not in (value, settings_of(TrainConfig)[key].default):
            raise ConfigError(
                f"the prompts of {config.prompts_file} were made with {value}: leave it out, or encode the images anew",
                setting=key,
                value=asked,
            )
    if not may_differ and config.hint:
        _check_hint(config.hint, prompts_file)
    hint = config.hint
    if hint is None and (made.hint or not any(exemplar.hint for exemplar in prompts_file)):
        hint = made.hint
    return replace(config, **used, hint=hint)


def _check_hint(side: int, prompts_file: Reader) -> None:
    """Raises ConfigError if the file's first hint is not of ``side`` pixels."""
    first = next((exemplar for exemplar in prompts_file if exemplar.hint), None)
    held = max(first.hint_size or (0,)) if first is not None else 0
    if held != (side if first is None else min(side, max(first.size))):
        what = f"hints of {held} pixels" if held else "no hints"
        raise ConfigError(
            f"the prompts of {prompts_file.path} have {what}: leave it out, or encode the images anew",
            setting="hint",
            value=side,
        )


INHERITED: Final = ("method", "backbone", "image_size", "transform", "eval_views", "background")
"""Settings that a continued run must share with the run before: its network and its figures depend on them."""


class RunPlan:
    """Resolves a configuration: reads the data folder, draws the class order, splits the phases.

    ``class_to_idx`` maps a label to its class number; ``base`` is the run that this one continues, and ``first`` the
    first phase to train. A run that was stopped needs no training images of the classes it has ``learnt`` (the first in
    its order), and has ``recorded`` which images it held out. Use it in a ``with`` block: it keeps the file of prompts
    open. Raises EscortError.
    """

    def __init__(self, config: TrainConfig, learnt: Sequence[str] = (), recorded: Splits | None = None) -> None:
        self.base = RunFolder(Path(config.continued)) if config.continued else None
        before = None if self.base is None else self.base.train_config()
        earlier = () if self.base is None or before is None else _phases_of(config, self.base, before)
        self.prompts_file = Reader(config.prompts_file) if config.prompts_file else None
        try:
            known = before.class_order if before is not None else ()
            data = find_data(config, self.prompts_file)
            if before is not None and self.base is not None and recorded is None and _same(data, before.data):
                recorded = self.base.read_split()
            self.data = read_data(data, config.holdout, learnt or known, config.layout, recorded)
            labels = sorted({*self.data.labels, *learnt} - set(known))
            self.config = resolve(config, self.data.folder, self.prompts_file, known, labels)
            self.order = self.config.class_order
            self.class_to_idx = {label: number for number, label in enumerate(self.order)}
            self.sizes = earlier + split_phases(len(labels), self.config.init_cls, self.config.increment)
            self.first = len(earlier)
            self.hyperparameters = self.config.hyperparameters()
            self.transform = self.config.make_transform()
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

    @property
    def remembers(self) -> bool:
        """Whether the method keeps a memory."""
        return learners.get(self.config.method).uses_memory

    @property
    def sees_all(self) -> bool:
        """Whether the method sees the images of all classes in every phase."""
        return learners.get(self.config.method).sees_all

    def use_keep(self, keep: str) -> None:
        """Puts what was chosen in the place of ``keep`` auto."""
        self.config = replace(self.config, keep=keep)
        self.budget = self.config.memory

    def leave_out(self, bad: Mapping[SourceImage, str]) -> None:
        """Leaves bad images out; the reasons become notes. Raises SourceError if a class has no training image left."""
        if bad:
            data = self.data.without(bad)
            self.data = replace(data, changes=(*data.changes, *(f"skipped: {fault}" for fault in bad.values())))

    def describe(self) -> Iterator[str]:
        """Lines about the memory and the synthetic images, for the user to see what was decided."""
        config, budget = self.config, self.budget
        limit = budget.limit(len(self.order))
        bound = f"at most {limit:,} bytes in the end" if limit is not None else "bytes are reported, not limited"
        per_class = " per class" if budget.keep.counts else " of the budget" if len(budget.keep.parts) > 1 else ""
        yield f"memory: {budget.keep}{per_class}; {bound}"
        options = ", ".join(f"{name} {value}" for name, value in config.regenerator_options.items())
        maker = f"{config.regenerator} ({options})" if options else config.regenerator
        yield f"synthetic images: by {maker}, shown with probability {config.probability:g}"


def _same(folder: str, other: str) -> bool:
    return bool(other) and Path(folder).resolve() == Path(other).resolve()


def plan_of(config: TrainConfig, stopped: RunFolder | None = None) -> RunPlan:
    """The plan of a new run, or of one that was ``stopped`` in its folder and goes on there. Raises EscortError."""
    if stopped is None or not stopped.exists:
        return RunPlan(config)
    return RunPlan(config, learnt_by(stopped), stopped.read_split())


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
    for key in INHERITED:
        mine, theirs = getattr(config, key), getattr(before, key)
        if mine != theirs and not (key == "transform" and config.transform_name == theirs):
            raise ConfigError(f"{base.path} has {theirs}, which its continuation keeps", setting=key, value=mine)
    if learners.get(config.method).sees_all:
        raise ConfigError(f"{base.path}: {config.method} needs the images of all classes: train it anew on all of them")
    return groups
