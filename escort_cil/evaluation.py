"""Evaluates a saved model on a folder of images, with the figures of training."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from escort_cil.data.images import half_of_memory
from escort_cil.data.protocol import group_by_label, read_data
from escort_cil.devices import Devices
from escort_cil.memory.contents import Contents, exemplars_of, read_contents
from escort_cil.memory.kinds import is_regenerated
from escort_cil.metrics import DECIMALS, Counts, PhaseFigures, phase_figures
from escort_cil.phase_data import memory_images
from escort_cil.predictions import class_means
from escort_cil.run import folder as names
from escort_cil.run.folder import RunFolder
from escort_cil.run.recorder import SavedModel, load_model
from escort_cil.run.settings import EvalViews, TrainConfig
from escort_cil.session import Session, open_session
from escort_codec.container.shards import is_there, open_memory
from escort_codec.errors import RegenerationError, SourceError, TrainingError
from escort_codec.names import refuse_link
from escort_codec.progress import Progress
from escort_codec.source import SourceImage, find_layout, scan
from escort_codec.untrusted import check_file
from escort_codec.words import counted, listed

log = logging.getLogger(__name__)

NAMED = 5  # classes named in a line; the others are counted


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """How to evaluate a model; None means as in the run.

    ``nearest_mean`` evaluates the class means of ``memory.escx`` as well; ``cache_memory`` is bytes of decoded images
    kept in memory.
    """

    views: EvalViews | None = None
    layout: str | None = None
    nearest_mean: bool = True
    device: str = "auto"
    cache_memory: int | None = None
    workers: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The result: ``figures`` by view, the main one first; ``labels[c]`` is class number c.

    ``not_learnt`` counts images of classes that the model does not know; no figure includes them. ``without_images``
    are known classes without images. ``is_main``: this process reports.
    """

    run: Path
    data: Path
    labels: tuple[str, ...]
    figures: Mapping[str, PhaseFigures]
    not_learnt: Mapping[str, int]
    without_images: tuple[str, ...]
    is_main: bool = True

    @property
    def main(self) -> PhaseFigures:
        """The main view's figures."""
        return next(iter(self.figures.values()))

    def to_record(self) -> dict[str, Any]:
        """Everything as plain numbers, the figures under the names that ``metrics.jsonl`` has."""
        views = {view: figures.to_record() for view, figures in self.figures.items()}
        view = next(iter(views))
        return {
            "run": str(self.run),
            "data": str(self.data),
            "classes": len(self.labels),
            "groups": list(self.main.groups),
            "view": view,
            **views[view],
            "per_class": [
                {
                    "label": label,
                    "images": int(self.main.linear.images[number]),
                    "top1": class_accuracy(self.main.linear, number),
                    "nme_top1": class_accuracy(self.main.nearest, number),
                }
                for number, label in enumerate(self.labels)
            ],
            "confusion": self.main.linear.confusion.tolist(),
            "nme_confusion": None if self.main.nearest is None else self.main.nearest.confusion.tolist(),
            "not_learnt": dict(self.not_learnt),
            "without_images": list(self.without_images),
            "views": views,
        }


def class_accuracy(counts: Counts | None, number: int) -> float | None:
    """Per cent of a class's images that were classified right; None if it has none."""
    value = float("nan") if counts is None else counts.accuracy(number, number + 1)
    return None if value != value else round(value, DECIMALS)


def evaluate_run(
    run: Path,
    data: Path,
    options: EvaluationOptions = EvaluationOptions(),
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluates the model of the run folder ``run`` on ``data/test/<class>/`` or ``data/<class>/``.

    Writes only to a temporary folder. Raises TrainingError if the run has no model, SourceError if ``data`` has no
    images of a known class, and ImageError for a damaged image.
    """
    model = load_model(run)
    config = model.config
    images, held_out = find_images(data, model.folder, config, options.layout)
    known, not_learnt, without = _sort_out(images, model.labels, data)
    if not_learnt:
        count = sum(not_learnt.values())
        log.info(
            "not evaluated: %s of %s, which the model never learnt", counted(count, "image"), _named(list(not_learnt))
        )
    if without:
        log.info("no images of %s, which the model knows", _named(without))
    precision = config.mixed_precision
    if precision == "fp16" and (options.device == "cpu" or not torch.cuda.is_available()):
        log.info("the run was trained in fp16, which needs a GPU: evaluated in float32")
        precision = "no"
    if config.exemplars and not Path(config.exemplars).is_dir():
        config = replace(config, exemplars="")
    devices = Devices(options.device, precision)
    devices.place(model.network)
    class_to_idx = {label: number for number, label in enumerate(model.labels)}
    refuse_link(model.folder / names.CACHE)
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="escort-")))
        session = stack.enter_context(
            open_session(
                config,
                model.transform,
                devices,
                cache=temporary,
                existing=Path(config.cache) if config.cache else model.folder / names.CACHE,
                workers=options.workers,
                progress=progress,
            )
        )
        prompts_file = None
        if held_out and config.prompts_file and is_there(config.prompts_file):
            prompts_file = stack.enter_context(open_memory(config.prompts_file))
        test = session.test_set(
            known,
            options.views or config.eval_views,
            held_out=held_out,
            prompts_file=prompts_file,
            cache_bytes=half_of_memory() if options.cache_memory is None else options.cache_memory,
            workers=options.workers,
        )
        stack.callback(test.close)
        test.add(model.labels, class_to_idx)
        means = _means(model, session, class_to_idx) if options.nearest_mean else None
        predicted = test.predict(session.evaluator, model.network, means)
    figures = {view: phase_figures(each, model.groups) for view, each in predicted.items()}
    return Evaluation(run, data, model.labels, figures, not_learnt, tuple(without), devices.is_main)


def find_images(
    data: Path, run: RunFolder, config: TrainConfig, layout: str | None = None
) -> tuple[Mapping[str, Sequence[SourceImage]], bool]:
    """The test images of a folder by label: those in ``test/``, else all; and whether the run held them out.

    If ``run`` was trained on this folder and it has no ``test/``, only its held-out images. ``layout`` None is that of
    the run. Raises SourceError, also if there is a ``train/`` and no ``test/``.
    """
    layout = layout or config.layout
    found = find_layout(data, layout)
    if found.held_apart is not None:
        return group_by_label(scan(data, found.held_apart.name, layout)), False
    if config.data and data.resolve() == Path(config.data).resolve():
        held = read_data(config.data, config.holdout, layout=config.layout, recorded=run.read_split())
        log.info("%s: the run was trained on this folder: only its held-out images are used", data)
        for note in held.changes:
            log.info("%s", note)
        return held.test, True
    if found.split:
        raise SourceError(f"{data}: has train/ and no test/: give {found.train} to evaluate on these images")
    return group_by_label(scan(data, layout=layout)), False


def _sort_out(
    images: Mapping[str, Sequence[SourceImage]], labels: Sequence[str], data: Path
) -> tuple[dict[str, Sequence[SourceImage]], dict[str, int], list[str]]:
    """Images of known classes, counts of unknown classes, and known classes without images."""
    learnt = set(labels)
    known = {label: group for label, group in images.items() if label in learnt and group}
    if not known:
        raise SourceError(
            f"{data}: the model knows none of its classes: it has {_named(list(images))}; the model knows "
            f"{_named(labels)}"
        )
    not_learnt = {label: len(group) for label, group in images.items() if label not in learnt}
    return known, not_learnt, [label for label in labels if label not in known]


def _named(labels: Sequence[str]) -> str:
    """``2 classes (cat and dog)``."""
    return f"{counted(len(labels), 'class')} ({listed(labels, NAMED)})"


def _means(model: SavedModel, session: Session, class_to_idx: Mapping[str, int]) -> Tensor | None:
    """The class means of the run's memory, or None, with the reason logged."""
    contents, reason = _memory(model)
    if contents is None:
        log.info("no nearest mean: %s", reason)
        return None
    try:
        targets, sources, called = memory_images(contents, class_to_idx, session.synthetic(copies=1))
    except RegenerationError as exc:
        raise type(exc)(f"{exc}; turn `nearest_mean` off to evaluate without the memory's images") from exc
    features = session.evaluator.features(model.network, sources, called)
    return class_means(features, torch.tensor(targets, dtype=torch.int64), len(model.labels))


def _memory(model: SavedModel) -> tuple[Contents | None, str]:
    """The memory, or why class means cannot be taken of it."""
    path = model.folder / names.MEMORY
    if not model.folder.has(names.MEMORY):
        return None, f"{model.folder.path} has no {names.MEMORY}"
    check_file(path, TrainingError)
    contents = read_contents(path, model.labels)
    if len(contents) > len(model.labels):
        return None, f"{path} holds {contents[-1].label!r}, which the model never learnt"
    exemplars = model.config.exemplars
    if exemplars and not Path(exemplars).is_dir() and any(map(is_regenerated, exemplars_of(contents))):
        return None, f"the images of the prompts were in {exemplars}, which does not exist"
    return contents, ""
