"""Checks before the first epoch: every image, name and caption, and the budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Final

from escort_cil.memory.budget import Budget, OldShelf, fill
from escort_cil.memory.contents import ClassMemory, Contents, packed, read_contents
from escort_cil.memory.encoder import ExemplarEncoder
from escort_cil.memory.prompts import Prompts
from escort_cil.run import folder as names
from escort_cil.run.plan import RunPlan
from escort_codec.errors import ConfigError, ImageError
from escort_codec.exemplar import Exemplar
from escort_codec.processes import Processes
from escort_codec.progress import Progress
from escort_codec.source import SourceImage, image_fault, load_image
from escort_codec.words import counted
from escort_codec.workers import DECODED, in_order

AMPLE: Final = 8  # a budget of this many times one sampled exemplar per class needs no closer look
SAMPLED: Final = 32  # images per class that are encoded for a closer look


def check_run(plan: RunPlan, processes: Processes, done: int | None, progress: Progress) -> None:
    """Checks a run in one of its processes: a new one, or a resumed one, of which ``done`` phases are done.

    Removes bad images from the plan if they need not end the run. Raises ImageError, SourceError, ConfigError.
    """
    if done is None:
        check_batches(plan)
    plan.leave_out(processes.from_first(lambda: check_images(plan, done or 0, progress)))
    if plan.remembers and done is None:
        processes.from_first(lambda: check_budget(plan))


def check_batches(plan: RunPlan) -> None:
    """Raises ConfigError if a part of a batch would have one image: batch normalisation needs two.

    With a memory, which adds images to later phases, only the first phase is checked.
    """
    if plan.config.memory_only:
        return
    parts, size = plan.config.gradient_accumulation, plan.hyperparameters.batch_size
    if size < 2 * parts:
        raise ConfigError(
            f"at least {2 * parts}: batch normalisation needs two images", setting="batch_size", value=size
        )
    for phase in range(plan.first, 1 if plan.remembers else len(plan.sizes)):
        images = sum(map(len, plan.train_images(phase).values()))
        if images < 2 * parts:
            raise ConfigError(
                f"phase {phase + 1} has {counted(images, 'image')} and needs {2 * parts}, as batch normalisation needs "
                "two in each part of a batch: give more classes per phase (`init_cls`, `increment`), or fewer parts "
                "(`gradient_accumulation`)"
            )


def check_images(plan: RunPlan, done: int, progress: Progress) -> dict[SourceImage, str]:
    """Decodes all images that the phases after ``done`` need, and checks names and captions of those that may be
    remembered. Returns the bad images to leave out with the reasons, which begin with the path.

    The setting ``on_error`` decides about bad images. One that ``escort encode`` skipped when it made the run's file of
    prompts from this folder is always left out. Raises ImageError for the first bad image that must not be left out.
    """
    remembered = {image.path for image in _training_images(plan, done)} if plan.remembers else set()

    def work(image: SourceImage) -> str | None:
        if image.path in remembered and (fault := image_fault(image)):
            return fault
        try:
            with DECODED.holding() as reserve:
                load_image(image.path, reserve=reserve)
        except ImageError as exc:
            return str(exc)
        return None

    images = list(dict.fromkeys((*_training_images(plan, done), *_test_images(plan))))
    progress.begin("check images", len(images))
    bad: dict[SourceImage, str] = {}
    try:
        for image, fault in in_order(images, work, plan.config.workers):
            if fault is not None:
                bad[image] = fault
            progress.advance()
    finally:
        progress.end()
    fatal = [image for image in bad if plan.config.on_error == "raise" and not _left_out_by_encode(plan, image)]
    if fatal:
        more = f" (and {counted(len(fatal) - 1, 'more bad image')})" if len(fatal) > 1 else ""
        raise ImageError(f"{bad[fatal[0]]}{more}; `on_error` skip leaves bad images out")
    return bad


def _training_images(plan: RunPlan, done: int) -> Iterator[SourceImage]:
    first = 0 if plan.sees_all else max(done, plan.first)
    for phase in range(first, len(plan.sizes)):
        for group in plan.train_images(phase).values():
            yield from group


def _test_images(plan: RunPlan) -> Iterator[SourceImage]:
    for group in plan.data.test.values():
        yield from group


def _left_out_by_encode(plan: RunPlan, image: SourceImage) -> bool:
    """Whether the run's file of prompts was made of this folder and does not have the image."""
    file = plan.prompts_file
    if file is None or not file.source or Path(file.source).resolve() != Path(plan.data.folder).resolve():
        return False
    if not plan.data.held_out and image in plan.data.test.get(image.label, ()):
        return False  # `escort encode` did not read it
    try:
        file.find(image.key)
    except KeyError:
        return True
    return False


def check_budget(plan: RunPlan) -> None:
    """Raises ConfigError, with the least sufficient budget, if the budget cannot hold an exemplar of each class."""
    budget, classes = plan.budget, len(plan.order)
    if budget.amount is None:
        return
    if budget.limit(classes) is None:
        if not any(budget.counts(classes)):
            least = budget.least_units * (1 if budget.per_class else classes)
            raise _too_small(budget, classes, replace(budget, amount=ceil(100 * least) / 100))
        return
    encoder = ExemplarEncoder(Prompts(plan.config.encode_options(), plan.prompts_file, plan.config.hint))
    held: Contents = ()
    if plan.base is not None:
        held = read_contents(plan.base / names.MEMORY, plan.labels_until(plan.first - 1))
    # The last phase has the most classes; with bytes per class the first has the fewest to pay for the file's head.
    phases = [len(plan.sizes) - 1, *([plan.first] if budget.per_class else [])]
    needed = [_needed(plan, plan.labels_until(phase), held, encoder) for phase in phases]
    if (amount := max(needed)) > budget.amount:
        raise _too_small(budget, classes, replace(budget, amount=amount))


def _needed(plan: RunPlan, labels: Sequence[str], held: Contents, encoder: ExemplarEncoder) -> int:
    """The amount of the budget that surely holds an exemplar of each of ``labels``; 0 if the current one suffices."""
    budget = plan.budget
    limit = budget.limit(len(labels))
    assert limit is not None
    one = [_sample(plan, label, 1, held, encoder) for label in labels]
    if limit >= AMPLE * len(packed(one)):
        return 0
    sampled = [_sample(plan, label, SAMPLED, held, encoder) for label in labels]
    # An earlier run may have left nothing of a class, or no kind that is kept now: no budget changes that.
    some = [memory for memory in sampled if any(memory.of(kind.stored) for kind in budget.keep.kinds)]
    if _holds_each([_extreme(memory, smallest=True) for memory in some], budget, limit):
        return 0
    largest = [_extreme(memory, smallest=False) for memory in some]
    low, high = limit, 2 * limit + len(packed(largest))
    while not _holds_each(largest, budget, high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _holds_each(largest, budget, middle) else (middle, high)
    return ceil(high / len(labels)) if budget.per_class else high


def _too_small(budget: Budget, classes: int, needed: Budget) -> ConfigError:
    what = f"cannot hold one exemplar of {counted(classes, 'class')}" if classes == 1 else ""
    what = what or f"cannot hold one exemplar of each of {classes} classes"
    return ConfigError(f"{what}: give at least {needed}", setting="budget", value=str(budget))


def _sample(plan: RunPlan, label: str, count: int, held: Contents, encoder: ExemplarEncoder) -> ClassMemory:
    """Exemplars of each kind of some images of a class, evenly spaced; of an old class what is ``held`` of it."""
    for memory in held:
        if memory.label == label:
            return memory
    images = plan.data.train[label]
    chosen = images[:: ceil(len(images) / count)]
    found: dict[str, tuple[Exemplar, ...]] = {}
    for n, kind in enumerate(plan.budget.keep.kinds):
        made = encoder.exemplars(kind, chosen)
        # The same image may occur as two kinds, and names in a file are unique.
        found[kind.stored] = tuple(replace(each, name=f"{n or ''}{each.name}") for each in made)
    return ClassMemory(label, found)


def _extreme(memory: ClassMemory, *, smallest: bool) -> ClassMemory:
    """The smallest or the largest exemplar of each kind."""

    def size(exemplar: Exemplar) -> int:
        return len(exemplar.payload) + len(exemplar.hint or b"") + len(exemplar.name) + len(exemplar.prompt)

    best = min if smallest else max
    return ClassMemory(memory.label, {stored: (best(g, key=size),) for stored, g in memory.by_kind.items() if g})


def _holds_each(contents: Contents | Sequence[ClassMemory], budget: Budget, limit: int) -> bool:
    """Whether a memory of ``limit`` bytes holds an exemplar of each class of ``contents``."""
    shelves = [OldShelf(memory, budget.keep.parts) for memory in contents]
    try:
        filled = fill(shelves, replace(budget, amount=limit, per_class=False))
    except ConfigError:
        return False
    return all(map(len, filled))
