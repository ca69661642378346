"""The base of all learners: how the network grows, what is minimised, what happens at a phase's end."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from escort_cil.networks import BackboneMaker, GrowingNet, IncrementalNet, Output
from escort_codec.registry import Registry
from escort_codec.settings import setting


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The hyperparameters of every method, with the paper's defaults; ``init_...`` is for the first phase."""

    init_epochs: int = setting(200, "Epochs of the first phase.", least=1)
    init_lr: float = setting(0.1, "Learning rate of the first phase.", least=0, most=1e30)
    init_milestones: tuple[int, ...] = setting((60, 120, 170), "Epochs at which the first phase's learning rate drops.")
    init_lr_decay: float = setting(0.1, "Factor at each milestone of the first phase.", least=0, most=1e30)
    init_weight_decay: float = setting(5e-4, "Weight decay of the first phase.", least=0, most=1e30)
    epochs: int = setting(170, "Epochs of each later phase.", least=1)
    lr: float = setting(0.1, "Learning rate of later phases.", least=0, most=1e30)
    milestones: tuple[int, ...] = setting((80, 120), "Epochs at which a later phase's learning rate drops.")
    lr_decay: float = setting(0.1, "Factor at each milestone of later phases.", least=0, most=1e30)
    weight_decay: float = setting(2e-4, "Weight decay of later phases.", least=0, most=1e30)
    scheduler: str = setting(
        "steplr", "steplr: the rate drops at milestones; cosine: it falls to min_lr.", choices=("steplr", "cosine")
    )
    min_lr: float = setting(0.0, "Learning rate in the end, with cosine.", least=0, most=1e30)
    momentum: float = setting(0.9, "Momentum of SGD.", least=0, most=1)
    batch_size: int = setting(128, "Images per optimiser step, over all devices.", least=1)

    def schedule(self, phase: int) -> Schedule:
        """The optimisation of a phase."""
        end = (self.scheduler, self.min_lr)
        if phase == 0:
            return Schedule(
                self.init_epochs, self.init_lr, self.init_milestones, self.init_lr_decay, self.init_weight_decay, *end
            )
        return Schedule(self.epochs, self.lr, self.milestones, self.lr_decay, self.weight_decay, *end)

    def with_own_milestones(self, given: Collection[str]) -> Any:
        """A copy whose milestones are scaled with the epochs, where epochs but no milestones are ``given``: the
        method's milestones belong to its own number of epochs."""
        moved: dict[str, Any] = {}
        own: dict[str, Any] = {field.name: field.default for field in fields(self)}
        for first in ("init_", ""):
            epochs, milestones = f"{first}epochs", f"{first}milestones"
            if epochs in given and milestones not in given:
                moved[milestones] = _scaled(own[milestones], getattr(self, epochs), own[epochs])
        return replace(self, **moved)

    def shortened(self, epochs: int) -> Any:
        """A copy with ``epochs`` epochs in every phase and the milestones scaled in proportion."""
        return replace(
            self,
            init_epochs=epochs,
            init_milestones=_scaled(self.init_milestones, epochs, self.init_epochs),
            epochs=epochs,
            milestones=_scaled(self.milestones, epochs, self.epochs),
        )


@dataclass(frozen=True, slots=True)
class Schedule:
    """Epochs, learning rate, milestones, factor at each, weight decay; steplr or cosine, which ends at ``min_lr``."""

    epochs: int
    lr: float
    milestones: tuple[int, ...]
    lr_decay: float
    weight_decay: float
    scheduler: str = "steplr"
    min_lr: float = 0.0

    def lr_at(self, epoch: int) -> float:
        """The learning rate of an epoch (0 ..)."""
        if self.scheduler == "cosine":
            return self.min_lr + (self.lr - self.min_lr) * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        return self.lr * math.prod(self.lr_decay for milestone in self.milestones if milestone <= epoch)


def _scaled(milestones: tuple[int, ...], epochs: int, before: int) -> tuple[int, ...]:
    return tuple(max(1, round(milestone * epochs / before)) for milestone in milestones)


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a phase's training, with an optimiser of its own.

    Without ``updates`` no weight changes: the learner only gets the gradients (``Learner.see_gradients``).
    """

    schedule: Schedule
    name: str = ""
    updates: bool = True


@dataclass(frozen=True, slots=True)
class PhaseItems:
    """What a learner knows of a phase's N items when it chooses some of them.

    ``labels`` (N,) are class numbers, int64. The first ``own`` items are the phase's images, the others are remembered.
    ``generator`` draws the same numbers for every stage of the phase. ``herd(n)`` gives the items, int64, that the
    memory's selection puts first, ``n`` of each new class, by the network's features as they are now.
    """

    labels: Tensor
    own: int
    generator: torch.Generator
    herd: Callable[[int], Tensor]

    @property
    def remembered(self) -> int:
        """The number of remembered items."""
        return len(self.labels) - self.own


class Learner:
    """One class-incremental method.

    A phase runs: ``begin_phase``; ``begin_training``; for each of its ``stages`` ``begin_stage``, then for each batch
    ``loss`` (in the modes that ``train_mode`` sets), and ``end_stage``; then ``end_training`` once, before evaluation,
    and ``end_phase`` after it. All but the loss are called on every process alike, and again if a run is resumed; but
    what ``end_stage`` does is part of the stage's last checkpoint. What a later phase needs is in ``network``, whose
    weights and buffers are saved. ``known`` and ``total`` count the classes before and after the phase's; ``network``
    is None before the first phase.
    """

    name: ClassVar[str]
    hyperparameters: ClassVar[type[Hyperparameters]] = Hyperparameters
    uses_memory: ClassVar[bool] = True
    sees_all: ClassVar[bool] = False
    """Whether it trains on the images of all phases so far (the upper bound)."""
    sees_features: ClassVar[bool] = False
    """Whether ``see_features`` is to be called."""
    grows: ClassVar[bool] = False
    """Whether each phase adds a part that makes features. Such a learner cannot run with a frozen backbone."""
    needs_stages: ClassVar[str] = ""
    """Why it needs a backbone with stages, such as "shares all stages but the last"; "" if it does not."""
    file_keys: ClassVar[Mapping[str, str]] = {}
    """PyCIL's keys for this method alone, and the hyperparameter that each sets."""

    def __init__(
        self, config: Hyperparameters, backbone: BackboneMaker, *, frozen: bool = False, backbone_rate: float = 1.0
    ) -> None:
        self.config = config
        self.backbone = backbone
        self.frozen = frozen
        self.backbone_rate = backbone_rate
        self.network: GrowingNet | None = None
        self.old_network: GrowingNet | None = None
        self.phase = -1
        self.known = 0
        self.total = 0

    def make_network(self) -> GrowingNet:
        """A network without classes."""
        return IncrementalNet(self.backbone)

    @property
    def reads_features(self) -> bool:
        """Whether the network's features of training images are needed."""
        return self.uses_memory or self.sees_all or self.sees_features

    @property
    def net(self) -> GrowingNet:
        """The network; it exists from the first ``begin_phase`` on."""
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
        """Freezes the weights that this phase does not train."""

    def train_mode(self) -> None:
        """Puts the network into training mode."""
        self.net.train()

    def freeze_backbone(self) -> None:
        """Freezes the parts that make features, in evaluation mode, if the backbone is ``frozen``."""
        if self.frozen:
            for part in self.net.extractors():
                part.requires_grad_(False).eval()

    def stages(self, phase: int) -> tuple[Stage, ...]:
        """The parts of a phase's training, in order; none if nothing is trained."""
        return (Stage(self.config.schedule(phase)),)

    def epochs(self, phase: int) -> int:
        """The epochs of a phase, over all stages."""
        return sum(stage.schedule.epochs for stage in self.stages(phase))

    def begin_training(self, labels: Tensor) -> None:
        """Gets the class numbers (N,) of the phase's items, before its first stage."""

    def items(self, stage: int, given: PhaseItems) -> Tensor | None:
        """The items that a stage trains on, int64; None: all. A stage without items is skipped."""
        return None

    def begin_stage(self, stage: int) -> None:
        """Prepares the network for a stage. It must not change weights: a resumed run calls this again."""

    def see_gradients(self) -> None:
        """Gets the gradients of a batch's loss in a stage that does not update."""

    def end_stage(self, stage: int) -> None:
        """Changes the network after a stage's last epoch."""

    def see_features(self, features: Tensor, labels: Tensor) -> None:
        """Gets features (N, D) and class numbers (N,) of the phase's images, after training. See ``sees_features``."""

    def loss(self, output: Output, images: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch: images float (B, 3, S, S), targets int64 (B,), class numbers."""
        return F.cross_entropy(output.logits, targets)

    def end_training(self) -> None:
        """Changes the network after the phase's training."""

    def end_phase(self) -> None:
        """Keeps what the next phase needs."""

    def keep_old_network(self) -> None:
        """Keeps a frozen copy of the network in evaluation mode as ``old_network``."""
        self.old_network = copy.deepcopy(self.net).requires_grad_(False).eval()

    @torch.no_grad()
    def old_logits(self, images: Tensor) -> Tensor:
        """The old network's logits (B, known)."""
        assert self.old_network is not None
        output: Output = self.old_network(images)
        return output.logits

    def distilled(self, output: Output, images: Tensor, targets: Tensor, temperature: float) -> Tensor:
        """(1 - k) cross-entropy + k distillation, k = old classes / all; in the first phase cross-entropy alone."""
        loss = F.cross_entropy(output.logits, targets)
        if self.old_network is None:
            return loss
        k = self.known / self.total
        return (1 - k) * loss + k * distillation(output.logits[:, : self.known], self.old_logits(images), temperature)


def distillation(logits: Tensor, old_logits: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of softened outputs (Hinton et al. 2015) without the factor T^2, as in PyCIL.

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
    """torch's random numbers come from ``seed`` in the block; afterwards they continue as if it had not run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


learners: Registry[type[Learner]] = Registry("learner")
