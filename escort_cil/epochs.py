"""The training loop: the epochs of one phase."""

from __future__ import annotations

import inspect
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from escort_cil.augment import Transform, augment
from escort_cil.data.base import Store
from escort_cil.data.images import Items
from escort_cil.devices import Devices
from escort_cil.learners import Learner
from escort_cil.networks import Output
from escort_cil.run.checkpoint import optimizer_tensors, restore_optimizer
from escort_codec.errors import TrainingError
from escort_codec.progress import Progress

log = logging.getLogger(__name__)


class PlainSGD(torch.optim.SGD):
    """torch's SGD without the wrappers for ``torch.compile``, which no run uses.

    The first wrapped call imports torch's compiler: a third of the time until training begins.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """What the training loop needs besides learner and items.

    A batch is computed in ``accumulation`` parts. ``track`` gets figures by name and the number of epochs done in the
    phase.
    """

    devices: Devices
    transform: Transform
    model_seed: int
    probability: float
    accumulation: int
    phases: int
    progress: Progress = field(default_factory=Progress)
    track: Callable[[Mapping[str, float], int], None] = lambda figures, epoch: None


def train_epochs(
    loop: LoopSettings,
    learner: Learner,
    store: Store,
    items: Items,
    *,
    stage: int = 0,
    done: int = 0,
    resumed: Mapping[str, Tensor] | None = None,
    epoch_ended: Callable[[int, Mapping[str, Tensor]], None] = lambda done, optimizer: None,
) -> None:
    """Trains the learner's network on items for the epochs of one of its stages, from epoch ``done`` of the phase on.

    SGD with the learning rate of ``Schedule.lr_at``. ``resumed`` holds the optimizer's state of a checkpoint;
    ``epoch_ended`` gets the number of epochs done in the phase, and this state. All processes go through the same
    batches, each computes its part. Raises TrainingError if the loss is not finite.
    """
    devices, config, phase = loop.devices, learner.config, learner.phase
    stages = learner.stages(phase)
    before = sum(each.schedule.epochs for each in stages[:stage])
    part, schedule = stages[stage], stages[stage].schedule
    network = learner.net
    place(devices, learner)
    model = devices.shared(network)
    sgd = PlainSGD(_groups(learner), schedule.lr, config.momentum, weight_decay=schedule.weight_decay)
    if resumed is not None:
        restore_optimizer(sgd, resumed)
    started, first = time.monotonic(), max(done, before)
    name = f"phase {phase + 1}/{loop.phases}" + (f", {part.name}" if part.name else "")
    loop.progress.begin(name, before + schedule.epochs - first, unit="epochs")
    for epoch in range(first, before + schedule.epochs):
        for group in sgd.param_groups:
            group["lr"] = group["scale"] * schedule.lr_at(epoch - before)
        learner.train_mode()
        learner.freeze_backbone()
        generator = make_generator(loop.model_seed, "epoch", phase, epoch)
        losses, hits = torch.zeros(2, dtype=torch.float64, device=devices.device)
        for batch in batches(len(items), config.batch_size, devices.world, generator):
            targets = items.labels[batch]
            ids = items.draw(batch, loop.probability, generator)
            mine = devices.part(len(batch))
            pixels, aspects = store.batch(ids, part=mine, pin_memory=devices.device.type == "cuda")
            if isinstance(pixels, Tensor):
                pixels = pixels.to(devices.device, non_blocking=True)
            targets = targets[mine].to(devices.device, non_blocking=True)
            images = augment(pixels, aspects, loop.transform, generator, part=mine, device=devices.device)
            images = images.contiguous(memory_format=torch.channels_last)
            count = min(loop.accumulation, len(images))
            parts = list(zip(images.chunk(count), targets.chunk(count), strict=True))
            for i, (inputs, truth) in enumerate(parts):
                with devices.unsynced(model, last=i == len(parts) - 1):
                    with devices.autocast():
                        output = _output(model, inputs, phase + 1)
                        loss = learner.loss(output, inputs, truth)
                    # Parts may be uneven: each counts by its images. Gradients are averaged over the processes.
                    devices.backward(loss * (len(inputs) * devices.world / len(batch)))
                losses += loss.detach() * len(inputs)
                hits += (output.logits.detach().argmax(dim=1) == truth).sum()
            if part.updates:
                devices.step(sgd)
            else:
                devices.inspect_gradients(sgd, learner.see_gradients)
        loss_sum, hit_sum = devices.total(torch.stack([losses, hits]))
        if not math.isfinite(loss_sum):
            raise TrainingError(
                f"phase {phase + 1}, epoch {epoch + 1}: the loss is {loss_sum}: lower the learning rate (`lr`)"
            )
        rate = (epoch + 1 - first) * len(items) / max(time.monotonic() - started, 1e-9)
        lr = schedule.lr_at(epoch - before)
        _report(loop, phase, epoch, learner.epochs(phase), lr, loss_sum / len(items), 100 * hit_sum / len(items), rate)
        if epoch + 1 == before + schedule.epochs:
            learner.end_stage(stage)
        epoch_ended(epoch + 1, optimizer_tensors(sgd))
    loop.progress.end()


def place(devices: Devices, learner: Learner) -> None:
    """Moves the learner's networks to the device."""
    devices.place(learner.net)
    if learner.old_network is not None:
        devices.place(learner.old_network)


def _groups(learner: Learner) -> list[dict[str, Any]]:
    """The optimizer's parameter groups; ``scale`` is a group's factor of the learning rate."""
    weights = [weight for weight in learner.net.parameters() if weight.requires_grad]
    if learner.backbone_rate == 1:
        return [{"params": weights, "scale": 1.0}]
    slow = {id(weight) for part in learner.net.extractors() for weight in part.parameters()}
    groups = [
        {"params": [weight for weight in weights if id(weight) in slow], "scale": learner.backbone_rate},
        {"params": [weight for weight in weights if id(weight) not in slow], "scale": 1.0},
    ]
    return [group for group in groups if group["params"]]


def _report(
    loop: LoopSettings, phase: int, epoch: int, epochs: int, lr: float, loss: float, accuracy: float, rate: float
) -> None:
    """Reports an epoch: mean loss, accuracy on the training images in per cent, images per second."""
    facts = f"loss {loss:.4f}, accuracy {accuracy:.1f} %, lr {lr:g}, {rate:.0f} images/s"
    if loop.devices.is_main:
        log.debug("phase %d epoch %d/%d: %s", phase + 1, epoch + 1, epochs, facts)
    loop.progress.advance(note=facts)
    figures = {"loss": loss, "accuracy": accuracy, "lr": lr, "images_per_second": rate}
    loop.track({f"train/{name}": value for name, value in figures.items()}, epoch + 1)


def _output(model: torch.nn.Module, inputs: Tensor, phase: int) -> Output:
    """The network's output; raises TrainingError if batch normalisation fails on a single image."""
    try:
        output: Output = model(inputs)
    except ValueError as exc:
        if "more than 1 value per channel" not in str(exc):
            raise
        raise TrainingError(
            f"phase {phase}: a batch of one image cannot be used, as batch normalisation needs two: give more images "
            "per phase (`increment`), or fewer parts per batch (`gradient_accumulation`)"
        ) from exc
    return output


def batches(count: int, size: int, world: int, generator: torch.Generator) -> Iterator[Tensor]:
    """A random order of ``count`` items in batches of ``size``, int64.

    A last batch that has one image (batch normalisation needs two) or would leave a process without images is merged
    into the one before.
    """
    order = torch.randperm(count, generator=generator)
    ends = [*range(size, count, size), count]
    if len(ends) > 1 and ends[-1] - ends[-2] < max(2, world):
        del ends[-2]
    start = 0
    for end in ends:
        yield order[start:end]
        start = end


Purpose = Literal["weights", "epoch", "selection", "items"]
_CODES: Final[dict[Purpose, int]] = {"weights": 0, "epoch": 1, "selection": 2, "items": 3}


def derived_seed(model_seed: int, purpose: Purpose, *place: int) -> int:
    """A seed of 32 bits for one purpose at one place, such as a phase and an epoch."""
    sequence = np.random.SeedSequence([model_seed, _CODES[purpose], *place])
    return int(sequence.generate_state(1)[0])


def make_generator(model_seed: int, purpose: Purpose, *place: int) -> torch.Generator:
    """A generator on the CPU from ``derived_seed``."""
    return torch.Generator().manual_seed(derived_seed(model_seed, purpose, *place))
