"""Herding, worked out by hand and against the published algorithm word by word."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from escort_cil.memory.selection import herding, random_order, selections
from escort_codec.errors import UnknownNameError


def by_the_book(features: NDArray[np.float64], wanted: int) -> list[int]:
    """Rebuffi et al. 2017, algorithm 4: the p_k that minimises |mu - (phi(x) + sum of those before) / k|."""
    vectors = features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-8)
    mean = vectors.mean(axis=0)
    chosen: list[int] = []
    for k in range(1, min(wanted, len(vectors)) + 1):
        before = vectors[chosen].sum(axis=0)
        distances = np.linalg.norm(mean - (vectors + before) / k, axis=1)
        distances[chosen] = np.inf
        chosen.append(int(np.argmin(distances)))
    return chosen


def test_order_worked_out_by_hand() -> None:
    # Unit vectors at 0, 90 and 45 degrees and one at 0 again, twice as long: lengths do not count. The mean is
    # ((1 + 0 + s + 1) / 4, (0 + 1 + s + 0) / 4) with s = 0.7071: (0.677, 0.427), at 32 degrees: first comes the
    # vector at 45 degrees. Then, to bring the mean of two nearest: (1, 0) gives (0.854, 0.354), 0.19 away; (0, 1)
    # gives (0.354, 0.854), 0.54 away. Of the two at 0 degrees the first. Then (0, 1): (0.569, 0.569) is 0.18 away,
    # the other (1, 0): (0.902, 0.236) is 0.30 away.
    features = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
    assert herding(features, 4).tolist() == [2, 0, 1, 3]
    assert herding(features, 2).tolist() == [2, 0]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 15), st.integers(0, 10_000))
def test_agrees_with_the_book(images: int, dims: int, wanted: int, seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(images, dims)) + 0.5
    order = herding(features, wanted)
    expected = by_the_book(features, wanted)
    assert len(set(order.tolist())) == len(order) == min(images, wanted)
    vectors = features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-8)
    mean = vectors.mean(axis=0)
    for k in range(1, len(order) + 1):  # ties may fall either way: the distance reached is what counts
        reached = np.linalg.norm(mean - vectors[order[:k]].mean(axis=0))
        best = np.linalg.norm(mean - vectors[expected[:k]].mean(axis=0))
        if order[:k].tolist() != expected[:k]:
            assert reached == pytest.approx(best, abs=1e-6)
            break


def test_a_prefix_is_the_order_of_fewer() -> None:
    features = np.random.default_rng(5).normal(size=(30, 8))
    assert herding(features, 10).tolist() == herding(features, 30)[:10].tolist()


def test_classes_with_fewer_images_and_none() -> None:
    assert herding(np.zeros((0, 4)), 5).tolist() == []
    assert herding(np.ones((3, 4)), 0).tolist() == []
    assert herding(np.zeros((2, 4)), 5).tolist() == [0, 1]  # features of zeros divide nothing by zero


def test_random_selection_depends_on_its_seed_alone() -> None:
    features = np.zeros((50, 2))
    order = random_order(features, 50, seed=3)
    assert sorted(order.tolist()) == list(range(50))
    assert order.tolist() == random_order(features + 1, 50, seed=3).tolist()
    assert order.tolist() != random_order(features, 50, seed=4).tolist()
    assert random_order(features, 7, seed=3).tolist() == order[:7].tolist()


def test_an_unknown_selection_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'herding'"):
        selections.get("herdin")
