"""Class-incremental training: the phases of a run, from the data folder to the run folder."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from escort_cil.auto import settle_keep
from escort_cil.chooser import Chooser
from escort_cil.data.images import DecodedImages, half_of_memory
from escort_cil.devices import Devices
from escort_cil.epochs import LoopSettings, derived_seed
from escort_cil.memory.budget import AUTO
from escort_cil.memory.contents import Contents, MemoryFigures, exemplars_of, figures_of, shortages
from escort_cil.metrics import RunFigures, phase_figures
from escort_cil.phase_data import PhaseData
from escort_cil.precheck import check_run
from escort_cil.run import folder as names
from escort_cil.run.checkpoint import Checkpoints, CheckpointState
from escort_cil.run.first_phase import begin_from_first_phase, first_phase_for, save_first_phase
from escort_cil.run.folder import RunFolder
from escort_cil.run.plan import RunPlan, plan_of
from escort_cil.run.recorder import Recorder, phase_line, phase_values
from escort_cil.run.settings import TrainConfig
from escort_cil.run.tracking import Tracker, check_trackers, make_trackers
from escort_cil.session import Session, open_session
from escort_cil.stages import train_phase
from escort_codec.atomic import remove_leftovers
from escort_codec.errors import OutputError
from escort_codec.progress import Progress

log = logging.getLogger(__name__)

TEST_SHARE: Final = 4  # a quarter of the cache memory is for test images


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
    progress: Progress | None = None,
    force: bool = False,
    resume: bool = False,
    first_phase: Path | None = None,
    shared: Sequence[Path] = (),
    command: Sequence[str] | None = None,
) -> RunResult:
    """Trains phase by phase and writes the run folder ``out`` (by default ``runs/<name>``).

    An existing run raises OutputError, unless ``force`` replaces it or ``resume`` continues it; a resumed run gives the
    same metrics as one that never stopped. The run can reuse the first phase of the run ``first_phase``, which may
    differ only in what it remembers, or of the first run in ``shared`` that fits. ``command`` is recorded. The log also
    goes to log.txt in the folder. Raises EscortError of many kinds: see ``escort_codec.errors``.
    """
    with plan_of(config, RunFolder(out) if resume and out is not None else None) as plan, ExitStack() as stack:
        folder = RunFolder(out or Path("runs") / plan.name)
        if plan.base is not None and folder.path.resolve() == plan.base.path.resolve():
            raise OutputError(f"{folder.path}: is the run to continue, and must not change: give another `out`")
        resume = resume and folder.exists
        if resume:
            folder.check_config(plan.values())
            if (records := folder.finished(plan.sizes)) is not None:
                log.info("%s: is finished", folder.path)
                return RunResult(folder.path, plan.config, plan.order, tuple(records), folder.read_figures())
        elif not force:
            folder.check_free()
        first = None if resume else first_phase_for(plan, first_phase, shared)
        check_trackers(plan.config.track)
        devices = Devices(plan.config.device, plan.config.mixed_precision)
        if plan.config.check:
            done = len(Checkpoints(folder.path).records()) if resume else None
            check_run(plan, devices.processes, done, progress or Progress())

        def begin() -> None:
            remove_leftovers(folder.path)
            if resume:
                folder.refuse_links()
            else:
                folder.begin(force=force)
                folder.write_config(plan.values(), sys.argv if command is None else command)
                if plan.data.splits is not None:
                    folder.write_split(plan.data.splits)
                if first is not None:
                    begin_from_first_phase(folder, first, plan)

        devices.processes.from_first(begin)
        devices.processes.from_first(lambda: stack.enter_context(folder.logging()))
        cache, workers = Path(plan.config.cache or folder / names.CACHE), plan.config.workers
        session = stack.enter_context(
            open_session(plan.config, plan.transform, devices, cache=cache, workers=workers, progress=progress)
        )
        if plan.config.keep == AUTO:
            session = settle_keep(plan, folder, session)
        try:
            if first is not None and devices.is_main:
                log.info("the first phase is reused from %s", first.path)
            return Trainer(plan, folder, session).run(resume=resume or first is not None)
        except KeyboardInterrupt:
            log.warning("stopped: `escort train --resume %s` continues from the last checkpoint", folder.path)
            raise


class Trainer:
    """The phases of one run."""

    def __init__(self, plan: RunPlan, folder: RunFolder, session: Session) -> None:
        config = plan.config
        self.plan = plan
        self.config = config
        self.folder = folder
        self.session = session
        self.devices = session.devices
        self.learner = plan.learner()
        whole = half_of_memory() if config.cache_memory is None else config.cache_memory
        cache_bytes = whole // self.devices.here
        images = DecodedImages(
            plan.transform,
            evaluates=self.learner.reads_features,
            cache_bytes=cache_bytes - cache_bytes // TEST_SHARE,
            folder=folder / names.CACHE,
            workers=config.workers,
        )
        self.synthetic = session.synthetic(plan.prompts_file, copies=config.augmentations_per_image)
        self.data = PhaseData(plan, self.learner, images, self.synthetic, writes=self.devices.is_main)
        self.chooser = Chooser(plan, self.data, session, self.synthetic.encoder)
        self.test = session.test_set(
            plan.data.test,
            config.eval_views,
            held_out=plan.data.held_out,
            prompts_file=plan.prompts_file,
            cache_bytes=cache_bytes // TEST_SHARE,
            folder=folder / names.CACHE,
            workers=config.workers,
        )
        self.recorder = Recorder(folder, config.model_seed, writes=self.devices.is_main, every=config.checkpoint_every)
        self.trackers: list[Tracker] = []
        if self.devices.is_main:
            self.trackers = make_trackers(config.track, folder.path, plan.values())
        self._epochs = [self.learner.epochs(phase) for phase in range(len(plan.sizes))]
        self._epochs_before = [sum(self._epochs[:phase]) for phase in range(len(plan.sizes) + 1)]

    def run(self, *, resume: bool) -> RunResult:
        """Trains all phases that are not done yet."""
        with closing(self.test), closing(self.data.images):
            self._describe()
            state = self.recorder.state(self.plan.sizes, self._epochs) if resume else None
            start = self._restore(state)
            for phase in range(start, len(self.plan.sizes)):
                self._phase(phase, state if state is not None and state.phase == phase else None)
        self.devices.processes.wait()
        self.recorder.finish()
        for tracker in self.trackers:
            tracker.close()
        self.devices.processes.wait()
        records = tuple(self.recorder.records)
        return RunResult(self.folder.path, self.config, self.plan.order, records, self.recorder.figures)

    def _describe(self) -> None:
        for line in self.plan.describe(str(self.devices), on_cpu=self.devices.device.type == "cpu"):
            self._log(line)
        if self.learner.uses_memory and self.session.exported is not None:
            makers = " and ".join(self.session.exported.regenerators) or "no regenerator"
            self._log(f"uses the images in {self.session.exported.folder}, made by {makers}")

    def _log(self, line: str) -> None:
        if self.devices.is_main:
            log.info("%s", line)

    def _restore(self, state: CheckpointState | None) -> int:
        """Restores a stopped run, or the base run; returns the phase to train next."""
        plan = self.plan
        start = plan.first if state is None else state.phase
        for phase in range(start):
            self.learner.begin_phase(plan.sizes[phase], derived_seed(self.config.model_seed, "weights", phase))
            if phase + 1 < start or (state is not None and state.epoch):
                self.learner.end_phase()
            self.test.add(plan.labels(phase), plan.class_to_idx)
        if state is not None:
            self.recorder.restore(state, self.learner)
            self.devices.processes.wait()
            self.recorder.load_figures()
            self._log(f"resumed in phase {state.phase + 1}, {state.epoch} epochs of it done")
        elif plan.base is not None:
            self.recorder.begin_from(plan.base, self.learner)
            self._log(f"continues {plan.base.path}: {sum(plan.sizes[:start])} classes are known")
            self.devices.processes.wait()
        return start

    def _phase(self, phase: int, state: CheckpointState | None) -> None:
        """Trains one phase from its start, or from the checkpoint ``state`` within it."""
        plan, learner, config, data = self.plan, self.learner, self.config, self.data
        held: Contents = ()
        if learner.uses_memory and phase:
            held = self.recorder.read_memory(plan.labels_until(phase - 1))
        self.synthetic.encoder.forget(exemplars_of(held))
        learner.begin_phase(plan.sizes[phase], derived_seed(config.model_seed, "weights", phase))
        resumed = self.recorder.restore_inside(state, learner) if state is not None else None
        after: Contents | None = None
        if config.memory_only:
            data.decode(phase)
            after = self.chooser.remember(phase, held)
            self.synthetic.encoder.forget(exemplars_of(after))
        items, images, remembered = data.load(phase, held if after is None else after)
        epochs = self._epochs[phase]
        self._log(
            f"phase {phase + 1} of {len(plan.sizes)}: {plan.sizes[phase]} classes, {images} images and {remembered} "
            f"remembered, {epochs} epochs"
        )
        train_phase(
            LoopSettings(
                self.devices,
                plan.transform,
                config.model_seed,
                config.probability,
                config.gradient_accumulation,
                len(plan.sizes),
                self.session.progress,
                lambda figures, epoch: self._track(figures, self._epochs_before[phase] + epoch),
            ),
            learner,
            data.images.training,
            items,
            images,
            herd=lambda count: self.chooser.herd(phase, count),
            done=state.epoch if state is not None else 0,
            resumed=resumed,
            epoch_ended=lambda done, tensors: self.recorder.inside(phase, done, epochs, learner, tensors),
        )
        if phase == 0 and self.devices.is_main:
            save_first_phase(self.folder, learner.net, plan)
        if learner.sees_features:
            learner.see_features(*data.own_features(phase, self.session.evaluator))
        learner.end_training()
        if learner.uses_memory and after is None:
            after = self.chooser.remember(phase, held)
        self._evaluate(phase, after)

    def _evaluate(self, phase: int, contents: Contents | None) -> None:
        """Evaluates the phase and ends it."""
        plan = self.plan
        memory = MemoryFigures()
        if contents is not None:
            size = self.recorder.write_memory(contents, phase, plan.budget)
            memory = figures_of(contents, size, plan.budget.keep.kinds)
            for line in shortages(contents):
                self._log(line)
        self.test.add(plan.labels(phase), plan.class_to_idx)
        means = self.data.means(phase, contents, self.session.evaluator)
        predicted = self.test.predict(self.session.evaluator, self.learner.net, means)
        groups = plan.sizes[: phase + 1]
        self.recorder.figures = self.recorder.figures.after(
            {view: phase_figures(each, groups) for view, each in predicted.items()}
        )
        self.learner.end_phase()
        memory = replace(memory, model=self.learner.net.stored_bytes)
        record = self.recorder.figures.to_record(memory.to_record())
        self.recorder.end_phase(phase, record, self.learner)
        self.devices.processes.wait()
        self._log(phase_line(record))
        self._track(phase_values(record), self._epochs_before[phase + 1])

    def _track(self, figures: Mapping[str, float], step: int) -> None:
        for tracker in self.trackers:
            tracker.log(figures, step)
