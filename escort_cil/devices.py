"""The device of a training process, its precision, and what the processes of a run share."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from escort_codec.errors import ConfigError
from escort_codec.processes import join, leave, local_rank, local_world


class _Sum(torch.autograd.Function):
    """The sum over all processes; the gradient is summed likewise."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        torch.distributed.all_reduce(total)
        return total


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of a tensor over all processes, with gradients."""
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


class BatchNormAcross(nn.BatchNorm2d):
    """``BatchNorm2d`` whose statistics in training are those of all processes' images together.

    For CPUs, on which torch's ``SyncBatchNorm`` does not run: several processes that share a batch compute what one
    process computes from the whole batch, up to rounding.
    """

    @classmethod
    def of(cls, plain: nn.BatchNorm2d) -> BatchNormAcross:
        """A layer that shares the weights and statistics of ``plain``."""
        across = cls(plain.num_features, plain.eps, plain.momentum, plain.affine, plain.track_running_stats)
        across.weight, across.bias = plain.weight, plain.bias
        across.running_mean, across.running_var = plain.running_mean, plain.running_var
        across.num_batches_tracked = plain.num_batches_tracked
        return across.train(plain.training)

    def forward(self, images: Tensor) -> Tensor:
        """Normalises this process's images (B, C, H, W)."""
        if not self.training:
            return super().forward(images)
        x = images.float()
        size = torch.full((1,), x.numel() / x.shape[1], device=x.device)
        sums = sum_over_processes(torch.cat([x.sum((0, 2, 3)), size]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = x - mean[:, None, None]
        variance = sum_over_processes(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(images.dtype)


def normalise_across(network: nn.Module, *, gpu: bool) -> None:
    """Replaces every ``BatchNorm2d`` in a network by one over all processes, with the same weights and statistics.

    On GPUs it is torch's ``SyncBatchNorm``, on CPUs ``BatchNormAcross``. Already replaced layers stay.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                convert = nn.SyncBatchNorm.convert_sync_batchnorm if gpu else BatchNormAcross.of
                setattr(module, name, convert(child))


class Devices:
    """One process's device and its place among the others.

    ``device``: "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N". ``precision``: "no", "bf16" or "fp16".
    ``torchrun`` or ``accelerate launch`` starts several processes; all go through the same batches, each computes its
    part.
    Raises ConfigError for a device that does not exist.
    """

    def __init__(self, device: str = "auto", precision: str = "no") -> None:
        cuda = torch.cuda.is_available()
        if device not in ("auto", "cpu") and not (device.startswith("cuda") and cuda):
            why = "write auto, cpu or cuda:N" if cuda or not device.startswith("cuda") else "there is no GPU"
            raise ConfigError(why, setting="device", value=device)
        on_gpu = cuda and device != "cpu"
        if precision == "fp16" and not on_gpu:
            raise ConfigError("fp16 needs a GPU: take bf16 or no", setting="mixed_precision", value=precision)
        if precision == "bf16" and on_gpu and not torch.cuda.is_bf16_supported():
            raise ConfigError("this GPU has no bf16: take fp16 or no", setting="mixed_precision", value=precision)
        self.processes = join("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
        self.rank, self.world, self.is_main = self.processes.rank, self.processes.world, self.processes.first
        self.here = local_world(self.world)
        if self.world > 1 and on_gpu:  # NCCL requires it; with gloo, closing its threads at exit can abort the process
            atexit.register(leave)
        number = f"cuda:{local_rank()}" if self.world > 1 or device in ("auto", "cuda") else device
        try:
            self.device = torch.device(number if on_gpu else "cpu")
            torch.empty(1, device=self.device)
        except RuntimeError as exc:
            raise ConfigError("there is no such GPU", setting="device", value=device) from exc
        if on_gpu:
            torch.cuda.set_device(self.device)
        self._chosen = device != "auto"
        self._dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")

    def __str__(self) -> str:
        each = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)
        return each if self.world == 1 else f"{self.world} x {each}"

    @property
    def chosen(self) -> str | None:
        """The device if the user chose one, None for "auto"."""
        return str(self.device) if self._chosen else None

    def place(self, network: nn.Module) -> nn.Module:
        """Moves a network to the device, in the memory format that is fastest there.

        With several processes, batch normalisation covers the images of all of them.
        """
        if self.world > 1:
            normalise_across(network, gpu=self.device.type == "cuda")
        placed: nn.Module = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed

    def shared(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over all processes; with one process the network itself."""
        if self.world == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=devices)

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss, scaled in fp16."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """One step with the gradients, unscaled in fp16, which are then cleared."""
        self._scaler.step(optimizer)
        self._scaler.update()
        optimizer.zero_grad()

    def inspect_gradients(self, optimizer: torch.optim.Optimizer, see: Callable[[], None]) -> None:
        """Calls ``see`` when the gradients are unscaled, unless they overflowed in fp16; then clears them."""
        self._scaler.unscale_(optimizer)
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        enabled = self._scaler.is_enabled()
        if not enabled or all(bool(w.grad.isfinite().all()) for w in weights if w.grad is not None):
            see()
        self._scaler.update()
        optimizer.zero_grad()

    def autocast(self) -> AbstractContextManager[Any]:
        """A block with mixed precision."""
        return nullcontext() if self._dtype is None else torch.autocast(self.device.type, self._dtype)

    def unsynced(self, network: nn.Module, last: bool) -> AbstractContextManager[None]:
        """A block in which gradients are not averaged over processes, unless this is the ``last`` part of a batch."""
        if last or not isinstance(network, DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[None] = network.no_sync()
        return context

    def part(self, count: int) -> slice:
        """This process's share of ``count`` items."""
        return slice(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def joined(self, mine: Tensor) -> Tensor:
        """All processes' rows, rank by rank, on every process: the inverse of ``part``."""
        if self.world == 1:
            return mine
        parts = self.processes.gather(mine.cpu())
        return self.processes.from_first(lambda: torch.cat(parts))

    def total(self, values: Tensor) -> list[float]:
        """The sums of numbers over all processes."""
        if self.world > 1:
            torch.distributed.all_reduce(values)
        return [float(value) for value in values.tolist()]
