"""Random selection: the reference for herding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def random_order(features: NDArray[np.float64], wanted: int, seed: int = 0) -> NDArray[np.int64]:
    """Indices of min(N, wanted) of the N images of ``features`` (N, D), drawn with ``seed`` without replacement."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(features))
    return order[: max(0, wanted)].astype(np.int64)
