"""A saved model on a folder of images: the figures that training gives after a phase."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from escort_cil.bytes import half_of_memory
from escort_cil.data.protocol import group_by_label, read_data
from escort_cil.evaluator import Evaluator, class_means
from escort_cil.given import GivenCopies
from escort_cil.memory.contents import Contents, read_contents
from escort_cil.memory.encoder import Maker
from escort_cil.memory.synthetic import Copier, CopyCache, Find
from escort_cil.metrics import DECIMALS, Counts, PhaseFigures, phase_figures
from escort_cil.phase_data import memory_images
from escort_cil.processes import Devices
from escort_cil.run import folder as names
from escort_cil.run.model import SavedModel, load_model
from escort_cil.run.settings import EvalViews, TrainConfig
from escort_cil.test_set import TestSet
from escort_codec.container import Reader
from escort_codec.errors import RegenerationError, SourceError
from escort_codec.regenerate import regenerators
from escort_codec.regenerate.base import Regenerator
from escort_codec.source import SourceImage, has_split, scan

NAMED = 5  # classes named in a line; the others are counted


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """How a model is evaluated; None means as the run has it, or all of it.

    ``views`` as for training; ``nearest_mean`` off leaves the class means of ``memory.escx`` alone; ``cache_memory``
    is bytes of decoded images kept in memory.
    """

    views: EvalViews | None = None
    nearest_mean: bool = True
    device: str = "auto"
    cache_memory: int | None = None
    workers: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What came out. ``figures`` by view, the main one first; ``labels[c]`` is class number c.

    ``not_learnt`` counts the images of classes in the folder that the model does not know: they enter no figure.
    ``without_images`` are classes that it knows and the folder has none of. ``is_main``: of several processes, the one
    that speaks.
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
    """Per cent of a class's images that were called so; None where there are none."""
    value = float("nan") if counts is None else counts.accuracy(number, number + 1)
    return None if value != value else round(value, DECIMALS)


def evaluate_run(
    run: Path,
    data: Path,
    options: EvaluationOptions = EvaluationOptions(),
    say: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Evaluates the model of the run folder ``run`` on ``data/test/<class>/`` or ``data/<class>/``.

    Nothing is written but to a temporary folder. ``say`` gets lines for people. Raises TrainingError for a run without
    a model, SourceError where ``data`` holds no images of a class that is known, and ImageError for a damaged one.
    """
    model = load_model(run)
    config = model.config
    images, held_out = find_images(data, config, say)
    known, not_learnt, without = _sorted_out(images, model.labels, data)
    if not_learnt:
        count = sum(not_learnt.values())
        say(f"not evaluated: {count} images of {_named(list(not_learnt))}, which the model never learnt")
    if without:
        say(f"no images of {_named(without)}, which the model knows")
    precision = config.mixed_precision
    if precision == "fp16" and (options.device == "cpu" or not torch.cuda.is_available()):
        say("the run was trained in fp16, which needs a GPU: evaluated in float32")
        precision = "no"
    devices = Devices(options.device, precision)
    devices.place(model.network)
    evaluator = Evaluator(devices, model.transform, config.hyperparameters().batch_size, options.workers)
    numbers = {label: number for number, label in enumerate(model.labels)}
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="escort-")))
        regenerator = stack.enter_context(
            regenerators.get(config.regenerator)(config.make_regenerator_options(devices.chosen))
        )
        given = GivenCopies(Path(config.exemplars)).find if _has_exemplars(config) else None
        prompts = None
        if held_out and config.prompts and Path(config.prompts).exists():
            prompts = stack.enter_context(Reader(config.prompts))
        test = TestSet(
            known,
            model.transform,
            options.views or config.eval_views,
            # Of folders of their own, test images may have the names of others: what is given by name is not theirs.
            _copier(model, _cache(model, temporary, regenerator, given if held_out else None), prompts, say),
            config.seeds,
            cache_bytes=half_of_memory() if options.cache_memory is None else options.cache_memory,
            workers=options.workers,
        )
        stack.callback(test.close)
        test.add(model.labels, numbers)
        means = None
        if options.nearest_mean:
            copier = _copier(model, _cache(model, temporary, regenerator, given), None, say)
            means = _means(model, evaluator, copier, numbers, say)
        said = test.predict(evaluator, model.network, means)
    figures = {view: phase_figures(each, model.groups) for view, each in said.items()}
    return Evaluation(run, data, model.labels, figures, not_learnt, tuple(without), devices.is_main)


def find_images(
    data: Path, config: TrainConfig, say: Callable[[str], None]
) -> tuple[Mapping[str, Sequence[SourceImage]], bool]:
    """The test images of a folder by label: those in ``test/``, else all; and whether the run held them out.

    Of the folder that the run was trained on, where it has no ``test/``, only what it held out. Raises SourceError,
    also where there is a ``train/`` and no ``test/``.
    """
    if has_split(data, "test"):
        return group_by_label(scan(data, "test")), False
    if has_split(data, "train"):
        raise SourceError(f"{data}: has train/ and no test/: give {data / 'train'} if these images are meant")
    if config.data and data.resolve() == Path(config.data).resolve():
        held = read_data(config.data, config.holdout)
        say(f"{data}: the run was trained on this folder: only the images that it held out are used")
        return held.test, True
    return group_by_label(scan(data)), False


def _sorted_out(
    images: Mapping[str, Sequence[SourceImage]], labels: Sequence[str], data: Path
) -> tuple[dict[str, Sequence[SourceImage]], dict[str, int], list[str]]:
    """Images of known classes, counts of the unknown ones', and known classes without images."""
    learnt = set(labels)
    known = {label: group for label, group in images.items() if label in learnt and group}
    if not known:
        raise SourceError(
            f"{data}: none of its classes is known to the model: it has {_named(list(images))}; the model knows "
            f"{_named(labels)}"
        )
    not_learnt = {label: len(group) for label, group in images.items() if label not in learnt}
    return known, not_learnt, [label for label in labels if label not in known]


def _named(labels: Sequence[str]) -> str:
    """``2 classes (cat, dog)``."""
    more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
    what = "class" if len(labels) == 1 else "classes"
    return f"{len(labels)} {what} ({', '.join(labels[:NAMED])}{more})"


def _cache(model: SavedModel, temporary: Path, regenerator: Regenerator, given: Find | None) -> CopyCache:
    """Copies that the run has made are found where they are; what is missing is made in ``temporary``."""
    folder = Path(model.config.cache) if model.config.cache else model.folder / names.CACHE
    return CopyCache(temporary, regenerator, CopyCache(folder, regenerator, given).find)


def _copier(model: SavedModel, cache: CopyCache, prompts: Reader | None, say: Callable[[str], None]) -> Copier:
    """Makes the first seed's copies, as the run does."""
    config, kept = model.config, model.config.kept
    return Copier(
        Maker(config.real_kind, config.encode_options(), prompts=prompts, hint=config.hint),
        cache,
        config.seeds[:1],
        prompts=kept.prompt > 0,
        reals=config.real_kind if kept.real > 0 else None,
        say=say,
    )


def _has_exemplars(config: TrainConfig) -> bool:
    return bool(config.exemplars) and Path(config.exemplars).is_dir()


def _means(
    model: SavedModel,
    evaluator: Evaluator,
    copier: Copier,
    numbers: Mapping[str, int],
    say: Callable[[str], None],
) -> Tensor | None:
    """The class means of what the run's memory holds; None, and why, where it cannot tell."""
    contents, reason = _memory(model)
    if contents is None:
        say(f"no nearest mean: {reason}")
        return None
    try:
        labels, sources, called = memory_images(contents, numbers, copier)
    except RegenerationError as exc:
        raise type(exc)(f"{exc}; --no-nearest-mean evaluates without the memory's images") from exc
    features = evaluator.features(model.network, sources, called)
    return class_means(features, torch.tensor(labels, dtype=torch.int64), len(model.labels))


def _memory(model: SavedModel) -> tuple[Contents | None, str]:
    """The memory, or why there is none to take class means from."""
    path = model.folder / names.MEMORY
    if not path.exists():
        return None, f"{model.folder.path} has no {names.MEMORY}"
    contents = read_contents(path, model.labels)
    if len(contents) > len(model.labels):
        return None, f"{path} holds {contents[-1].label!r}, which the model never learnt"
    exemplars = model.config.exemplars
    if exemplars and not _has_exemplars(model.config) and any(memory.prompts for memory in contents):
        return None, f"the prompts' images were in {exemplars}, which is not here"
    return contents, ""
