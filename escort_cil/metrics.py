"""Every figure of a run, from one matrix: after each phase, how often images of class i were predicted as class j.

Classes are numbers, their positions in the class order: 0 .. C-1, the first phase's first. ``groups`` says how many
classes each phase brought, (10, 5, 5) for instance; groups may differ in size. Figures are percentages in 0..100 and
are rounded only when written or shown. A figure of no images is NaN (null in JSON, a dash in tables): ``old`` in the
first phase, or a group whose classes have no test images. Means leave it out.

With A[p][q] the accuracy after phase p on the classes that phase q brought:

- **top1** (top5): images whose class is the first (among the first five) of the ranking, over all images so far;
- **average incremental accuracy** after phase p: the mean of top1 after the phases 0 .. p (Rebuffi et al. 2017);
- **forgetting** after phase p: 1/p sum over q < p of (max over q <= l < p of A[l][q]) - A[p][q], the best
  earlier accuracy less the last (Chaudhry et al. 2018, "Riemannian Walk"); negative where old classes improved;
- **backward transfer** after phase p: 1/p sum over q < p of A[p][q] - A[q][q] (Lopez-Paz and Ranzato 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Head = Literal["linear", "nearest"]
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

TOP: Final = 5  # the "5" of top-5
DECIMALS: Final = 4  # of a percentage in metrics.jsonl


@dataclass(frozen=True, slots=True)
class Predictions:
    """A network's predictions for N test images in one view.

    ``true`` is int64 (N,), the class numbers. ``top`` is int64 (N, k), the linear head's ranking, best first, with k
    at least 5 or all classes so far. ``nearest`` is the nearest-mean ranking, int64 (N, k), or only the nearest
    class, (N,), or None if there are no class means; its top-5 is known if k is large enough.
    """

    true: Integers
    top: Integers
    nearest: Integers | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """One head's decisions over one evaluation.

    ``confusion`` is int64 (C, C): images of class row that were predicted as class column. ``within`` is int64 (C,):
    images of each class whose class was among the first five, or None if the ranking was too short.
    """

    confusion: Integers
    within: Integers | None

    @property
    def images(self) -> Integers:
        """Images of each class, int64 (C,)."""
        return np.asarray(self.confusion.sum(axis=1), dtype=np.int64)

    @property
    def hits(self) -> Integers:
        """Correctly predicted images of each class, int64 (C,)."""
        return np.ascontiguousarray(np.diagonal(self.confusion))

    def accuracy(self, first: int = 0, stop: int | None = None) -> float:
        """Per cent of the images of the classes first .. stop-1 that were predicted correctly."""
        return _percent(self.hits[first:stop], self.images[first:stop])

    def accuracy_within(self) -> float:
        """Per cent of all images whose class was among the first five; NaN if that is not known."""
        return float("nan") if self.within is None else _percent(self.within, self.images)


class HeadFigures(NamedTuple):
    """One head's figures after a phase, in per cent; NaN if it was not evaluated.

    ``old`` is the accuracy on the classes of all phases but the last (NaN in the first phase), ``new`` on the last's.
    """

    top1: float = float("nan")
    top5: float = float("nan")
    old: float = float("nan")
    new: float = float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class PhaseFigures:
    """One evaluation in one view after a phase. ``groups``: the classes that each phase so far brought."""

    groups: tuple[int, ...]
    linear: Counts
    nearest: Counts | None = None

    def counts(self, head: Head) -> Counts | None:
        """The counts of one head, or None if it was not evaluated."""
        return self.linear if head == "linear" else self.nearest

    def by_phase(self, head: Head = "linear") -> list[float]:
        """Accuracy on the classes of each phase so far: the last row of the accuracy matrix."""
        counts = self.counts(head)
        bounds = pairwise(np.cumsum((0, *self.groups)).tolist())
        return [float("nan") if counts is None else counts.accuracy(first, stop) for first, stop in bounds]

    def head(self, head: Head = "linear") -> HeadFigures:
        """The figures of one head over all images."""
        counts = self.counts(head)
        if counts is None:
            return HeadFigures()
        old = sum(self.groups[:-1])
        return HeadFigures(counts.accuracy(), counts.accuracy_within(), counts.accuracy(0, old), counts.accuracy(old))

    @property
    def class_mean(self) -> float:
        """Mean over the classes of each class's own accuracy, for test sets of unequal classes."""
        images, hits = self.linear.images, self.linear.hits
        seen = images > 0
        return float(100 * np.mean(hits[seen] / images[seen])) if seen.any() else float("nan")

    def to_record(self) -> dict[str, Any]:
        """Plain numbers: percentages of 4 decimals, NaN as None."""
        linear, nearest = self.head("linear"), self.head("nearest")
        record = {
            "images": int(self.linear.images.sum()),
            "top1": linear.top1,
            "top5": linear.top5,
            "nme_top1": nearest.top1,
            "nme_top5": nearest.top5,
            "class_mean": self.class_mean,
            "accuracy_by_phase": self.by_phase("linear"),
            "nme_accuracy_by_phase": None if self.nearest is None else self.by_phase("nearest"),
            "old": linear.old,
            "new": linear.new,
            "nme_old": nearest.old,
            "nme_new": nearest.new,
        }
        return {key: _rounded(value) for key, value in record.items()}


def phase_figures(predictions: Predictions, groups: Sequence[int]) -> PhaseFigures:
    """Counts the predictions after a phase; ``groups`` are the classes that each phase so far brought.

    Raises ValueError if an array has the wrong shape or names a class beyond the C = sum(groups) so far.
    """
    sizes = tuple(int(size) for size in groups)
    if not sizes or min(sizes) < 1:
        raise ValueError(f"each phase brings at least one class, not {sizes}")
    classes = sum(sizes)
    nearest = predictions.nearest
    if predictions.top.ndim != 2 or predictions.top.shape[1] < min(TOP, classes):
        raise ValueError(f"a ranking is (N, {min(TOP, classes)} or more), not {predictions.top.shape}")
    return PhaseFigures(
        groups=sizes,
        linear=_count(predictions.true, predictions.top, classes),
        nearest=None if nearest is None else _count(predictions.true, np.atleast_2d(nearest.T).T, classes),
    )


def _count(true: Integers, ranking: Integers, classes: int) -> Counts:
    if true.ndim != 1 or len(ranking) != len(true) or (len(true) and ranking.shape[1] < 1):
        raise ValueError(f"classes {true.shape} and ranking {ranking.shape} do not match")
    for name, values in (("class", true), ("ranking", ranking)):
        if values.size and (int(values.min()) < 0 or int(values.max()) >= classes):
            raise ValueError(f"a {name} is beyond the {classes} classes so far")
    if not len(true):
        return Counts(np.zeros((classes, classes), np.int64), np.zeros(classes, np.int64))
    pairs = true.astype(np.int64) * classes + ranking[:, 0]
    confusion = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)
    within = None
    if ranking.shape[1] >= min(TOP, classes):
        found = (ranking[:, :TOP] == true[:, None]).any(axis=1)
        within = np.bincount(true[found], minlength=classes).astype(np.int64)
    return Counts(confusion, within)


def average_incremental_accuracy(top1: Sequence[float]) -> float:
    """The mean of top1 after each phase so far; phases that had no test image yet do not count."""
    return _mean(top1)


def forgetting(matrix: Floats) -> float:
    """Forgetting after the last phase of an accuracy matrix (P, P), see above; NaN in the first phase.

    The mean is over the old groups that have test images.
    """
    last = len(matrix) - 1
    return _mean([float(np.max(matrix[q:last, q])) - float(matrix[last, q]) for q in range(last)])


def backward_transfer(matrix: Floats) -> float:
    """Backward transfer after the last phase of an accuracy matrix (P, P), see above; NaN in the first phase."""
    last = len(matrix) - 1
    return _mean([float(matrix[last, q] - matrix[q, q]) for q in range(last)])


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1) over seeds; the deviation of one value is NaN."""
    if not len(values):
        return float("nan"), float("nan")
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class RunFigures:
    """The figures of a run so far: for each phase, each view's ``PhaseFigures``. The first view is the main one.

    Views are the ways to look at a test image: ``real``, ``regenerated``, ``both``.
    """

    phases: tuple[Mapping[str, PhaseFigures], ...] = field(default=())

    def after(self, views: Mapping[str, PhaseFigures]) -> RunFigures:
        """These figures and one more phase. Raises ValueError if views or groups do not continue the last."""
        if not views:
            raise ValueError("a phase is evaluated in at least one view")
        groups = next(iter(views.values())).groups
        before = next(iter(self.phases[-1].values())).groups if self.phases else ()
        if self.phases and tuple(views) != tuple(self.phases[-1]):
            raise ValueError(f"views {tuple(views)} after {tuple(self.phases[-1])}")
        if any(figures.groups != groups for figures in views.values()) or groups[:-1] != before:
            raise ValueError(f"phase {len(self.phases)} has groups {groups} after {before}")
        return RunFigures((*self.phases, dict(views)))

    @property
    def views(self) -> tuple[str, ...]:
        """The views' names, the main one first."""
        return tuple(self.phases[0]) if self.phases else ()

    def of(self, view: str | None = None) -> list[PhaseFigures]:
        """One view's figures by phase; None is the main view."""
        return [phase[view or self.views[0]] for phase in self.phases]

    def matrix(self, view: str | None = None, head: Head = "linear") -> Floats:
        """The accuracy matrix A, float64 (P, P): after phase (row) on the classes of phase (column).

        NaN above the diagonal, for groups without images, and if the head was not evaluated.
        """
        matrix = np.full((len(self.phases), len(self.phases)), np.nan)
        for p, figures in enumerate(self.of(view)):
            matrix[p, : p + 1] = figures.by_phase(head)
        return matrix

    def to_record(self, memory: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The last phase as a line of metrics.jsonl: plain numbers, percentages of 4 decimals, NaN as None.

        Holds the main view's figures, ``view`` (its name), the keys of ``memory``, and every view's figures under
        ``views``. Raises ValueError before the first phase.
        """
        if not self.phases:
            raise ValueError("no phase was evaluated yet")
        views = {view: self._view_record(view) for view in self.views}
        last = self.of()[-1]
        return {
            "phase": len(self.phases) - 1,
            "classes": sum(last.groups),
            "groups": list(last.groups),
            "view": self.views[0],
            **views[self.views[0]],
            **(memory or {}),
            "views": views,
        }

    def _view_record(self, view: str) -> dict[str, Any]:
        figures = self.of(view)
        last, matrix = figures[-1], self.matrix(view)
        record: dict[str, Any] = {
            "average_incremental_accuracy": average_incremental_accuracy([f.head("linear").top1 for f in figures]),
            "nme_average_incremental_accuracy": average_incremental_accuracy([f.head("nearest").top1 for f in figures]),
            "forgetting": forgetting(matrix),
            "nme_forgetting": forgetting(self.matrix(view, "nearest")),
            "backward_transfer": backward_transfer(matrix),
        }
        return last.to_record() | {key: _rounded(value) for key, value in record.items()}


def _percent(hits: Integers, images: Integers) -> float:
    total = int(images.sum())
    return 100 * int(hits.sum()) / total if total else float("nan")


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")


def _rounded(value: Any) -> Any:
    """Floats of 4 decimals and NaN as None, also in lists."""
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    if isinstance(value, float):
        return None if value != value else round(value, DECIMALS)
    return value
