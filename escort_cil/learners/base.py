"""What a learner is: how the network grows, what is minimised, what happens at a phase's end. The rest is the
trainer's.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from escort_cil.networks import BackboneMaker, GrowingNet, IncrementalNet, Output
from escort_codec.errors import ConfigError
from escort_codec.registry import Registry


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What every method has; the defaults are the paper's. ``init_...`` is for the first phase.

    SGD with momentum; the learning rate is multiplied by ``lr_decay`` at each milestone (an epoch). ``batch_size``
    counts images an optimiser step, over all devices.
    """

    init_epochs: int = 200
    init_lr: float = 0.1
    init_milestones: tuple[int, ...] = (60, 120, 170)
    init_lr_decay: float = 0.1
    init_weight_decay: float = 5e-4
    epochs: int = 170
    lr: float = 0.1
    milestones: tuple[int, ...] = (80, 120)
    lr_decay: float = 0.1
    weight_decay: float = 2e-4
    momentum: float = 0.9
    batch_size: int = 128

    def schedule(self, phase: int) -> Schedule:
        """The optimisation of a phase."""
        if phase == 0:
            return Schedule(
                self.init_epochs, self.init_lr, self.init_milestones, self.init_lr_decay, self.init_weight_decay
            )
        return Schedule(self.epochs, self.lr, self.milestones, self.lr_decay, self.weight_decay)

    def shortened(self, epochs: int) -> Any:
        """The same with ``epochs`` epochs in every phase and the milestones moved in proportion."""
        return replace(
            self,
            init_epochs=epochs,
            init_milestones=_scaled(self.init_milestones, epochs, self.init_epochs),
            epochs=epochs,
            milestones=_scaled(self.milestones, epochs, self.epochs),
        )


@dataclass(frozen=True, slots=True)
class Schedule:
    """Epochs, learning rate, milestones, factor at each, weight decay."""

    epochs: int
    lr: float
    milestones: tuple[int, ...]
    lr_decay: float
    weight_decay: float

    def lr_at(self, epoch: int) -> float:
        """The learning rate of an epoch (0 ..)."""
        return self.lr * math.prod(self.lr_decay for milestone in self.milestones if milestone <= epoch)


def _scaled(milestones: tuple[int, ...], epochs: int, before: int) -> tuple[int, ...]:
    return tuple(max(1, round(milestone * epochs / before)) for milestone in milestones)


class Learner:
    """One class-incremental method.

    A phase runs: ``begin_phase``, then for each batch ``loss`` (in the modes that ``train_mode`` sets), then
    ``end_training`` once, before evaluation, and ``end_phase`` after it. ``known`` and ``total`` count the classes
    before and after the phase's; ``network`` is None before the first phase.
    """

    name: ClassVar[str]
    hyperparameters: ClassVar[type[Hyperparameters]] = Hyperparameters
    uses_memory: ClassVar[bool] = True
    sees_all: ClassVar[bool] = False
    """Whether the images of all phases so far are shown (the upper bound)."""

    def __init__(self, config: Hyperparameters, backbone: BackboneMaker) -> None:
        self.config = config
        self.backbone = backbone
        self.network: GrowingNet | None = None
        self.old_network: GrowingNet | None = None
        self.phase = -1
        self.known = 0
        self.total = 0

    def make_network(self) -> GrowingNet:
        """A network without classes."""
        return IncrementalNet(self.backbone)

    @property
    def net(self) -> GrowingNet:
        """The network; there is one after the first ``begin_phase``."""
        assert self.network is not None
        return self.network

    def begin_phase(self, new: int, seed: int) -> None:
        """Grows the network by ``new`` classes with weights drawn from ``seed``."""
        self.phase += 1
        self.known, self.total = self.total, self.total + new
        with seeded(seed):
            if self.network is None:
                self.network = self.make_network()
            self.network.grow(new)
        self.freeze()

    def freeze(self) -> None:
        """Says which weights are not trained in this phase."""

    def train_mode(self) -> None:
        """Puts the network into training mode."""
        self.net.train()

    def loss(self, output: Output, images: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch: images float (B, 3, S, S), targets int64 (B,), class numbers."""
        return F.cross_entropy(output.logits, targets)

    def end_training(self) -> None:
        """What is done to the network once the phase's training is over."""

    def end_phase(self) -> None:
        """What is kept for the next phase."""

    def keep_old_network(self) -> None:
        """Keeps a frozen copy of the network in evaluation mode as ``old_network``."""
        self.old_network = copy.deepcopy(self.net).requires_grad_(False).eval()

    @torch.no_grad()
    def old_logits(self, images: Tensor) -> Tensor:
        """The old network's logits (B, known)."""
        assert self.old_network is not None
        output: Output = self.old_network(images)
        return output.logits


def distillation(logits: Tensor, old_logits: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of softened outputs (Hinton et al. 2015) without the factor T^2, as PyCIL has it.

    Both (B, known); the mean over the batch.
    """
    log_p = F.log_softmax(logits / temperature, dim=1)
    q = F.softmax(old_logits / temperature, dim=1)
    return -(q * log_p).sum(dim=1).mean()


def auxiliary_targets(targets: Tensor, known: int) -> Tensor:
    """Class numbers for DER's and MEMO's auxiliary head: 0 for any old class, 1 .. for the new ones."""
    return (targets - known + 1).clamp(min=0)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's random numbers from ``seed`` inside, and as they were after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def with_options(kind: type[Hyperparameters], options: Mapping[str, object]) -> Hyperparameters:
    """A method's hyperparameters with some overridden; raises ConfigError naming the nearest for an unknown one.

    A value may be text as typed on a command line: ``2``, ``0.5``, ``true``, ``80,120``.
    """
    known = {field.name: field for field in fields(kind)}
    values: dict[str, Any] = {}
    for key, value in options.items():
        if key not in known:
            raise ConfigError(unknown(f"the method's option {key!r}", key, known))
        default = getattr(kind(), key)
        values[key] = _converted(key, value, default)
    return kind(**values)


def unknown(what: str, key: str, known: Mapping[str, object]) -> str:
    """'... is not known; did you mean ...?'"""
    import difflib

    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known))}"
    return f"{what} is not known; {hint}"


def _converted(key: str, value: object, default: object) -> Any:
    try:
        if isinstance(default, bool):
            if isinstance(value, bool):
                return value
            return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        if isinstance(default, tuple):
            parts = [part for part in value.split(",") if part] if isinstance(value, str) else list(value)  # type: ignore[call-overload]
            return tuple(int(part) for part in parts)
        if isinstance(default, int):
            number = float(value)  # type: ignore[arg-type]
            if number != int(number) or number < 1:
                raise ValueError
            return int(number)
        if isinstance(default, float):
            number = float(value)  # type: ignore[arg-type]
            if not (math.isfinite(number) and number >= 0):
                raise ValueError
            return number
        return str(value)
    except (TypeError, ValueError, KeyError) as exc:
        example = {bool: "true or false", tuple: "whole numbers as in 80,120", int: "a whole number of at least 1"}
        wanted = example.get(type(default), "a number of at least 0")
        raise ConfigError(f"the method's option {key!r} cannot be {value!r}: give {wanted}") from exc


learners: Registry[type[Learner]] = Registry("learner")
