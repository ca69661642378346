"""Class-incremental training: the phases of a run, from the data folder to the run folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from escort_cil.bytes import half_of_memory
from escort_cil.data.images import DecodedImages
from escort_cil.evaluator import Evaluator
from escort_cil.events import CopiesMade, EpochEnded, Event, PhaseBegan, PhaseEnded, Report, Said, silent
from escort_cil.fitting import Fitting, fit
from escort_cil.given import GivenCopies
from escort_cil.introduction import introduction
from escort_cil.memory.contents import Contents, exemplars_of, figures_of, read_contents
from escort_cil.memory.encoder import Maker
from escort_cil.memory.synthetic import Copier, CopyCache
from escort_cil.metrics import MemoryFigures, RunFigures, phase_figures
from escort_cil.phase_data import PhaseData, remember
from escort_cil.processes import Devices
from escort_cil.run import folder as names
from escort_cil.run.checkpoint import State
from escort_cil.run.confusion import load_figures
from escort_cil.run.folder import RunFolder
from escort_cil.run.plan import Plan, learnt_by
from escort_cil.run.recorder import Recorder
from escort_cil.run.seeds import derived_seed
from escort_cil.run.settings import TrainConfig
from escort_cil.test_set import TestSet
from escort_codec.errors import EscortError, OutputError
from escort_codec.regenerate import regenerators


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
    with Plan(config, learnt_by(RunFolder(out)) if resume and out is not None else ()) as plan:
        folder = RunFolder(out or Path("runs") / plan.name)
        if plan.base is not None and folder.path.resolve() == plan.base.path.resolve():
            raise OutputError(f"{folder.path}: is the run that is gone on from, and stays: give another --out")
        if resume and folder.exists:
            folder.check_config(plan.values())
            records = folder.read_metrics()
            if len(records) == len(plan.sizes) and not (folder / names.CHECKPOINT).exists():
                report(Said(f"{folder.path}: is finished"))
                figures = load_figures(folder / names.CONFUSION)
                return RunResult(folder.path, plan.config, plan.order, tuple(records), figures)
        devices = Devices(plan.config.device, plan.config.mixed_precision, track=plan.config.track, folder=folder.path)
        fault: EscortError | None = None
        if devices.is_main and not (resume and folder.exists):
            try:
                folder.begin(force=force)
                folder.write_config(plan.values(), sys.argv if command is None else command)
            except EscortError as exc:
                fault = exc
        if (said := devices.from_main(None if fault is None else str(fault))) is not None:
            raise fault or OutputError(said)  # in every process: none waits for the first
        regenerator = regenerators.get(plan.config.regenerator)(plan.config.make_regenerator_options(devices.chosen))
        given = GivenCopies(Path(plan.config.exemplars)) if plan.config.exemplars else None
        with regenerator:
            cache = CopyCache(
                Path(plan.config.cache) if plan.config.cache else folder / names.CACHE,
                regenerator,
                given.find if given is not None else None,
            )
            try:
                return Trainer(plan, folder, devices, cache, given, report).run(resume=resume)
            except KeyboardInterrupt:
                if devices.is_main:
                    report(Said(f"stopped: `escort train --resume {folder.path}` goes on from the last checkpoint"))
                raise


class Trainer:
    """The phases of one run."""

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        devices: Devices,
        cache: CopyCache,
        given: GivenCopies | None,
        report: Report,
    ) -> None:
        config = plan.config
        self.plan = plan
        self.config = config
        self.folder = folder
        self.devices = devices
        self.learner = plan.learner()
        self._report = report
        self._given = given
        held = (half_of_memory() if config.cache_memory is None else config.cache_memory) // devices.here
        test_bytes = held // 4
        images = DecodedImages(
            plan.transform,
            evaluates=self.learner.uses_memory or self.learner.sees_all,
            cache_bytes=held - test_bytes,
            folder=folder / names.CACHE,
            workers=config.workers,
        )
        self.maker = plan.make_maker(images.decode)
        self.copier = self._copier(self.maker, cache)
        self.evaluator = Evaluator(devices, plan.transform, plan.hyperparameters.batch_size, config.workers)
        self.data = PhaseData(plan, self.learner, devices, images, self.copier, self.evaluator)
        self.test = TestSet(
            plan.data.test,
            plan.transform,
            config.eval_views,
            # Copies that were given are known by an image's name, which a test image may share with another.
            self._copier(plan.make_test_maker(), cache if plan.data.held_out else cache.without_given()),
            config.seeds,
            cache_bytes=test_bytes,
            folder=folder / names.CACHE,
            workers=config.workers,
        )
        self.recorder = Recorder(folder, config.model_seed, writes=devices.is_main, every=config.checkpoint_every)

    def _copier(self, maker: Maker, cache: CopyCache) -> Copier:
        config, kept = self.config, self.plan.budget.mix
        return Copier(
            maker,
            cache,
            config.seeds[: config.augmentations_per_image],
            prompts=kept.prompt > 0,
            reals=config.real_kind if kept.real > 0 else None,
            first=self.devices.main_first,
            say=self.say,
            watch=lambda done, total: self._tell(CopiesMade(done, total)),
        )

    def say(self, text: str) -> None:
        """Reports a line."""
        self._tell(Said(text))

    def _tell(self, event: Event) -> None:
        if self.devices.is_main:
            if not isinstance(event, CopiesMade):
                self.folder.log(str(event))
            self._report(event)
        epochs = [self.plan.hyperparameters.schedule(phase).epochs for phase in range(len(self.plan.sizes))]
        if isinstance(event, EpochEnded):
            self.devices.track(event.figures(), sum(epochs[: event.phase]) + event.epoch + 1)
        elif isinstance(event, PhaseEnded):
            self.devices.track(event.figures(), sum(epochs[: event.record["phase"] + 1]))

    def run(self, *, resume: bool) -> RunResult:
        """All phases that are not done yet."""
        with closing(self.test), closing(self.data.images):
            self._train(resume)
        self.devices.wait()
        self.recorder.finish()
        self.devices.end_tracking()
        self.devices.wait()
        records = tuple(self.recorder.records)
        return RunResult(self.folder.path, self.config, self.plan.order, records, self.recorder.figures)

    def _train(self, resume: bool) -> None:
        for line in introduction(self.plan, self.devices, self._given):
            self.say(line)
        self.devices.begin_tracking(self.plan.values())
        state = self.recorder.state() if resume else None
        start = self._take_up(state)
        for phase in range(start, len(self.plan.sizes)):
            self._phase(phase, state if state is not None and state.phase == phase else None)

    def _take_up(self, state: State | None) -> int:
        """Goes to where the run is, or where the one before ended; returns the phase to go on with."""
        plan = self.plan
        start = plan.first if state is None else state.phase
        for phase in range(start):
            self.learner.begin_phase(plan.sizes[phase], derived_seed(self.config.model_seed, "weights", phase))
            if phase + 1 < start or (state is not None and state.epoch):
                self.learner.end_phase()
            self.test.add(plan.labels(phase), plan.numbers)
        if state is not None:
            self.recorder.restore(state, self.learner)
            self.devices.wait()
            self.recorder.load_figures()
            self.say(f"resumed in phase {state.phase + 1}, {state.epoch} epochs of it done")
        elif plan.base is not None:
            self.recorder.begin_from(plan.base, self.learner)
            self.say(f"goes on from {plan.base.path}: {sum(plan.sizes[:start])} classes are known")
            self.devices.wait()
        return start

    def _phase(self, phase: int, state: State | None) -> None:
        """One phase, from its beginning or from the checkpoint ``state`` inside it."""
        plan, learner, config = self.plan, self.learner, self.config
        held: Contents = ()
        if learner.uses_memory and phase:
            held = read_contents(self.recorder.memory_path(), plan.so_far(phase - 1))
        self.copier.forget(exemplars_of(held))
        learner.begin_phase(plan.sizes[phase], derived_seed(config.model_seed, "weights", phase))
        resumed = self.recorder.restore_inside(state, learner) if state is not None else None
        after = self._remember(phase, held) if config.memory_only else None
        if after is not None:
            self.copier.forget(exemplars_of(after))
        items, images, remembered = self.data.items(phase, held if after is None else after)
        epochs = plan.hyperparameters.schedule(phase).epochs
        self._tell(PhaseBegan(phase, len(plan.sizes), plan.labels(phase), images, remembered, epochs))
        fit(
            Fitting(
                self.devices,
                plan.transform,
                config.model_seed,
                config.probability,
                config.gradient_accumulation,
                len(plan.sizes),
                self._tell,
            ),
            learner,
            self.data.images.training,
            items,
            done=state.epoch if state is not None else 0,
            resumed=resumed,
            epoch_ended=lambda done, optimizer: self.recorder.inside(phase, done, epochs, learner, optimizer),
        )
        learner.end_training()
        if learner.uses_memory and after is None:
            after = self._remember(phase, held)
        self._evaluate(phase, after)

    def _remember(self, phase: int, held: Contents) -> Contents:
        """The memory after the phase: the same on every process."""
        new = self.plan.train_images(phase)
        features = {
            label: (
                torch.zeros(len(images), 1)  # there is no network yet to select with
                if self.config.memory_only
                else self.data.features(images)
            )
            for label, images in new.items()
        }
        seeds = {label: derived_seed(self.config.model_seed, "selection", self.plan.numbers[label]) for label in new}
        contents: Contents = ()
        if self.devices.is_main:
            contents = remember(
                held,
                new,
                features,
                budget=self.plan.budget,
                maker=self.maker,
                select=self.plan.select,
                seeds=seeds,
            )
        return self.devices.from_main(contents)

    def _evaluate(self, phase: int, contents: Contents | None) -> None:
        """The phase's figures; then its end counts."""
        plan = self.plan
        memory = MemoryFigures()
        if contents is not None:
            memory = figures_of(contents, self.recorder.write_memory(contents, phase, plan.budget))
        self.test.add(plan.labels(phase), plan.numbers)
        means = self.data.means(phase, contents)
        said = self.test.predict(self.evaluator, self.learner.net, means)
        groups = plan.sizes[: phase + 1]
        self.recorder.figures = self.recorder.figures.after(
            {view: phase_figures(each, groups) for view, each in said.items()}
        )
        record = self.recorder.figures.to_record(memory)
        self.learner.end_phase()
        self.recorder.end_phase(phase, record, self.learner)
        self.devices.wait()
        self._tell(PhaseEnded(record))
