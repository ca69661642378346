"""The model in use: its device, loading, batches, and how many images fit into one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from escort_codec.errors import UsageError
from escort_codec.processes import local_rank
from escort_codec.regenerate.controlnet.models import ModelChoice
from escort_codec.regenerate.controlnet.options import ControlNetOptions
from escort_codec.regenerate.controlnet.resolve import GenerationSettings, ModelInput

if TYPE_CHECKING:
    import torch

    from escort_codec.regenerate.controlnet.loading import DiffusionModel
    from escort_codec.regenerate.controlnet.sampling import Embeddings

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

LARGEST: Final = 64
ON_CPU: Final = 4
"""The most images in a batch on a GPU (larger batches of 512 x 512 are no faster on the largest ones) and a CPU."""

USABLE: Final = 0.9
"""The share of the free memory that a batch may take; the rest is for fragments and libraries' workspaces."""

WAITING: Final = 4096
WAITING_BYTES: Final = 1 << 30
"""The most jobs that wait for their batch to fill, and the most bytes of their inputs."""

log: Final = logging.getLogger(__name__)


class JobGroups(Generic[K, T]):
    """Collects items by key and returns them in full batches, the rest at the end. Keeps the order within a key."""

    def __init__(self, batch_size: Callable[[K], int]) -> None:
        self._batch_size = batch_size
        self._groups: dict[K, list[T]] = {}
        self._sizes: dict[K, int] = {}
        self._waiting = self._bytes = 0

    def add(self, key: K, item: T, size: int = 1) -> Iterator[tuple[K, list[T]]]:
        """Adds an item of ``size`` bytes, equal for all of a key; yields the batch that it fills, or the largest group
        if very many items wait."""
        group = self._groups.setdefault(key, [])
        group.append(item)
        self._sizes[key] = size
        self._waiting += 1
        self._bytes += size
        if len(group) >= self._batch_size(key):
            yield self._take(key)
        elif self._waiting >= WAITING or self._bytes > WAITING_BYTES:
            yield self._take(max(self._groups, key=lambda k: len(self._groups[k]) * self._sizes[k]))

    def rest(self) -> Iterator[tuple[K, list[T]]]:
        """Yields what is left, group by group."""
        while self._groups:
            yield self._take(next(iter(self._groups)))

    def _take(self, key: K) -> tuple[K, list[T]]:
        items = self._groups.pop(key)
        self._waiting -= len(items)
        self._bytes -= len(items) * self._sizes.pop(key)
        return key, items


class BatchSizes:
    """The batch size by generation size: ``fixed``, or the most that fits; smaller once a batch of that area, or of a
    smaller one, ran out of memory."""

    def __init__(self, fixed: int | None) -> None:
        self.fixed = fixed
        self._measured: dict[tuple[int, int], int] = {}
        self._limits: dict[int, int] = {}

    def known(self, size: tuple[int, int]) -> bool:
        """Whether ``size`` (H, W) needs no measurement."""
        return self.fixed is not None or size in self._measured

    def measured(self, size: tuple[int, int], count: int) -> None:
        """Records that ``count`` images fit."""
        self._measured[size] = max(1, min(count, LARGEST))

    def of(self, size: tuple[int, int]) -> int:
        """The batch size for ``size`` (H, W), at least 1."""
        area = size[0] * size[1]
        count = self.fixed if self.fixed is not None else self._measured.get(size, LARGEST)
        return max(1, min([count, *(limit for a, limit in self._limits.items() if a <= area)]))

    def ran_out(self, size: tuple[int, int], count: int) -> int:
        """Records that ``count`` images did not fit; returns the half to try next, 0 if a single image did not fit."""
        half = count // 2
        self._limits[size[0] * size[1]] = max(1, half)
        return half


def largest_batch(peak: Callable[[int], int], free: int) -> int:
    """The largest batch whose memory fits into ``free`` bytes.

    ``peak(n)`` makes a batch of n and returns its peak memory in bytes. Memory grows linearly with the batch above a
    constant, so batches of 1 and 2 are enough.
    """
    one = peak(1)
    if one > free * USABLE:
        return 1
    each = max(1, peak(2) - one)
    count = 1 + int(free * USABLE - one) // each
    count = max(1, min(count, LARGEST))
    return count - count % 8 if count > 8 else count


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether an error means that the memory of the device or the machine ran out."""
    if isinstance(exc, MemoryError) or type(exc).__name__ == "OutOfMemoryError":
        return True
    text = str(exc).lower()
    return isinstance(exc, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def format_size(size: tuple[int, int]) -> str:
    """A size (H, W) as width x height."""
    return f"{size[1]} x {size[0]}"


class ModelSession:
    """One model at a time on one device.

    ``seconds`` counts the time that makes no images: ``load``, and ``warm_up`` (measuring the batch size, compiling).
    """

    def __init__(self, options: ControlNetOptions, near: str | None = None) -> None:
        self.options = options
        self._near = near
        self.sizes: BatchSizes = BatchSizes(options.batch_size)
        self.seconds: dict[str, float] = {"load": 0.0, "warm_up": 0.0}
        self._device: torch.device | None = None
        self._choice: ModelChoice | None = None
        self._model: tuple[DiffusionModel, Embeddings] | None = None
        self._warm: set[tuple[GenerationSettings, int]] = set()

    @property
    def device(self) -> torch.device:
        """Where images are made; raises UsageError if the device does not exist."""
        if self._device is None:
            self._device = resolve_device(self.options.device or self._near, local_rank())
        return self._device

    def default_dtype(self) -> str:
        """What the dtype "auto" means on this device."""
        return default_dtype(self.device)

    def load(self, choice: ModelChoice) -> bool:
        """Makes ``choice`` the model in use; True if it had to be loaded. Raises ModelError."""
        from escort_codec.regenerate.controlnet.loading import load
        from escort_codec.regenerate.controlnet.sampling import Embeddings

        if self._model is not None and self._choice == choice:
            return False
        self.close()
        begin = perf_counter()
        model = load(choice, self.device)
        if self.options.compile:
            model.compile()
        self._choice, self._model = choice, (model, Embeddings(model))
        self._log_time("load", begin, f"loaded {choice.model} in {choice.dtype} on {self.device}")
        return True

    def batch_size(self, settings: GenerationSettings) -> int:
        """How many images of these settings go into a batch, by what is known so far."""
        count = self.sizes.of(settings.size)
        if self.options.batch_size is None and self.device.type != "cuda":
            return min(ON_CPU, count)
        return count

    def run(self, settings: GenerationSettings, inputs: list[ModelInput]) -> tuple[NDArray[np.uint8], list[bool]]:
        """One batch: images, uint8 (B, H, W, 3) of generation size, and for each whether its values were finite.

        For compiled networks the batch is filled up, so that shapes repeat, and warmed up first.
        """
        from escort_codec.regenerate.controlnet import sampling

        model, embeddings = self._in_use()
        count = len(inputs)
        with model.many_shapes():
            if model.compiled:
                inputs = inputs + [inputs[-1]] * (self.batch_size(settings) - count)
                self._warm_up(settings, inputs)
            images, finite = sampling.decode(model, sampling.sample(model, embeddings, settings, inputs))
        return images[:count], finite[:count]

    def run_in_fp32(
        self, settings: GenerationSettings, model_input: ModelInput
    ) -> tuple[NDArray[np.uint8], list[bool]]:
        """Like ``run`` for one image, in fp32 with the same weights."""
        with self._in_use()[0].in_fp32():
            return self.run(settings, [model_input])

    def measure(self, settings: GenerationSettings, model_input: ModelInput) -> None:
        """Finds the largest batch of this generation size that fits, from batches of 1 and 2 for one step and one
        decoding. Runs on CUDA only, once per size, if no batch size was set."""
        if self.device.type != "cuda" or self.sizes.known(settings.size):
            return
        import torch

        from escort_codec.regenerate.controlnet import sampling

        model, embeddings = self._in_use()
        begin = perf_counter()
        before = torch.cuda.memory_allocated(self.device)

        def peak(count: int) -> int:
            torch.cuda.reset_peak_memory_stats(self.device)
            with model.not_compiled():  # no batch will have these two shapes
                sampling.warm_up(model, embeddings, settings, [model_input] * count)
            return torch.cuda.max_memory_allocated(self.device) - before

        try:
            self.free()
            count = largest_batch(peak, torch.cuda.mem_get_info(self.device)[0])
        except torch.OutOfMemoryError:
            count = 1
        self.free()
        self.sizes.measured(settings.size, count)
        self._log_time("warm_up", begin, f"batches of {self.batch_size(settings)} at {format_size(settings.size)}")

    def free(self) -> None:
        """Returns unused memory to the device."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()

    def close(self) -> None:
        """Frees the weights."""
        if self._model is not None:
            self._model[0].close()
        self._choice = self._model = None
        self._warm.clear()

    def _warm_up(self, settings: GenerationSettings, inputs: list[ModelInput]) -> None:
        """Compiles for a shape when it first occurs."""
        from escort_codec.regenerate.controlnet import sampling

        if (settings, len(inputs)) in self._warm:
            return
        begin = perf_counter()
        sampling.warm_up(*self._in_use(), settings, inputs)
        self._warm.add((settings, len(inputs)))
        self._log_time("warm_up", begin, f"compiled for {len(inputs)} images of {format_size(settings.size)}")

    def _in_use(self) -> tuple[DiffusionModel, Embeddings]:
        if self._model is None:
            raise RuntimeError("no model was loaded")
        return self._model

    def _log_time(self, purpose: str, begin: float, message: str) -> None:
        seconds = perf_counter() - begin
        self.seconds[purpose] += seconds
        log.info("%s (%.1f s)", message, seconds)


def resolve_device(name: str | None, local_rank: int = 0) -> torch.device:
    """``cpu``, ``cuda``, ``cuda:1``, ``mps`` ...; None or ``auto`` is the best available, ``cuda`` without a number
    this process's own. Raises UsageError for a device that does not exist."""
    import torch

    if name in (None, "auto"):
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as exc:
        raise UsageError("write auto, cpu, cuda, cuda:1 or mps", setting="device", value=name) from exc
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if device.index is None and count:
            device = torch.device("cuda", local_rank % count)
        if not torch.cuda.is_available() or device.index is None or device.index >= count:
            raise UsageError(f"no such device: PyTorch sees {count} CUDA devices", setting="device", value=name)
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("no such device on this machine", setting="device", value=name)
    return device


def default_dtype(device: torch.device) -> str:
    """What the dtype "auto" means: bf16 on a GPU that supports it, fp16 on older ones, fp32 elsewhere."""
    import torch

    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "fp32"
