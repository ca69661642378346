"""Class-incremental training: the phases of a run, from the data folder to the run folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from escort_cil import run_folder as names
from escort_cil.augment import transforms
from escort_cil.checkpoint import (
    Checkpoints,
    State,
    prefixed,
    restore,
    save_tensors,
)
from escort_cil.config import TrainConfig
from escort_cil.confusion import load_figures, save_figures
from escort_cil.copies import Copier, CopyCache
from escort_cil.devices import Devices
from escort_cil.evaluate import Evaluator, class_means, predictions
from escort_cil.events import Event, PhaseBegan, PhaseEnded, Report, Said, silent
from escort_cil.fitting import Fitting, fit
from escort_cil.items import Shown, store_items
from escort_cil.learners import learners
from escort_cil.memory.contents import Contents, figures_of, packed, read_contents, write_whole
from escort_cil.metrics import MemoryFigures, RunFigures, phase_figures
from escort_cil.networks import backbones
from escort_cil.phase_data import check_size, memory_images, remember, shown_images, shown_memory
from escort_cil.phases import DataSet, check_class_order, class_order, read_data, split_phases
from escort_cil.policy import Maker
from escort_cil.randomness import derived_seed
from escort_cil.run_folder import RunFolder
from escort_cil.selection import selections
from escort_cil.store import ImageStore, Source
from escort_codec.container import Reader
from escort_codec.errors import ConfigError
from escort_codec.regenerate import regenerators
from escort_codec.source import SourceImage


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run: its folder, its resolved configuration, class order, lines of metrics.jsonl and counts."""

    folder: Path
    config: TrainConfig
    class_order: tuple[str, ...]
    records: tuple[Mapping[str, Any], ...]
    figures: RunFigures


def train(
    config: TrainConfig,
    *,
    out: Path | None = None,
    report: Report = silent,
    force: bool = False,
    resume: bool = False,
    command: Sequence[str] | None = None,
) -> RunResult:
    """Trains phase by phase and leaves a run folder ``out`` (``runs/<name>`` if left out).

    ``report`` is told what goes on (``escort_cil.events``). An existing run raises OutputError, unless ``force``
    replaces it or ``resume`` goes on with it, which gives the same metrics as if it had never stopped. ``command`` is
    recorded. Raises EscortError of many kinds: see ``escort_codec.errors``.
    """
    with Trainer(config, report) as trainer:
        folder = RunFolder(out or Path("runs") / trainer.name)
        return trainer.run(folder, force=force, resume=resume, command=sys.argv if command is None else command)


class Trainer:
    """One run. Resolves the configuration when made; ``run`` does the work."""

    def __init__(self, config: TrainConfig, report: Report = silent) -> None:
        self._report = report
        self._log: RunFolder | None = None
        self.prompts = Reader(config.prompts) if config.prompts else None
        self.data = read_data(_data_folder(config, self.prompts), config.holdout)
        self.config = _resolved(config, self.data, self.prompts)
        self.hyperparameters = self.config.hyperparameters()
        self.order = self.config.class_order
        self.numbers = {label: number for number, label in enumerate(self.order)}
        self.sizes = split_phases(len(self.order), self.config.init_cls, self.config.increment)
        self.learner = learners.get(config.method)(self.hyperparameters, backbones.get(config.backbone))
        self.transform = transforms.get(self.config.transform)(self.config.image_size)
        self.select = selections.get(self.config.selection)
        self.budget = self.config.make_budget()
        self.maker = Maker(self.config.real_kind, self.config.encode_options(), prompts=self.prompts, hint=config.hint)

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.prompts is not None:
            self.prompts.close()

    @property
    def name(self) -> str:
        """What the run's folder is called: method, network, protocol, order seed, model seed."""
        c = self.config
        return f"{c.method}-{c.backbone}-init{c.init_cls}-inc{c.increment}-seed{c.seed}-model{c.model_seed}"

    def config_values(self) -> dict[str, Any]:
        """The whole configuration as config.json holds it."""
        return self.config.to_map() | {"method_options": _plain(asdict(self.hyperparameters))}

    def say(self, text: str) -> None:
        """Reports a line."""
        self._tell(Said(text))

    def _tell(self, event: Event) -> None:
        if self.devices.is_main:
            if self._log is not None:
                self._log.log(str(event))
            self._report(event)

    # The run.

    def run(self, folder: RunFolder, *, force: bool, resume: bool, command: Sequence[str]) -> RunResult:
        """See ``train``."""
        config = self.config
        self.devices = Devices(config.device, config.mixed_precision, track=config.track, folder=folder.path)
        self.folder = folder
        self.checkpoints = Checkpoints(folder.path)
        if self.devices.is_main:
            if resume and folder.exists:
                folder.check_config(_plain(self.config_values()))
            else:
                folder.begin(force=force)
                folder.write_config(self.config_values(), command)
            self._log = folder
        self.devices.wait()
        state = self.checkpoints.load() if resume else None
        cache = CopyCache(
            Path(config.cache) if config.cache else folder / names.CACHE,
            regenerators.get(config.regenerator)(config.make_regenerator_options()),
        )
        kept = self.budget.mix
        self.copier = Copier(
            self.maker,
            cache,
            config.seeds[: config.augmentations_per_image],
            prompts=kept.prompt > 0,
            reals=config.real_kind if kept.real > 0 else None,
            say=self.say,
        )
        self.evaluator = Evaluator(self.devices, self.transform, self.hyperparameters.batch_size, config.workers)
        self.test = self.transform.evaluation_store(cache_bytes=config.cache_memory)
        self.test_copies = self.transform.evaluation_store(cache_bytes=config.cache_memory)
        self.figures = RunFigures()
        self.records: list[Mapping[str, Any]] = []
        self._introduce(cache)
        with cache.regenerator:
            first = self._restore(state) if state is not None else 0
            for phase in range(first, len(self.sizes)):
                self._phase(phase, state if state is not None and state.phase == phase else None)
        if self.devices.is_main:
            self.checkpoints.remove()
        self.devices.wait()
        return RunResult(folder.path, config, self.order, tuple(self.records), self.figures)

    def _introduce(self, cache: CopyCache) -> None:
        """Says what is about to be done and what was decided for the user."""
        config, limit = self.config, self.budget.limit(len(self.order))
        if self.data.note:
            self.say(self.data.note)
        self.say(f"{config.method} with {config.backbone} at {config.image_size} pixels on {self.devices}")
        if self.learner.uses_memory:
            kept = self.budget.mix
            share = (
                f"{kept.real:g} real and {kept.prompt:g} prompts a class"
                if kept.counts
                else f"{100 * kept.real:g} % real, {100 * kept.prompt:g} % prompts"
            )
            bound = f"at most {limit:,} bytes in the end" if limit is not None else "bytes are reported, not limited"
            self.say(f"memory: {share} ({config.real}), {bound}")
            self.say(f"copies: by {cache.regenerator.name}, probability {config.probability:g}")

    def _phase(self, phase: int, state: State | None) -> None:
        """One phase, from its beginning or from the checkpoint ``state`` inside it."""
        learner, config = self.learner, self.config
        known = sum(self.sizes[:phase])
        labels = self.order[known : known + self.sizes[phase]]
        new = {label: self.data.train[label] for label in labels}
        held: Contents = ()
        if learner.uses_memory and phase:
            held = read_contents(self.folder / names.MEMORY, self.order[:known])
        learner.begin_phase(len(labels), derived_seed(config.model_seed, "weights", phase))
        resumed = self._restore_inside(state) if state is not None else None
        after = self._remember(phase, held, new) if config.memory_only else None
        shown = self._shown(phase, new, held if after is None else after)
        store = self.transform.training_store(cache_bytes=config.cache_memory)
        items = store_items(shown, store, config.workers)
        schedule = self.hyperparameters.schedule(phase)
        remembered = sum(len(memory) for memory in held if after is None) or sum(map(len, after or ()))
        self._tell(PhaseBegan(phase, len(self.sizes), labels, len(shown) - remembered, remembered, schedule.epochs))
        fitting = Fitting(
            self.devices,
            self.transform,
            config.model_seed,
            config.probability,
            config.gradient_accumulation,
            len(self.sizes),
            self._tell,
        )
        fit(
            fitting,
            learner,
            store,
            items,
            done=state.epoch if state is not None else 0,
            resumed=resumed,
            epoch_ended=lambda done, optimizer: self._checkpoint_inside(phase, done, schedule.epochs, optimizer),
        )
        store.close()
        learner.end_training()
        if learner.uses_memory and after is None:
            after = self._remember(phase, held, new)
        self._finish(phase, labels, after)

    def _shown(self, phase: int, new: Mapping[str, Sequence[SourceImage]], held: Contents) -> list[Shown]:
        """What the network is shown in a phase."""
        copier = self.copier if self.config.probability > 0 and self.learner.uses_memory else None
        remembered = shown_memory(held, self.numbers, self.copier, self.config.probability)
        if self.config.memory_only:
            return remembered
        if self.learner.sees_all:
            new = {label: self.data.train[label] for label in self.order[: sum(self.sizes[: phase + 1])]}
        images = [image for group in new.values() for image in group]
        return shown_images(images, self.numbers, copier) + remembered

    def _remember(self, phase: int, held: Contents, new: Mapping[str, Sequence[SourceImage]]) -> Contents:
        """The memory after the phase."""
        features: dict[str, Tensor] = {}
        for label, images in new.items():
            sources: list[Source] = [image.path for image in images]
            if self.config.memory_only:  # there is no network yet to select with
                features[label] = torch.zeros(len(images), 1)
            else:
                features[label] = self.evaluator.features(self.learner.net, sources, [str(s) for s in sources])
        seeds = {label: derived_seed(self.config.model_seed, "selection", self.numbers[label]) for label in new}
        contents: Contents = ()
        if self.devices.is_main:
            contents = remember(
                held, new, features, budget=self.budget, maker=self.maker, select=self.select, seeds=seeds
            )
        return self.devices.from_main(contents)

    def _finish(self, phase: int, labels: Sequence[str], contents: Contents | None) -> None:
        """Evaluates, makes the checkpoint of the phase's end, and publishes memory, counts and metrics."""
        memory = MemoryFigures()
        if contents is not None:
            data = packed(contents)
            pending = self.checkpoints.pending(names.MEMORY, phase)
            if self.devices.is_main:
                write_whole(pending, data)
                size = pending.stat().st_size
                check_size(size, self.budget, len(contents), pending)
            memory = figures_of(contents, len(data))
        self._evaluate(phase, labels, contents)
        record = self.figures.to_record(memory)
        self.records.append(record)
        self.learner.end_phase()
        if self.devices.is_main:
            save_figures(self.figures, self.checkpoints.pending(names.CONFUSION, phase))
            self._save(State(phase + 1, 0, "", tuple(self.records)), {})
            self._publish(phase)
        self.devices.wait()
        self._tell(PhaseEnded(record))

    def _publish(self, phase: int) -> None:
        """Puts what belongs to the end of ``phase`` in its place; doing it twice does no harm."""
        self.checkpoints.publish(self.folder.path, phase)
        self.folder.write_metrics(self.records)
        about = {"format": "escort", "method": self.config.method, "backbone": self.config.backbone}
        save_tensors(self.folder / names.MODEL, self.learner.net.state_dict(), about)

    def _evaluate(self, phase: int, labels: Sequence[str], contents: Contents | None) -> None:
        """Adds the phase's figures."""
        views = self.config.eval_views
        images = [image for label in labels for image in self.data.test.get(label, ())]
        sources: list[Source] = [image.path for image in images]
        self._add_test(self.test, sources, images)
        if views != "real":
            first = self.config.seeds[:1]
            copies = [row[0] for row in self.copier.of_images(images, first)]
            self._add_test(self.test_copies, copies, images)
        so_far = self.order[: sum(self.sizes[: phase + 1])]
        true = torch.tensor(
            [self.numbers[label] for label in so_far for _ in self.data.test.get(label, ())], dtype=torch.int64
        )
        ids = torch.arange(len(true))
        outputs = {"real": self.evaluator.run(self.learner.net, self.test, ids)}
        if views != "real":
            outputs["regenerated"] = self.evaluator.run(self.learner.net, self.test_copies, ids)
        said = predictions(true, outputs, self._means(so_far, contents))
        groups = self.sizes[: phase + 1]
        ordered = [views, *(view for view in said if view != views)]
        self.figures = self.figures.after({view: phase_figures(said[view], groups) for view in ordered})

    def _add_test(self, store: ImageStore, sources: Sequence[Source], images: Sequence[SourceImage]) -> None:
        store.add(sources, names=[str(image.path) for image in images], workers=self.config.workers)

    def _means(self, so_far: Sequence[str], contents: Contents | None) -> Tensor | None:
        """The class means of the memory, or of all images where the learner sees all; None where there are none."""
        if contents is not None:
            labels, sources, called = memory_images(contents, self.numbers, self.copier)
        elif self.learner.sees_all:
            images = [image for label in so_far for image in self.data.train[label]]
            labels = [self.numbers[image.label] for image in images]
            sources = [image.path for image in images]
            called = [str(image.path) for image in images]
        else:
            return None
        features = self.evaluator.features(self.learner.net, sources, called)
        return class_means(features, torch.tensor(labels, dtype=torch.int64), len(so_far))

    # Checkpoints.

    def _save(self, state: State, more: Mapping[str, Tensor]) -> None:
        random = {"model_seed": self.config.model_seed, "phase": state.phase, "epoch": state.epoch}
        tensors = prefixed("network", self.learner.net.state_dict()) | dict(more)
        self.checkpoints.save(replace(state, random=random), tensors)

    def _checkpoint_inside(self, phase: int, done: int, epochs: int, optimizer: Mapping[str, Tensor]) -> None:
        """Makes a checkpoint after every ``checkpoint_every`` epochs, and after the last."""
        if not self.devices.is_main or (done % self.config.checkpoint_every and done < epochs):
            return
        more = dict(optimizer)
        if self.learner.old_network is not None:
            more |= prefixed("old", self.learner.old_network.state_dict())
        self._save(State(phase, done, "", tuple(self.records)), more)

    def _restore(self, state: State) -> int:
        """Goes back to the end of the phase before ``state.phase``; returns the phase to go on with."""
        self.records = list(state.records)
        path = self.folder / names.CONFUSION
        for phase in range(state.phase):
            self.learner.begin_phase(self.sizes[phase], derived_seed(self.config.model_seed, "weights", phase))
            self.learner.end_phase()
            labels = self.order[sum(self.sizes[:phase]) : sum(self.sizes[: phase + 1])]
            images = [image for label in labels for image in self.data.test.get(label, ())]
            self._add_test(self.test, [image.path for image in images], images)
            if self.config.eval_views != "real":
                copies = [row[0] for row in self.copier.of_images(images, self.config.seeds[:1])]
                self._add_test(self.test_copies, copies, images)
        if state.phase and state.epoch == 0:
            restore(self.learner.net, "network", self.checkpoints.tensors(state), self.checkpoints.folder)
            self.learner.end_phase()
        if self.devices.is_main and state.phase:
            if state.epoch == 0:
                self._publish(state.phase - 1)
            else:
                self.checkpoints.publish(self.folder.path, state.phase - 1)
        self.devices.wait()
        if state.phase:
            self.figures = load_figures(path)
        self.say(f"resumed in phase {state.phase + 1}, {state.epoch} epochs of it done")
        return state.phase

    def _restore_inside(self, state: State) -> Mapping[str, Tensor] | None:
        """The weights of a checkpoint inside a phase; returns the optimizer's tensors, None at a phase's beginning."""
        if state.epoch == 0:
            return None
        tensors = self.checkpoints.tensors(state)
        restore(self.learner.net, "network", tensors, self.checkpoints.folder)
        if self.learner.old_network is not None:
            restore(self.learner.old_network, "old", tensors, self.checkpoints.folder)
        return tensors


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


def _resolved(config: TrainConfig, data: DataSet, prompts: Reader | None) -> TrainConfig:
    """The configuration with all defaults that depend on data or prompts filled in."""
    labels = data.labels
    order = (
        check_class_order(config.class_order, labels, "the class order")
        if config.class_order
        else class_order(labels, config.seed)
        if config.shuffle
        else tuple(sorted(labels))
    )
    increment = config.increment or config.init_cls or max(1, -(-len(labels) // 5))
    if config.memory_only and not config.init_cls:
        increment = config.increment or len(labels)
    seeds = config.seeds or (prompts.seeds if prompts is not None else ()) or (0, 1, 2, 3, 4)
    wanted = config.augmentations_per_image or len(seeds)
    if wanted > len(seeds):
        raise ConfigError(f"--augmentations-per-image {wanted}: there are {len(seeds)} seeds: give more (--seeds)")
    if config.memory_only and not learners.get(config.method).uses_memory:
        raise ConfigError(f"--memory-only: {config.method} keeps no memory")
    return replace(
        config,
        data=data.folder,
        class_order=order,
        init_cls=config.init_cls or min(increment, len(labels)),
        increment=increment,
        seeds=seeds,
        augmentations_per_image=wanted,
        transform=config.transform_name,
        augmentation_prob=config.probability,
        selection="random" if config.memory_only else config.selection,
    )


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
