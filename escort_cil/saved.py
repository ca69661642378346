"""A finished run as it lies on disk: its network, its memory, and what they say of other images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from escort_cil import run_folder as names
from escort_cil.augment import transforms
from escort_cil.checkpoint import load_tensors, prefixed, restore
from escort_cil.config import TrainConfig
from escort_cil.copies import Copier, CopyCache
from escort_cil.devices import Devices
from escort_cil.evaluate import Evaluator, class_means
from escort_cil.learners import learners
from escort_cil.memory.contents import Contents, read_contents
from escort_cil.metrics import DECIMALS, PhaseFigures, phase_figures
from escort_cil.networks import GrowingNet, backbones
from escort_cil.phase_data import memory_images
from escort_cil.plan import phase_sizes
from escort_cil.policy import Maker
from escort_cil.run_folder import RunFolder
from escort_cil.test_set import TestSet
from escort_codec.errors import SourceError
from escort_codec.regenerate import regenerators
from escort_codec.source import SourceImage, has_split, scan


@dataclass(frozen=True, slots=True)
class SavedRun:
    """What ``load_run`` read: classes in class order, how many each phase brought, the network and the memory."""

    folder: RunFolder
    config: TrainConfig
    order: tuple[str, ...]
    sizes: tuple[int, ...]
    network: GrowingNet
    contents: Contents | None


def load_run(path: Path) -> SavedRun:
    """Reads a run folder: the state after its last phase. Raises TrainingError where it is none or is damaged."""
    folder = RunFolder(path)
    config = folder.train_config()
    sizes = phase_sizes(config)[: len(folder.read_metrics())]
    learner = learners.get(config.method)(config.hyperparameters(), backbones.get(config.backbone))
    for size in sizes:
        learner.begin_phase(size, 0)
    tensors = prefixed("network", load_tensors(folder / names.MODEL))
    restore(learner.net, "network", tensors, folder / names.MODEL)
    order = config.class_order[: sum(sizes)]
    memory = folder / names.MEMORY
    contents = read_contents(memory, order) if memory.exists() else None
    return SavedRun(folder, config, order, sizes, learner.net.eval(), contents)


def evaluate_run(path: Path, data: str, *, device: str = "auto") -> Mapping[str, Any]:
    """A saved run's figures on the images of a folder: the keys of metrics.jsonl that are about one evaluation, and
    ``by_class``, the linear head's accuracy in per cent by class name.

    ``data`` holds ``test/<class>/`` or ``<class>/``; classes are found by their names, and one that the run has not
    learnt raises SourceError. Nearest means are those of the memory. Classes without images count nowhere.
    """
    run = load_run(path)
    images = _images(data, run.order)
    devices = Devices(device)
    numbers = {label: number for number, label in enumerate(run.order)}
    config = run.config
    transform = transforms.get(config.transform_name)(config.image_size)
    evaluator = Evaluator(devices, transform, config.hyperparameters().batch_size, config.workers)
    devices.place(run.network)
    regenerator = regenerators.get(config.regenerator)(config.make_regenerator_options())
    with regenerator:
        copier = Copier(
            Maker(config.real_kind, config.encode_options(), hint=config.hint),
            CopyCache(Path(config.cache) if config.cache else run.folder / names.CACHE, regenerator),
            config.seeds,
            prompts=config.kept.prompt > 0,
            reals=config.real_kind if config.kept.real > 0 else None,
            first=devices.main_first,
        )
        means = None
        if run.contents is not None:
            labels, sources, called = memory_images(run.contents, numbers, copier)
            features = evaluator.features(run.network, sources, called)
            means = class_means(features, torch.tensor(labels, dtype=torch.int64), len(run.order))
        test = TestSet(images, transform, config.eval_views, copier, config.seeds, workers=config.workers)
        test.add(run.order, numbers)
        said = test.predict(evaluator, run.network, means)
    views = {view: _record(phase_figures(each, run.sizes), run.order) for view, each in said.items()}
    main = next(iter(views))
    return {"classes": len(run.order), "view": main, **views[main], "views": views}


def _record(figures: PhaseFigures, order: tuple[str, ...]) -> dict[str, Any]:
    """One view's figures as plain numbers, None where there is none."""
    images, hits = figures.linear.images, figures.linear.hits
    values = {
        "top1": figures.top1,
        "top5": figures.top5,
        "nme_top1": figures.nme_top1,
        "nme_top5": figures.nme_top5,
        "class_mean": figures.class_mean,
        "old": figures.old,
        "new": figures.new,
    }
    return {
        "images": int(images.sum()),
        **{key: None if value != value else round(value, DECIMALS) for key, value in values.items()},
        "by_class": {
            label: round(100 * int(hit) / int(count), DECIMALS)
            for label, hit, count in zip(order, hits, images, strict=True)
            if count
        },
    }


def _images(data: str, order: tuple[str, ...]) -> dict[str, list[SourceImage]]:
    """The images of a folder by class; raises SourceError for a class that was not learnt."""
    root = Path(data)
    found: dict[str, list[SourceImage]] = {}
    for image in scan(root, "test" if has_split(root, "test") else "train"):
        if image.label not in order:
            raise SourceError(f"{image.path}: the run has not learnt a class {image.label!r}")
        found.setdefault(image.label, []).append(image)
    return found
