"""Random numbers that depend on the model seed, the phase, the epoch and the purpose alone.

Nothing is carried from one use to the next: a run resumed from a checkpoint draws what it would have drawn.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import torch

Purpose = Literal["weights", "epoch", "selection"]
_CODES: Final[dict[Purpose, int]] = {"weights": 0, "epoch": 1, "selection": 2}


def derived_seed(model_seed: int, purpose: Purpose, *place: int) -> int:
    """A seed of 32 bits for one purpose at one place, such as a phase and an epoch."""
    sequence = np.random.SeedSequence([model_seed, _CODES[purpose], *place])
    return int(sequence.generate_state(1)[0])


def make_generator(model_seed: int, purpose: Purpose, *place: int) -> torch.Generator:
    """A generator on the CPU from ``derived_seed``."""
    return torch.Generator().manual_seed(derived_seed(model_seed, purpose, *place))
