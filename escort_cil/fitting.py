"""The training loop of one phase."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from escort_cil.augment import Transform, augment
from escort_cil.data.items import Items
from escort_cil.data.store import ImageStore
from escort_cil.events import EpochEnded, Report
from escort_cil.learners import Learner
from escort_cil.networks import Output
from escort_cil.processes import Devices
from escort_cil.run.checkpoint import optimizer_tensors, restore_optimizer
from escort_cil.run.seeds import generator
from escort_codec.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Fitting:
    """What the loop needs to know beside the learner and the items."""

    devices: Devices
    transform: Transform
    model_seed: int
    probability: float
    accumulation: int
    phases: int
    report: Report


def fit(
    fitting: Fitting,
    learner: Learner,
    store: ImageStore,
    items: Items,
    *,
    done: int = 0,
    resumed: Mapping[str, Tensor] | None = None,
    epoch_ended: Callable[[int, Mapping[str, Tensor]], None] = lambda done, optimizer: None,
) -> None:
    """Trains the learner's network on items for the epochs of its schedule, from epoch ``done`` on.

    SGD; the learning rate is that of ``Schedule.lr_at``. ``resumed`` holds the optimizer's state where a checkpoint is
    gone on from; ``epoch_ended`` gets the number of epochs done and that state. Every process goes through the same
    batches and takes its part of each. Raises TrainingError where the loss is no number.
    """
    devices, config = fitting.devices, learner.config
    schedule = config.schedule(learner.phase)
    network = learner.net
    devices.place(network)
    if learner.old_network is not None:
        devices.place(learner.old_network)
    model = devices.shared(network)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    sgd = torch.optim.SGD(weights, schedule.lr, config.momentum, weight_decay=schedule.weight_decay)
    if resumed is not None:
        restore_optimizer(sgd, resumed)
    optimizer = devices.optimizer(sgd)
    started, first = time.monotonic(), done
    for epoch in range(done, schedule.epochs):
        for group in sgd.param_groups:
            group["lr"] = schedule.lr_at(epoch)
        learner.train_mode()
        numbers = generator(fitting.model_seed, "epoch", learner.phase, epoch)
        losses, hits = torch.zeros(2, dtype=torch.float64, device=devices.device)
        for batch in batches(len(items), config.batch_size, devices.world, numbers):
            targets = items.labels[batch]
            ids = items.draw(batch, fitting.probability, numbers)
            mine = devices.part(len(batch))
            pixels, aspects = store.batch(ids, part=mine, pin_memory=devices.device.type == "cuda")
            pixels = pixels.to(devices.device, non_blocking=True)
            targets = targets[mine].to(devices.device, non_blocking=True)
            images = augment(pixels, aspects, fitting.transform, numbers, part=mine)
            images = images.contiguous(memory_format=torch.channels_last)
            parts = list(zip(images.chunk(fitting.accumulation), targets.chunk(fitting.accumulation), strict=True))
            for i, (inputs, truth) in enumerate(parts):
                with devices.unsynced(model, last=i == len(parts) - 1):
                    with devices.autocast():
                        output = _output(model, inputs, learner.phase + 1)
                        loss = learner.loss(output, inputs, truth)
                    # Parts may be uneven: each counts by its images. Gradients are averaged over the processes.
                    devices.backward(loss * (len(inputs) * devices.world / len(batch)))
                losses += loss.detach() * len(inputs)
                hits += (output.logits.detach().argmax(dim=1) == truth).sum()
            optimizer.step()
            optimizer.zero_grad()
        loss_sum, hit_sum = devices.total(torch.stack([losses, hits]))
        if not math.isfinite(loss_sum):
            raise TrainingError(
                f"phase {learner.phase + 1}, epoch {epoch + 1}: the loss is {loss_sum}: lower the learning rate (--lr)"
            )
        seconds = time.monotonic() - started
        rate = (epoch + 1 - first) * len(items) / max(seconds, 1e-9)
        fitting.report(
            EpochEnded(
                learner.phase,
                fitting.phases,
                epoch,
                schedule.epochs,
                loss_sum / len(items),
                100 * hit_sum / len(items),
                schedule.lr_at(epoch),
                rate,
                (schedule.epochs - epoch - 1) * len(items) / rate,
            )
        )
        epoch_ended(epoch + 1, optimizer_tensors(sgd))


def _output(model: torch.nn.Module, inputs: Tensor, phase: int) -> Output:
    """What the network says; raises TrainingError where batch normalisation can make nothing of a single image."""
    try:
        output: Output = model(inputs)
    except ValueError as exc:
        if "more than 1 value per channel" not in str(exc):
            raise
        raise TrainingError(
            f"phase {phase}: one image alone cannot be trained on, as batch normalisation needs two: give more images "
            "a phase (--increment), or fewer parts a batch (--gradient-accumulation)"
        ) from exc
    return output


def batches(count: int, size: int, world: int, numbers: torch.Generator) -> Iterator[Tensor]:
    """A random order of ``count`` items in batches of ``size``, int64.

    A last batch of one image, of which batch normalisation can make nothing, or one that would leave a process without
    any, joins the one before.
    """
    order = torch.randperm(count, generator=numbers)
    ends = [*range(size, count, size), count]
    if len(ends) > 1 and ends[-1] - ends[-2] < max(2, world):
        del ends[-2]
    start = 0
    for end in ends:
        yield order[start:end]
        start = end
