"""A run before it begins: the data, the class order, the phases, and the configuration with nothing left open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from escort_cil.augment import transforms
from escort_cil.data.protocol import check_class_order, class_order, read_data, split_phases
from escort_cil.learners import Learner, learners
from escort_cil.memory.encoder import Decode, Maker, Wanted, options_like
from escort_cil.memory.selection import selections
from escort_cil.networks import backbones
from escort_cil.run import folder as names
from escort_cil.run.folder import RunFolder
from escort_cil.run.settings import TrainConfig
from escort_codec.container import Reader
from escort_codec.errors import ConfigError, TrainingError
from escort_codec.hint import hint_size
from escort_codec.source import SourceImage, has_split

KEPT: Final = {
    "method": "its network",
    "backbone": "its network",
    "image_size": "its network",
    "transform": "its network",
    "eval_views": "its list of figures",
}
"""What a run that goes on has from the one before, and why."""


class Plan:
    """Resolves a configuration: reads the data folder, draws the class order, splits the phases.

    ``numbers`` maps a label to its class number; ``base`` is the run that this one goes on from, and ``first`` the
    first phase that is trained. Of the classes ``learnt`` before a run was stopped (the first in its order) no training
    images are needed. Use as a context manager: the file of prompts is open. Raises EscortError.
    """

    def __init__(self, config: TrainConfig, learnt: Sequence[str] = ()) -> None:
        self.base = RunFolder(Path(config.continued)) if config.continued else None
        held = None if self.base is None else self.base.train_config()
        before = () if self.base is None or held is None else _continued(config, self.base, held)
        self.prompts = Reader(config.prompts) if config.prompts else None
        try:
            known = held.class_order if held is not None else ()
            self.data = read_data(_data_folder(config, self.prompts), config.holdout, learnt or known)
            labels = sorted({*self.data.labels, *learnt} - set(known))
            self.config = _resolved(config, self.data.folder, self.prompts, known, labels)
            self.order = self.config.class_order
            self.numbers = {label: number for number, label in enumerate(self.order)}
            self.sizes = before + split_phases(len(labels), self.config.init_cls, self.config.increment)
            self.first = len(before)
            self.hyperparameters = self.config.hyperparameters()
            self.transform = transforms.get(self.config.transform)(self.config.image_size)
            self.select = selections.get(self.config.selection)
            self.budget = self.config.make_budget()
            backbones.get(self.config.backbone)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file of prompts."""
        if self.prompts is not None:
            self.prompts.close()

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def make_maker(self, decode: Decode) -> Maker:
        """What makes exemplars of training images, which ``decode`` decodes."""
        config, kept = self.config, self.budget.mix
        wanted = Wanted(prompt=kept.prompt > 0, reduced=kept.real > 0 and config.real_kind.side is not None)
        options = config.encode_options()
        return Maker(config.real_kind, options, prompts=self.prompts, hint=config.hint, wanted=wanted, decode=decode)

    def make_test_maker(self) -> Maker:
        """What makes prompts of test images. The file's are theirs where they are held out of the training folders."""
        prompts = self.prompts if self.data.held_out else None
        return Maker(self.config.real_kind, self.config.encode_options(), prompts=prompts, hint=self.config.hint)

    @property
    def name(self) -> str:
        """What the run's folder is called: method, network, protocol, order seed, model seed."""
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
        """The classes that a phase brings."""
        known = sum(self.sizes[:phase])
        return self.order[known : known + self.sizes[phase]]

    def so_far(self, phase: int) -> tuple[str, ...]:
        """All classes up to a phase's."""
        return self.order[: sum(self.sizes[: phase + 1])]

    def train_images(self, phase: int) -> Mapping[str, tuple[SourceImage, ...]]:
        """The training images of the classes that a phase brings."""
        return {label: self.data.train[label] for label in self.labels(phase)}


def learnt_by(run: RunFolder) -> tuple[str, ...]:
    """The classes whose training images a run that was stopped needs no more, in its order.

    None where the test images are held out from the same folders, where the learner sees all images in every phase,
    and where the run is all but finished.
    """
    if not run.exists:
        return ()
    config, records = run.train_config(), run.read_metrics()
    learnt = config.class_order[: sum(records[-1]["groups"])] if records else ()
    apart = has_split(Path(config.data), "train") and not learners.get(config.method).sees_all
    return learnt if apart and len(learnt) < len(config.class_order) else ()


def _continued(config: TrainConfig, base: RunFolder, held: TrainConfig) -> tuple[int, ...]:
    """The classes that each phase of the run ``base`` (of configuration ``held``) brought.

    Raises TrainingError where it is not finished, ConfigError where ``config`` cannot go on from it.
    """
    records = base.read_metrics()
    groups = tuple(int(size) for size in records[-1]["groups"]) if records else ()
    if sum(groups) != len(held.class_order) or (base / names.CHECKPOINT).exists():
        raise TrainingError(f"{base.path}: has not finished: --resume it first")
    for key, what in KEPT.items():
        mine, theirs = getattr(config, key), getattr(held, key)
        if mine != theirs and not (key == "transform" and config.transform_name == theirs):
            raise ConfigError(f"--{key.replace('_', '-')} {mine}: {base.path} has {theirs}, and {what} is gone on with")
    if learners.get(config.method).sees_all:
        raise ConfigError(f"{base.path}: {config.method} needs the images of all classes: train it anew on all of them")
    return groups


def _data_folder(config: TrainConfig, prompts: Reader | None) -> str:
    """The data folder: as given, else as the file of prompts records it."""
    if config.data:
        return config.data
    if prompts is None:
        raise ConfigError("no data: give the folder DATA, or --memory FILE.escx, which records it")
    if not prompts.source:
        raise ConfigError(f"{config.prompts}: does not say which folder it was made of: give DATA")
    if not Path(prompts.source).is_dir():
        raise ConfigError(
            f"{config.prompts}: was made of {prompts.source!r}, which is not here (it is relative to the current "
            "folder): give DATA"
        )
    return prompts.source


def _resolved(
    config: TrainConfig, folder: str, prompts: Reader | None, known: tuple[str, ...], new: Sequence[str]
) -> TrainConfig:
    """The configuration with all defaults that depend on data or prompts filled in; ``new`` labels are sorted."""
    if config.class_order:
        order = check_class_order(config.class_order, [*known, *new], "the class order")
        if order[: len(known)] != known:
            raise ConfigError("the class order must begin with the classes that the run before has learnt")
    else:
        order = known + (class_order(new, config.seed) if config.shuffle else tuple(new))
    increment = config.increment or config.init_cls or max(1, -(-len(new) // 5))
    if (config.memory_only and not config.init_cls) or known:
        increment = config.increment or len(new)
    seeds = config.seeds or (prompts.seeds if prompts is not None else ()) or (0, 1, 2, 3, 4)
    wanted = config.augmentations_per_image or len(seeds)
    if wanted > len(seeds):
        raise ConfigError(f"--augmentations-per-image {wanted}: there are {len(seeds)} seeds: give more (--seeds)")
    if config.memory_only and not learners.get(config.method).uses_memory:
        raise ConfigError(f"--memory-only: {config.method} keeps no memory")
    if prompts is not None:
        config = _like_prompts(config, prompts, typed=not known)
    return replace(
        config,
        data=folder,
        class_order=order,
        init_cls=config.init_cls or min(increment, len(new)),
        increment=increment,
        seeds=seeds,
        augmentations_per_image=wanted,
        transform=config.transform_name,
        augmentation_prob=config.probability,
        selection="random" if config.memory_only else config.selection,
    )


def _check_hint(side: int, prompts: Reader) -> None:
    """Raises ConfigError where the file's hints are not of ``side`` pixels, as far as its first one tells."""
    first = next((exemplar for exemplar in prompts if exemplar.hint), None)
    held = max(hint_size(first.hint)) if first is not None and first.hint else 0
    if held != (side if first is None else min(side, max(first.size))):
        raise ConfigError(
            f"--hint {side}: the prompts of {prompts.path} have {f'hints of {held} pixels' if held else 'no hints'}: "
            f"leave it out, or encode the images anew with --hint {side}"
        )


def _like_prompts(config: TrainConfig, prompts: Reader, *, typed: bool) -> TrainConfig:
    """The configuration with the file's way to make prompts: it holds where the file is gone.

    Raises ConfigError where ``config`` says another way: the file's prompts are taken as they are, but for a hint
    that is left out. ``typed``: it does not have that way from a run before.
    """
    made = options_like(prompts, config.encode_options(), None)
    ways = {
        "preset": made.preset,
        "canny_low": made.settings.low,
        "canny_high": made.settings.high,
        "blur": made.settings.blur,
        "min_contour": made.settings.min_contour,
        "coding": made.coding,
    }
    for key, value in ways.items():
        if typed and getattr(config, key) not in (value, getattr(TrainConfig(), key)):
            raise ConfigError(
                f"{key} = {getattr(config, key)}: the prompts of {config.prompts} were made with {value}: leave it "
                "out, or encode the images anew"
            )
    if typed and config.hint:
        _check_hint(config.hint, prompts)
    hint = config.hint
    if hint is None and (made.hint or not any(exemplar.hint for exemplar in prompts)):
        hint = made.hint
    return replace(
        config,
        preset=made.preset,
        canny_low=made.settings.low,
        canny_high=made.settings.high,
        blur=made.settings.blur,
        min_contour=made.settings.min_contour,
        coding=made.coding,
        hint=hint,
    )
