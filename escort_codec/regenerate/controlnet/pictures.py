"""One image to make, ready for a batch. No torch here: pictures are prepared in threads, before the model is there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from escort_codec.errors import RegenerationError
from escort_codec.hint import decode_hint
from escort_codec.regenerate.base import Job
from escort_codec.regenerate.controlnet.presets import control_image, enlarged_hint
from escort_codec.regenerate.controlnet.settings import Resolved


@dataclass(frozen=True, slots=True)
class Picture:
    """Its control image and perhaps enlarged hint (uint8 (H, W, 3) of generation size), its prompts and seed."""

    control: NDArray[np.uint8]
    prompt: str
    negative_prompt: str
    seed: int
    hint: NDArray[np.uint8] | None = None


def prepare(job: Job, resolved: Resolved) -> Picture:
    """Decodes the edge map and the hint and brings them to generation size; raises RegenerationError."""
    size = resolved.settings.size
    exemplar = job.exemplar
    try:
        hint = None
        if resolved.settings.hint_strength is not None and exemplar.hint is not None:
            hint = enlarged_hint(decode_hint(exemplar.hint), size)
        control = control_image(exemplar.edges, size)
    except Exception as exc:  # a damaged payload; OpenCV's limits
        raise RegenerationError(f"{exemplar.key}: {exc}") from exc
    return Picture(control, resolved.prompt, resolved.negative_prompt, job.seed, hint)
