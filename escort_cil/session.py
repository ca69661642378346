"""The wiring that training and evaluation share: devices, regenerator, synthetic images, evaluator, test set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from escort_cil.augment import Transform
from escort_cil.devices import Devices
from escort_cil.memory.encoder import ExemplarEncoder
from escort_cil.memory.prompts import Prompts
from escort_cil.memory.synthetic import ExportedImages, Find, SyntheticCache, SyntheticImages
from escort_cil.predictions import Evaluator, TestSet
from escort_cil.run.settings import EvalViews, TrainConfig
from escort_codec.container import Reader
from escort_codec.progress import Progress
from escort_codec.regenerate.base import Regenerator
from escort_codec.source import SourceImage


@dataclass(frozen=True, slots=True)
class Session:
    """What training and evaluation share; see ``open_session``."""

    config: TrainConfig
    transform: Transform
    devices: Devices
    evaluator: Evaluator
    regenerator: Regenerator
    cache: Path
    existing: Path | None = None
    exported: ExportedImages | None = None
    progress: Progress = field(default_factory=Progress)

    def synthetic(
        self, prompts_file: Reader | None = None, *, copies: int | None = None, exported: bool = True
    ) -> SyntheticImages:
        """The source of synthetic images; ``copies`` is how many seeds are used (None: all).

        ``exported`` False ignores the folder of ``escort decode``, which finds images by name: test images may have the
        names of training images.
        """
        options = self.config.encode_options()
        encoder = ExemplarEncoder(Prompts(options, prompts_file, self.config.hint), options.workers)
        find: Find | None = self.exported.find if exported and self.exported is not None else None
        if self.existing is not None:
            find = SyntheticCache(self.existing, self.regenerator, find).find
        return SyntheticImages(
            encoder,
            SyntheticCache(self.cache, self.regenerator, find),
            self.config.kept,
            self.config.seeds[:copies],
            main_first=self.devices.processes.first_alone,
            progress=self.progress,
        )

    def test_set(
        self,
        images: Mapping[str, Sequence[SourceImage]],
        views: EvalViews,
        *,
        held_out: bool,
        prompts_file: Reader | None,
        cache_bytes: int,
        folder: Path | None = None,
        workers: int | None = None,
    ) -> TestSet:
        """The test images by label. Only images that were ``held_out`` of the training folders have the file's prompts
        and the exported images."""
        synthetic = self.synthetic(prompts_file if held_out else None, copies=1, exported=held_out)
        return TestSet(
            images, self.transform, views, synthetic, cache_bytes=cache_bytes, folder=folder, workers=workers
        )


@contextmanager
def open_session(
    config: TrainConfig,
    transform: Transform,
    devices: Devices,
    *,
    cache: Path,
    existing: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Session]:
    """A session while the block runs.

    New synthetic images go into the folder ``cache``; those in ``existing`` and in the setting ``exemplars`` are used.
    Raises EscortError.
    """
    exported = ExportedImages(Path(config.exemplars)) if config.exemplars else None
    evaluator = Evaluator(devices, transform, config.hyperparameters().batch_size, workers)
    with config.make_regenerator(devices.chosen) as regenerator:
        yield Session(
            config, transform, devices, evaluator, regenerator, cache, existing, exported, progress or Progress()
        )
