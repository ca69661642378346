"""Selections: orders in which a class's images are remembered, the best first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from escort_codec.registry import Registry

Selection: TypeAlias = Callable[[NDArray[np.float64], int, int], NDArray[np.int64]]
"""(features (N, D), count, seed) -> the indices of min(N, count) images, the best first."""

EPSILON = 1e-8  # keeps an all-zero feature vector from dividing by zero


def herding(features: NDArray[np.float64], count: int, seed: int = 0) -> NDArray[np.int64]:
    """Indices of min(N, count) images; each brings the mean of the chosen ones nearest to the class mean.

    ``features`` is (N, D) and is L2-normalised here; the class mean is the mean of the normalised features, not
    normalised again, as in PyCIL. Without replacement; a tie goes to the first. ``seed`` is not used.
    Source: Welling 2009; Rebuffi et al. 2017, algorithm 4.
    """
    vectors = np.asarray(features, np.float64)
    vectors = vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + EPSILON)
    count = min(len(vectors), max(0, count))
    chosen = np.empty(count, np.int64)
    if count == 0:
        return chosen
    mean = vectors.mean(axis=0)
    total = np.zeros_like(mean)
    free = np.ones(len(vectors), bool)
    # |mean - (total + v) / k|^2 = (|v|^2 + 2 v (total - k mean)) / k^2 + a constant
    squares = np.einsum("nd,nd->n", vectors, vectors)
    for k in range(1, count + 1):
        distance = squares + 2 * (vectors @ (total - k * mean))
        distance[~free] = np.inf
        chosen[k - 1] = best = int(np.argmin(distance))
        free[best] = False
        total += vectors[best]
    return chosen


def random_order(features: NDArray[np.float64], count: int, seed: int = 0) -> NDArray[np.int64]:
    """Indices of min(N, count) of the N images of ``features`` (N, D), drawn with ``seed`` without replacement."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(features))
    return order[: max(0, count)].astype(np.int64)


selections: Registry[Selection] = Registry("selection")
selections.add("herding", herding)
selections.add("random", random_order)
