"""Figures against values worked out by hand, and against a second, slow way to count."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from escort_cil.memory.contents import MemoryFigures
from escort_cil.metrics import (
    PhaseFigures,
    Predictions,
    RunFigures,
    average_incremental_accuracy,
    backward_transfer,
    forgetting,
    mean_and_deviation,
    phase_figures,
)
from escort_cil.run.figures import load_figures, record_fault, save_figures
from escort_codec.errors import OutputError, TrainingError


def predictions(true: Sequence[int], called: Sequence[int], classes: int) -> Predictions:
    """A ranking whose first is ``called`` and whose rest are the other classes in order."""
    rest = [[c, *(o for o in range(classes) if o != c)][: min(5, classes)] for c in called]
    return Predictions(np.array(true, np.int64), np.array(rest, np.int64).reshape(len(true), min(5, classes)))


# Three phases of 2, 1 and 3 classes: 4 images of class 0, 2 of class 1, 4 of class 2, one each of 3, 4 and 5.
TRUE = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 5]
FIRST = phase_figures(predictions(TRUE[:6], [0, 0, 0, 1, 1, 0], 2), (2,))
SECOND = phase_figures(predictions(TRUE[:10], [0, 0, 0, 0, 2, 1, 2, 2, 2, 0], 3), (2, 1))
THIRD = phase_figures(predictions(TRUE, [5, 5, 0, 5, 1, 5, 2, 4, 3, 5, 3, 4, 0], 6), (2, 1, 3))


def run(*phases: PhaseFigures) -> RunFigures:
    figures = RunFigures()
    for phase in phases:
        figures = figures.after({"real": phase})
    return figures


def test_accuracies_by_hand_with_groups_of_unequal_size() -> None:
    assert FIRST.by_phase() == pytest.approx([100 * 4 / 6])
    assert SECOND.by_phase() == pytest.approx([100 * 5 / 6, 75])
    assert THIRD.by_phase() == pytest.approx([100 * 2 / 6, 25, 100 * 2 / 3])
    assert (SECOND.head().top1, THIRD.head().top1) == pytest.approx((80, 100 * 5 / 13))
    assert (THIRD.head().old, THIRD.head().new) == pytest.approx((30, 100 * 2 / 3))
    assert math.isnan(FIRST.head().old)
    assert FIRST.head().new == FIRST.head().top1
    # classes 0 to 5: 1 of 4, 1 of 2, 1 of 4, all, all, none
    assert THIRD.class_mean == pytest.approx(100 * (0.25 + 0.5 + 0.25 + 1 + 1 + 0) / 6)


def test_confusion_matrix_has_the_true_class_in_its_row() -> None:
    assert SECOND.linear.confusion.tolist() == [[4, 0, 0], [0, 1, 1], [1, 0, 3]]
    assert SECOND.linear.images.tolist() == [4, 2, 4]
    assert SECOND.linear.hits.tolist() == [4, 1, 3]


def test_top5_counts_the_first_five_of_a_longer_ranking() -> None:
    ranking = np.array([[6, 5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5, 6], [1, 0, 2, 3, 4, 5, 6]])
    figures = phase_figures(Predictions(np.array([0, 4, 1]), ranking), (7,))
    assert figures.head().top1 == pytest.approx(100 / 3)
    assert figures.head().top5 == pytest.approx(200 / 3)
    assert FIRST.head().top5 == 100  # two classes: the class is always among the first two


def test_nearest_mean_as_a_ranking_and_as_the_nearest_class_alone() -> None:
    true = np.array([0, 1, 2, 3, 4, 5])
    top = np.tile(np.arange(6), (6, 1))
    ranked = phase_figures(Predictions(true, top, np.roll(top, -1, axis=1)), (3, 3))
    assert ranked.head("nearest").top1 == pytest.approx(100 / 6)  # all are called class 1
    assert ranked.head("nearest").top5 == pytest.approx(500 / 6)  # class 0 comes sixth
    alone = phase_figures(Predictions(true, top, np.ones(6, np.int64)), (3, 3))
    assert alone.head("nearest").top1 == ranked.head("nearest").top1
    assert math.isnan(alone.head("nearest").top5)
    assert alone.by_phase("nearest") == pytest.approx([100 / 3, 0])
    assert (alone.head("nearest").old, alone.head("nearest").new) == pytest.approx((100 / 3, 0))
    assert (alone.to_record()["nme_old"], alone.to_record()["nme_new"]) == (33.3333, 0)
    assert math.isnan(FIRST.head("nearest").top1)
    assert math.isnan(FIRST.head("nearest").old)
    assert math.isnan(FIRST.head("nearest").new)


def test_accuracy_matrix_forgetting_and_transfer_by_hand() -> None:
    matrix = run(FIRST, SECOND, THIRD).matrix()
    expected = [[400 / 6, np.nan, np.nan], [500 / 6, 75, np.nan], [200 / 6, 25, 200 / 3]]
    np.testing.assert_allclose(matrix, expected)
    assert math.isnan(forgetting(matrix[:1, :1]))
    assert forgetting(matrix[:2, :2]) == pytest.approx(-100 / 6)  # improved: 66.7 to 83.3
    assert forgetting(matrix) == pytest.approx((300 / 6 + 50) / 2)
    assert backward_transfer(matrix) == pytest.approx((-200 / 6 - 50) / 2)
    assert average_incremental_accuracy([50, 100, 0]) == 50


def test_forgetting_takes_the_best_of_the_earlier_phases_only() -> None:
    nan = np.nan
    matrix = np.array([[50, nan, nan, nan], [90, 40, nan, nan], [70, 60, 20, nan], [95, 10, 30, 80.0]])
    # best before: 90, 60, 20; now: 95, 10, 30
    assert forgetting(matrix) == pytest.approx((-5 + 50 - 10) / 3)


def test_a_group_without_test_images_is_left_out_and_is_null_in_the_record() -> None:
    figures = run(
        phase_figures(predictions([1, 1], [1, 0], 2), (2,)),
        phase_figures(predictions([1, 1], [2, 0], 3), (2, 1)),
        phase_figures(predictions([1, 1, 3], [1, 0, 3], 4), (2, 1, 1)),
    )
    record = figures.to_record()
    assert record["accuracy_by_phase"] == [50, None, 100]
    assert record["forgetting"] == 0
    assert run(phase_figures(predictions([], [], 2), (2,))).to_record()["top1"] is None


@pytest.mark.parametrize("shape", [(0,), (0, 1), (0, 2)])
def test_a_first_phase_without_test_images_has_no_figures(shape: tuple[int, ...]) -> None:
    none = Predictions(np.empty(0, np.int64), np.empty((0, 2), np.int64), np.empty(shape, np.int64))
    figures = run(phase_figures(none, (2,)), phase_figures(predictions([2, 2], [2, 0], 3), (2, 1)))
    first, second = run(figures.of()[0]).to_record(), figures.to_record()
    for key in ("top1", "top5", "nme_top1", "class_mean", "old", "new", "average_incremental_accuracy", "forgetting"):
        assert first[key] is None, key
    assert (first["images"], first["accuracy_by_phase"], first["nme_accuracy_by_phase"]) == (0, [None], [None])
    # The average is over the phases that have a figure: 50 alone.
    assert (second["top1"], second["average_incremental_accuracy"], second["old"]) == (50, 50, None)
    assert (second["forgetting"], second["backward_transfer"]) == (None, None)
    assert record_fault(first | MemoryFigures().to_record(), ()) == ""


def test_record_is_a_line_of_plain_numbers() -> None:
    memory = MemoryFigures(
        bytes=2048, real=3, prompt=24, units=4.0, real_by_class=(3, 0, 0), prompt_by_class=(0, 12, 12)
    )
    record = run(FIRST, SECOND).to_record(memory.to_record())
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["phase"] == 1
    assert record["classes"] == 3
    assert record["groups"] == [2, 1]
    assert record["top1"] == 80
    assert record["accuracy_by_phase"] == [83.3333, 75]
    assert record["average_incremental_accuracy"] == round((400 / 6 + 80) / 2, 4)
    assert record["forgetting"] == -16.6667
    assert record["nme_top1"] is None
    assert record["nme_accuracy_by_phase"] is None
    assert (record["memory_bytes"], record["memory_real"], record["memory_prompt"]) == (2048, 3, 24)
    assert record["memory_units"] == 4
    assert record["memory_prompt_by_class"] == [0, 12, 12]


def test_each_view_has_its_own_figures_and_the_first_is_the_main_one() -> None:
    figures = RunFigures().after({"real": FIRST, "both": phase_figures(predictions([0, 1], [0, 1], 2), (2,))})
    record = figures.to_record()
    assert record["view"] == "real"
    assert list(record["views"]) == ["real", "both"]
    assert record["views"]["both"]["top1"] == 100
    assert record["views"]["real"]["top1"] == record["top1"] == 66.6667


def test_mean_and_deviation_over_seeds() -> None:
    assert mean_and_deviation([1, 3]) == pytest.approx((2, math.sqrt(2)))
    mean, deviation = mean_and_deviation([7])
    assert mean == 7
    assert math.isnan(deviation)
    assert all(math.isnan(value) for value in mean_and_deviation([]))


@pytest.mark.parametrize(
    ("true", "top", "groups"),
    [
        ([0, 2], [[0, 1], [1, 0]], (2,)),  # a class that is not there yet
        ([0, -1], [[0, 1], [1, 0]], (2,)),
        ([0, 1], [[0, 1], [2, 0]], (2,)),
        ([0, 1], [[0, 1]], (2,)),  # one ranking for two images
        ([0, 1], [[0], [1]], (2,)),  # too short for a top-5
        ([0, 1], [[0, 1], [1, 0]], (2, 0)),  # a phase without classes
    ],
)
def test_what_does_not_fit_is_refused(true: list[int], top: list[list[int]], groups: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"beyond|belong|ranking|at least one class"):
        phase_figures(Predictions(np.array(true), np.array(top)), groups)


def test_phases_must_go_on_from_the_last() -> None:
    with pytest.raises(ValueError, match="groups"):
        run(FIRST, THIRD)
    with pytest.raises(ValueError, match="views"):
        run(FIRST).after({"both": SECOND})


@st.composite
def evaluations(draw: st.DrawFn) -> tuple[tuple[int, ...], Predictions]:
    groups = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    classes = sum(groups)
    count = draw(st.integers(1, 40))
    true = draw(arrays(np.int64, count, elements=st.integers(0, classes - 1)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    top = np.stack([rng.permutation(classes) for _ in range(count)])
    return groups, Predictions(true, top, top[:, ::-1])


@settings(deadline=None)
@given(evaluations())
def test_counts_agree_with_counting_image_by_image(evaluation: tuple[tuple[int, ...], Predictions]) -> None:
    groups, given_ = evaluation
    figures = phase_figures(given_, groups)
    origin = [phase for phase, size in enumerate(groups) for _ in range(size)]
    pairs = list(zip(given_.true.tolist(), given_.top.tolist(), strict=True))
    assert figures.head().top1 == pytest.approx(100 * sum(t == r[0] for t, r in pairs) / len(pairs))
    assert figures.head().top5 == pytest.approx(100 * sum(t in r[:5] for t, r in pairs) / len(pairs))
    for phase, accuracy in enumerate(figures.by_phase()):
        own = [t == r[0] for t, r in pairs if origin[t] == phase]
        assert accuracy == pytest.approx(100 * sum(own) / len(own)) if own else math.isnan(accuracy)
    # top-1 is the mean of the groups' accuracies, each weighted by its images
    images = [sum(origin[t] == phase for t, _ in pairs) for phase in range(len(groups))]
    weighed = sum(a * n for a, n in zip(figures.by_phase(), images, strict=True) if n)
    assert figures.head().top1 == pytest.approx(weighed / len(pairs))


@settings(deadline=None)
@given(evaluations())
def test_figures_do_not_depend_on_the_order_of_the_images(evaluation: tuple[tuple[int, ...], Predictions]) -> None:
    groups, given_ = evaluation
    assert given_.nearest is not None
    order = np.random.default_rng(len(given_.true)).permutation(len(given_.true))
    shuffled = Predictions(given_.true[order], given_.top[order], given_.nearest[order])
    ours, theirs = phase_figures(given_, groups), phase_figures(shuffled, groups)
    assert (ours.linear.confusion == theirs.linear.confusion).all()
    assert ours.head()[:2] == theirs.head()[:2]
    assert ours.head("nearest").top1 == theirs.head("nearest").top1


def test_saved_counts_give_every_figure_back_to_the_digit(tmp_path: Path) -> None:
    nearest = Predictions(np.array(TRUE[:6]), np.array([[0, 1]] * 6), np.array([0, 1, 0, 1, 0, 1]))
    first = phase_figures(nearest, (2,))
    figures = RunFigures().after({"real": first, "both": FIRST}).after({"real": SECOND, "both": SECOND})
    save_figures(figures, tmp_path / "a.npz")
    loaded = load_figures(tmp_path / "a.npz")
    assert loaded.views == figures.views
    assert loaded.to_record() == figures.to_record()
    again = loaded.after({"real": THIRD, "both": THIRD})
    assert again.to_record() == figures.after({"real": THIRD, "both": THIRD}).to_record()
    save_figures(loaded, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_a_run_without_phases_is_saved_too(tmp_path: Path) -> None:
    save_figures(RunFigures(), tmp_path / "a.npz")
    assert load_figures(tmp_path / "a.npz").phases == ()


def test_damaged_counts_are_named(tmp_path: Path) -> None:
    path = tmp_path / "confusion.npz"
    with pytest.raises(TrainingError, match=r"confusion\.npz: cannot be read: No such file"):
        load_figures(path)
    save_figures(run(FIRST, SECOND), path)
    whole = path.read_bytes()
    for stop in range(0, len(whole), 7):
        path.write_bytes(whole[:stop])
        with pytest.raises(TrainingError, match=r"confusion\.npz: cannot be read"):
            load_figures(path)
    with path.open("wb") as file:
        wrong = {"groups": np.array([2]), "0/real/linear/confusion": np.zeros((3, 3), np.int64)}
        np.savez(file, allow_pickle=False, **wrong)
    with pytest.raises(TrainingError, match="damaged"):
        load_figures(path)


def test_counts_that_cannot_be_written_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        save_figures(run(FIRST), tmp_path / "missing" / "confusion.npz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        save_figures(run(FIRST), tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
