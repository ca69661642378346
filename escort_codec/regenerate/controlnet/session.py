"""The model in use: loaded when first needed, its batches run, and how many images fit into one."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from escort_codec.processes import local_rank
from escort_codec.regenerate.controlnet.batching import ON_CPU, Sizes, largest_batch
from escort_codec.regenerate.controlnet.models import ModelChoice
from escort_codec.regenerate.controlnet.options import ControlNetOptions
from escort_codec.regenerate.controlnet.pictures import Picture
from escort_codec.regenerate.controlnet.settings import Settings

if TYPE_CHECKING:
    import torch

    from escort_codec.regenerate.controlnet.loading import Loaded
    from escort_codec.regenerate.controlnet.prompts import Embeddings

log = logging.getLogger(__name__)


class ModelSession:
    """One model at a time on one device.

    ``seconds`` counts what is not image making: ``load``, and ``warm_up`` (measuring the batch size, compiling).
    """

    def __init__(self, options: ControlNetOptions, near: str | None = None) -> None:
        self.options = options
        self._near = near
        self.sizes = Sizes(options.batch_size)
        self.seconds = {"load": 0.0, "warm_up": 0.0}
        self._device: torch.device | None = None
        self._choice: ModelChoice | None = None
        self._model: tuple[Loaded, Embeddings] | None = None
        self._warm: set[tuple[Settings, int]] = set()

    @property
    def device(self) -> torch.device:
        """Where images are made; raises UsageError for a device that is not here."""
        from escort_codec.regenerate.controlnet.device import resolve_device

        if self._device is None:
            self._device = resolve_device(self.options.device or self._near, local_rank())
        return self._device

    def default_dtype(self) -> str:
        """The dtype that "auto" stands for on this device."""
        from escort_codec.regenerate.controlnet.device import default_dtype

        return default_dtype(self.device)

    def load(self, choice: ModelChoice) -> bool:
        """Makes ``choice`` the model in use; True where it had to be loaded. Raises ModelError."""
        from escort_codec.regenerate.controlnet.loading import load
        from escort_codec.regenerate.controlnet.prompts import Embeddings

        if self._model is not None and self._choice == choice:
            return False
        self.close()
        begin = perf_counter()
        loaded = load(choice, self.device)
        if self.options.compile:
            loaded.compile()
        self._choice, self._model = choice, (loaded, Embeddings(loaded))
        self._spent("load", begin, f"loaded {choice.model} in {choice.dtype} on {self.device}")
        return True

    def batch_size(self, settings: Settings) -> int:
        """How many images of these settings are made at once, as far as is known now."""
        count = self.sizes.of(settings.size)
        if self.options.batch_size is None and self.device.type != "cuda":
            return min(ON_CPU, count)
        return count

    def run(self, settings: Settings, pictures: list[Picture]) -> tuple[NDArray[np.uint8], list[bool]]:
        """One batch: images, uint8 (B, H, W, 3) of generation size, and of each whether its values were finite.

        Where the networks are compiled the batch is filled up, so that shapes repeat, and warmed up first.
        """
        from escort_codec.regenerate.controlnet import sampling

        loaded, embeddings = self._in_use()
        count = len(pictures)
        with loaded.many_shapes():
            if loaded.compiled:
                pictures = pictures + [pictures[-1]] * (self.batch_size(settings) - count)
                self._warm_up(settings, pictures)
            images, finite = sampling.decode(loaded, sampling.sample(loaded, embeddings, settings, pictures))
        return images[:count], finite[:count]

    def run_in_fp32(self, settings: Settings, picture: Picture) -> tuple[NDArray[np.uint8], list[bool]]:
        """As ``run``, of one image, in fp32 with the same weights."""
        with self._in_use()[0].in_fp32():
            return self.run(settings, [picture])

    def measure(self, settings: Settings, picture: Picture) -> None:
        """Finds the largest batch of this generation size that fits, by what batches of 1 and 2 take for one step
        and one decoding. On CUDA, once a size, where no batch size was asked for."""
        if self.device.type != "cuda" or self.sizes.known(settings.size):
            return
        import torch

        from escort_codec.regenerate.controlnet import sampling

        loaded, embeddings = self._in_use()
        begin = perf_counter()
        held = torch.cuda.memory_allocated(self.device)

        def peak(count: int) -> int:
            torch.cuda.reset_peak_memory_stats(self.device)
            with loaded.not_compiled():  # for two shapes that no batch will have
                sampling.warm_up(loaded, embeddings, settings, [picture] * count)
            return torch.cuda.max_memory_allocated(self.device) - held

        try:
            self.free()
            count = largest_batch(peak, torch.cuda.mem_get_info(self.device)[0])
        except torch.OutOfMemoryError:
            count = 1
        self.free()
        self.sizes.found(settings.size, count)
        self._spent("warm_up", begin, f"batches of {self.batch_size(settings)} at {in_words(settings.size)}")

    def free(self) -> None:
        """Gives memory that nothing holds back to the device."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()

    def close(self) -> None:
        """Frees the weights."""
        if self._model is not None:
            self._model[0].close()
        self._choice = self._model = None
        self._warm.clear()

    def _warm_up(self, settings: Settings, pictures: list[Picture]) -> None:
        """Compiles for a shape when it is first met."""
        from escort_codec.regenerate.controlnet import sampling

        if (settings, len(pictures)) in self._warm:
            return
        begin = perf_counter()
        sampling.warm_up(*self._in_use(), settings, pictures)
        self._warm.add((settings, len(pictures)))
        self._spent("warm_up", begin, f"compiled for {len(pictures)} images of {in_words(settings.size)}")

    def _in_use(self) -> tuple[Loaded, Embeddings]:
        if self._model is None:
            raise RuntimeError("no model was loaded")
        return self._model

    def _spent(self, what: str, begin: float, said: str) -> None:
        seconds = perf_counter() - begin
        self.seconds[what] += seconds
        log.info("%s (%.1f s)", said, seconds)


def in_words(size: tuple[int, int]) -> str:
    """A size (H, W) as people say it: width x height."""
    return f"{size[1]} x {size[0]}"
