"""Herding (Welling 2009; Rebuffi et al. 2017, algorithm 4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-8  # keeps an all-zero feature vector from dividing by zero


def herding(features: NDArray[np.float64], wanted: int, seed: int = 0) -> NDArray[np.int64]:
    """Indices of min(N, wanted) images, each the one that brings the mean of those chosen nearest to the class mean.

    ``features`` is (N, D) and is L2-normalised here; the class mean is the mean of the normalised features, not
    normalised again (as PyCIL). Without replacement; of equals the first. Nothing is random: ``seed`` is not used.
    """
    vectors = np.asarray(features, np.float64)
    vectors = vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + EPSILON)
    count = min(len(vectors), max(0, wanted))
    chosen = np.empty(count, np.int64)
    if count == 0:
        return chosen
    mean = vectors.mean(axis=0)
    total = np.zeros_like(mean)
    free = np.ones(len(vectors), bool)
    # |mean - (total + v) / k|^2 = (|v|^2 + 2 v (total - k mean)) / k^2 + what no image changes
    squares = np.einsum("nd,nd->n", vectors, vectors)
    for k in range(1, count + 1):
        distance = squares + 2 * (vectors @ (total - k * mean))
        distance[~free] = np.inf
        chosen[k - 1] = best = int(np.argmin(distance))
        free[best] = False
        total += vectors[best]
    return chosen
