"""What a selection is, and the registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from escort_codec.registry import Registry

Selection: TypeAlias = Callable[[NDArray[np.float64], int, int], NDArray[np.int64]]
"""(features (N, D), how many are wanted, seed) to the indices of min(N, wanted) images, the best first."""

selections: Registry[Selection] = Registry("selection")
