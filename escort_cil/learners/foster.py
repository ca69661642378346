"""FOSTER, feature boosting and compression (Wang et al. 2022), as PyCIL runs it.

Each phase after the first adds a second backbone beside the frozen old one. The first stage (boosting) trains this
teacher; the second (compression) distils it into a student of one backbone, with which the next phase begins. As in
PyCIL the teacher is evaluated and selects the memory (the paper's FOSTER B4); ``evaluated`` student is the paper's
FOSTER.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from escort_cil.learners.base import Hyperparameters, Learner, Stage, distillation
from escort_cil.networks import BackboneListNet, BackboneMaker, GrowingNet, Head, Output
from escort_codec.settings import setting


@dataclass(frozen=True, slots=True)
class FosterHyperparameters(Hyperparameters):
    """FOSTER's own settings."""

    weight_decay: float = 5e-4
    scheduler: str = "cosine"
    compression_epochs: int = setting(130, "Epochs of the second stage, which makes one network of two.", least=1)
    beta1: float = setting(0.96, "How the first stage's class weights follow from counts: (1 - b) / (1 - b^n).", most=1)
    beta2: float = setting(0.97, "The same in the second stage.", most=1)
    temperature: float = setting(2.0, "Softens both sides of the distillation.", least=0)
    distillation_weight: float = setting(1.0, "Weight of the old classes' distillation.", least=0)
    new_on_old: str = setting(
        "ft", "Weights of new classes on old features: ft trains them, az keeps them zero.", choices=("ft", "az")
    )
    align_teacher: bool = setting(False, "Scale the teacher's new weights to the old ones' norm.")
    align_student: bool = setting(False, "Scale the student's new weights to the old ones' norm.")
    align_value: float = setting(1.0, "Base of a factor of that scale: value^(old / new classes).", least=0)
    evaluated: str = setting("teacher", "Which is evaluated: teacher or student.", choices=("teacher", "student"))

    def shortened(self, epochs: int) -> Any:
        """See ``Hyperparameters``; the second stage is scaled likewise."""
        after = max(1, round(self.compression_epochs * epochs / self.epochs))
        return replace(Hyperparameters.shortened(self, epochs), compression_epochs=after)


class FosterNet(BackboneListNet):
    """The old and the new backbone under one head (the teacher), and the student.

    ``aux`` classifies with the new backbone alone; ``old_head`` is the head before the phase. ``shows_student`` selects
    whose output the network gives: that of the stage in training, else that of the one to be ``evaluated``.
    """

    old_head: Head

    def __init__(self, backbone: BackboneMaker, evaluated: str = "teacher") -> None:
        super().__init__(backbone)
        self.student: nn.ModuleDict | None = None
        self.evaluated = evaluated
        self.shows_student = False

    def grow(self, new: int) -> None:
        """Adds classes. The student of the phase before, if there is one, becomes the old backbone."""
        if self.student is not None:
            self.parts, self.head = nn.ModuleList([self.student["body"]]), self.student["head"]  # type: ignore[assignment]
            self.student = None
        self.shows_student = False
        first = self.classes == 0
        if not first:
            self.old_head = self.head
        super().grow(new)
        if not first:
            # The first stage does not change the old backbone and head: the student can start from them now.
            body = self._backbone()
            body.load_state_dict(self.parts[0].state_dict())
            head = Head(self.part_dim, self.classes)
            head.copy_from(self.old_head)
            self.student = nn.ModuleDict({"body": body, "head": head})
        self.show_evaluated()

    def show_evaluated(self) -> None:
        """Makes the network give the output to be evaluated."""
        self.shows_student = self.evaluated == "student" and self.student is not None

    def extractors(self) -> Iterator[nn.Module]:
        """The backbones, and the student's."""
        yield from super().extractors()
        if self.student is not None:
            yield self.student["body"]

    def _add(self, part: nn.Module, new: int) -> None:
        super()._add(part, new)
        if len(self.parts) > 1:
            self.aux = Head(self.part_dim, self.classes + new)

    @property
    def feature_dim(self) -> int:
        """Features of the network whose output is given."""
        return self.part_dim if self.shows_student else self.part_dim * len(self.parts)

    def forward(self, images: Tensor) -> Output:
        """The teacher's output, or the student's."""
        if not self.shows_student:
            return super().forward(images)
        assert self.student is not None
        features = self.student["body"](images)
        return Output(features, self.student["head"](features))

    @torch.no_grad()
    def teacher_logits(self, images: Tensor) -> Tensor:
        """The teacher's logits (B, classes)."""
        logits: Tensor = self.head(self.features(images))
        return logits

    @torch.no_grad()
    def old_logits(self, features: Tensor) -> Tensor:
        """The old head's logits (B, known) of the teacher's features (B, 2 D)."""
        logits: Tensor = self.old_head(features[:, : self.part_dim])
        return logits


class Foster(Learner):
    """Boosting: cross-entropy of the logits divided by class weights + cross-entropy of the new backbone alone +
    distillation of the old classes. Compression: distillation of the teacher, its softened output times class weights.
    """

    name = "foster"
    hyperparameters = FosterHyperparameters
    grows = True
    file_keys: ClassVar[Mapping[str, str]] = {
        "beta1": "beta1",
        "beta2": "beta2",
        "oofc": "new_on_old",
        "is_teacher_wa": "align_teacher",
        "is_student_wa": "align_student",
        "wa_value": "align_value",
        "lambda_okd": "distillation_weight",
        "init_epochs": "init_epochs",
        "boosting_epochs": "epochs",
        "compression_epochs": "compression_epochs",
        "lr": "lr",
    }
    config: FosterHyperparameters

    def __init__(self, config: FosterHyperparameters, backbone: BackboneMaker, **more: Any) -> None:
        super().__init__(config, backbone, **more)
        self._counts = torch.zeros(0)
        self._weights = torch.zeros(0)
        self._stage = 0

    def make_network(self) -> GrowingNet:
        """A network of one backbone."""
        return FosterNet(self.backbone, self.config.evaluated)

    def stages(self, phase: int) -> tuple[Stage, ...]:
        """Training in the first phase; then boosting, and compression without weight decay."""
        training = self.config.schedule(phase)
        if phase == 0:
            return (Stage(training),)
        compression = replace(training, epochs=self.config.compression_epochs, weight_decay=0.0)
        return (Stage(training, "boosting"), Stage(compression, "compression"))

    def begin_training(self, labels: Tensor) -> None:
        """Counts the images of each class; with ``new_on_old`` az keeps new classes' weights on old features zero."""
        self._counts = torch.bincount(labels, minlength=self.total).double()
        if self.known and self.config.new_on_old == "az":
            weight, block = self._net.head.weight, (slice(self.known, None), slice(self._net.part_dim))
            with torch.no_grad():
                weight[block] = 0
            mask = torch.ones_like(weight)
            mask[block] = 0
            weight.register_hook(lambda gradient: gradient * mask)  # type: ignore[no-untyped-call]

    def begin_stage(self, stage: int) -> None:
        """Boosting trains the new backbone and the heads, compression only the student."""
        self._stage = stage
        net, beta = self._net, self.config.beta2 if stage else self.config.beta1
        self._weights = class_weights(self._counts, beta).to(next(net.parameters()).device)
        net.shows_student = bool(stage)
        net.requires_grad_(not stage)
        if net.student is not None:
            net.student.requires_grad_(bool(stage))
            net.old_head.requires_grad_(False)
            net.freeze_old_parts()

    def train_mode(self) -> None:
        """Frozen parts stay in evaluation mode."""
        net = self._net
        if self._stage and net.student is not None:
            net.eval()
            net.student.train()
        else:
            net.train_newest()

    def loss(self, output: Output, images: Tensor, targets: Tensor) -> Tensor:
        """See the class."""
        c, net = self.config, self._net
        if not self.known:
            return F.cross_entropy(output.logits, targets)
        if self._stage:
            soft = F.softmax(net.teacher_logits(images) / c.temperature, dim=1) * self._weights
            soft = soft / soft.sum(dim=1, keepdim=True)
            return -(soft * F.log_softmax(output.logits / c.temperature, dim=1)).sum(dim=1).mean()
        assert output.aux is not None
        loss = F.cross_entropy(output.logits / self._weights, targets) + F.cross_entropy(output.aux, targets)
        old = net.old_logits(output.features)
        return loss + c.distillation_weight * distillation(output.logits[:, : self.known], old, c.temperature)

    def end_stage(self, stage: int) -> None:
        """Aligns weights, if set."""
        c, net, new = self.config, self._net, self.total - self.known
        if not self.known:
            return
        head = net.head
        if stage:
            assert net.student is not None
            head = net.student["head"]  # type: ignore[assignment]
        if c.align_student if stage else c.align_teacher:
            head.align(new, c.align_value ** (self.known / new))

    def end_training(self) -> None:
        """Selects the network to evaluate."""
        self._net.show_evaluated()

    @property
    def _net(self) -> FosterNet:
        assert isinstance(self.network, FosterNet)
        return self.network


def class_weights(counts: Tensor, beta: float) -> Tensor:
    """(1 - beta) / (1 - beta^n) of classes with ``counts`` n (C,) of images, with mean 1: float32 (C,)."""
    weights = (1 - beta) / (1 - beta ** counts.clamp(min=1))
    return (weights / weights.mean()).float()
