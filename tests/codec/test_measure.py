"""Measures: against scikit-image, against a brute-force matching, and cases worked out by hand."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from escort_codec.errors import UsageError
from escort_codec.measure import class_kid, edge_score, kid, psnr, ssim


def random_pair(seed: int, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.Generator(np.random.PCG64(seed))
    first = rng.integers(0, 256, shape, dtype=np.uint8)
    second = np.clip(first.astype(int) + rng.integers(-40, 41, shape), 0, 255).astype(np.uint8)
    return first, second


@pytest.mark.parametrize("shape", [(24, 31), (11, 11), (40, 23, 3)])
def test_ssim_and_psnr_are_those_of_scikit_image(shape: tuple[int, ...]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    first, second = random_pair(sum(shape), shape)
    more = {"channel_axis": 2} if len(shape) == 3 else {}
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    theirs = metrics.structural_similarity(second, first, **settings, **more)
    assert ssim(first, second) == pytest.approx(theirs, abs=1e-9)
    assert psnr(first, second) == pytest.approx(metrics.peak_signal_noise_ratio(second, first), abs=1e-9)


def test_equal_images_and_small_ones() -> None:
    first, second = random_pair(1, (5, 40, 3))
    assert psnr(first, first) == math.inf
    assert ssim(first, first) == pytest.approx(1)
    assert 0 < ssim(first, second) < 1
    grey = np.zeros((4, 4), np.uint8)
    assert psnr(grey, grey + np.uint8(16)) == pytest.approx(10 * math.log10(255**2 / 256))
    with pytest.raises(UsageError, match="at one size"):
        psnr(grey, first)


def brute_force(first: NDArray[np.bool_], second: NDArray[np.bool_], tolerance: float) -> int:
    """The most pairs, by trying all."""
    a, b = ([tuple(map(int, place)) for place in np.argwhere(each)] for each in (first, second))
    near = [tuple(j for j, q in enumerate(b) if math.dist(p, q) <= tolerance) for p in a]

    @cache
    def best(i: int, used: frozenset[int]) -> int:
        if i == len(a):
            return 0
        tries = [1 + best(i + 1, used | {j}) for j in near[i] if j not in used]
        return max([best(i + 1, used), *tries])

    return best(0, frozenset())


@given(st.integers(0, 2**32), st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.0]))
def test_the_matching_is_a_largest_one(seed: int, tolerance: float) -> None:
    rng = np.random.Generator(np.random.PCG64(seed))
    height, width = rng.integers(1, 8, 2)
    first, second = (np.zeros((height, width), np.bool_) for _ in range(2))
    for each in (first, second):
        count = int(rng.integers(0, min(8, each.size + 1)))
        each.ravel()[rng.permutation(each.size)[:count]] = True
    score, pairs = edge_score(first, second, tolerance), brute_force(first, second, tolerance)
    assert score.precision == pytest.approx(pairs / first.sum() if first.any() else 1)
    assert score.recall == pytest.approx(pairs / second.sum() if second.any() else 1)


def test_a_shifted_line_matches_within_two_pixels_and_each_pixel_once() -> None:
    line, near, far, double = (np.zeros((9, 30), np.bool_) for _ in range(4))
    line[2], near[4], far[5] = True, True, True
    double[2:4] = True
    assert edge_score(line, near).f == 1
    assert edge_score(line, far).f == 0
    score = edge_score(double, line)
    assert (score.precision, score.recall) == (0.5, 1)
    assert score.f == pytest.approx(2 / 3)
    empty = np.zeros((9, 30), np.bool_)
    assert edge_score(empty, line).f == 0
    assert edge_score(empty, empty).f == 1
    with pytest.raises(UsageError):
        edge_score(line, line[:4])
    with pytest.raises(UsageError):
        edge_score(line, line, 9)


def test_kernel_distance_by_hand() -> None:
    x, y = np.array([[1.0], [2.0]], np.float32), np.array([[0.0], [1.0]], np.float32)
    # k(a, b) = (ab + 1)^3: within x 27, within y 1, across the mean of k(1,0), k(1,1), k(2,0), k(2,1) = 1, 8, 1, 27
    assert kid(x, y) == pytest.approx(27 + 1 - 2 * (1 + 8 + 1 + 27) / 4)
    both = np.concatenate([x, x])
    assert class_kid(both, np.concatenate([y, y]), ["a", "b", "a", "b"]) == pytest.approx(
        (kid(both[[0, 2]], y[[0, 0]]) + kid(both[[1, 3]], y[[1, 1]])) / 2
    )
    assert math.isnan(class_kid(x, y, ["a", "b"]))
    with pytest.raises(UsageError):
        kid(x[:1], y)
