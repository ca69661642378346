"""Batch normalisation over the batches of all processes.

GPUs use torch's ``SyncBatchNorm``, which does not run on CPUs: there ``BatchNormAcross`` takes its place. Several
processes that share a batch thus compute what one process computes from the whole batch, up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


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
    """``BatchNorm2d`` whose statistics in training are those of all processes' images together."""

    @classmethod
    def of(cls, plain: nn.BatchNorm2d) -> BatchNormAcross:
        """One with the weights and the statistics of ``plain``, shared and not copied."""
        across = cls(plain.num_features, plain.eps, plain.momentum, plain.affine, plain.track_running_stats)
        across.weight, across.bias = plain.weight, plain.bias
        across.running_mean, across.running_var = plain.running_mean, plain.running_var
        across.num_batches_tracked = plain.num_batches_tracked
        return across.train(plain.training)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) of this process, normalised."""
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
    """Makes every ``BatchNorm2d`` inside a network one over all processes, with the same weights and statistics.

    On GPUs it becomes torch's ``SyncBatchNorm``, on CPUs ``BatchNormAcross``. Those that are converted already stay.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                convert = nn.SyncBatchNorm.convert_sync_batchnorm if gpu else BatchNormAcross.of
                setattr(module, name, convert(child))
