"""Networks whose classes grow: one backbone and one head (iCaRL, WA), a backbone per phase (DER), a last stage per
phase (MEMO). Arithmetic as in PyCIL, so that the same weights give the same logits.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from escort_cil.networks.backbones import BackboneMaker


class Output(NamedTuple):
    """A network's output for B images: features (B, D), logits (B, classes), and what else its learner needs (such as
    auxiliary logits (B, new + 1)), or None."""

    features: Tensor
    logits: Tensor
    aux: Tensor | None = None


class Head(nn.Module):
    """A linear classifier: weight (classes, D) uniform with variance 1 / D, bias (classes,) zero."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, features))
        self.bias = nn.Parameter(torch.zeros(classes))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="linear")

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, classes) of features (B, D)."""
        return F.linear(features, self.weight, self.bias)

    @torch.no_grad()
    def copy_from(self, old: Head) -> None:
        """Copies the weights of the old head's classes and features; new ones stay unchanged."""
        classes, features = old.weight.shape
        self.weight[:classes, :features] = old.weight
        self.bias[:classes] = old.bias

    @torch.no_grad()
    def align(self, new: int, times: float = 1.0) -> float:
        """Scales the last ``new`` classes' weight vectors to ``times`` the mean norm of the others' (WA, section 3.3).

        Returns the factor. Biases stay as they are.
        """
        norms = self.weight.norm(dim=1)
        gamma = times * norms[:-new].mean() / norms[-new:].mean()
        self.weight[-new:] *= gamma
        return float(gamma)


class GrowingNet(nn.Module, ABC):
    """A network whose classes grow phase by phase; the first ``grow`` makes its parts."""

    head: Head

    def __init__(self, backbone: BackboneMaker) -> None:
        super().__init__()
        self._backbone = backbone
        self.classes = 0

    def __deepcopy__(self, memo: dict[int, object]) -> GrowingNet:
        twin = type(self)(self._backbone)
        memo[id(self)] = twin
        for key, value in self.__dict__.items():
            twin.__dict__[key] = value if key == "_backbone" else copy.deepcopy(value, memo)
        return twin

    @property
    def stored_bytes(self) -> int:
        """Bytes of all its tensors, as model.safetensors holds them."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.state_dict().values())

    @property
    @abstractmethod
    def feature_dim(self) -> int:
        """Features that the head sees."""

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Features (B, feature_dim) of images (B, 3, S, S)."""

    def extractors(self) -> Iterator[nn.Module]:
        """The parts that make features: backbones and stages. All other weights belong to classifiers."""
        yield from (child for name, child in self.named_children() if name != "head")

    def forward(self, images: Tensor) -> Output:
        """Features and logits of images (B, 3, S, S)."""
        features = self.features(images)
        return Output(features, self.classify(features), self._aux(features))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B, classes) of features (B, feature_dim)."""
        logits: Tensor = self.head(features)
        return logits

    def _aux(self, features: Tensor) -> Tensor | None:
        return None

    def grow(self, new: int) -> None:
        """Adds ``new`` classes with weights from torch's random numbers; old weights stay."""
        self._expand(new)
        self.classes += new
        self._grow_head(new)

    def _grow_head(self, new: int) -> None:
        head = Head(self.feature_dim, self.classes)
        if self.classes > new:
            head.copy_from(self.head)
        self.head = head

    @abstractmethod
    def _expand(self, new: int) -> None:
        """Makes or adds a feature extractor."""


class IncrementalNet(GrowingNet):
    """One backbone under one head."""

    body: nn.Module

    @property
    def feature_dim(self) -> int:
        """The backbone's."""
        return int(self.body.feature_dim)  # type: ignore[arg-type]

    def features(self, images: Tensor) -> Tensor:
        """The backbone's features."""
        features: Tensor = self.body(images)
        return features

    def extractors(self) -> Iterator[nn.Module]:
        """The backbone."""
        yield self.body

    def _expand(self, new: int) -> None:
        if self.classes == 0:
            self.body = self._backbone()


class ExpandingNet(GrowingNet):
    """Parts that are added phase by phase, each started from the one before; their features are concatenated.

    From the second phase on an auxiliary head tells the new classes (1 ..) and 'any old class' (0) apart by the newest
    part's features.
    """

    aux: Head

    def __init__(self, backbone: BackboneMaker) -> None:
        super().__init__(backbone)
        self.parts = nn.ModuleList()
        self.part_dim = 0

    @property
    def feature_dim(self) -> int:
        """All parts' features."""
        return self.part_dim * len(self.parts)

    def extractors(self) -> Iterator[nn.Module]:
        """All parts."""
        yield from self.parts

    def _add(self, part: nn.Module, new: int) -> None:
        if len(self.parts):
            part.load_state_dict(self.parts[-1].state_dict())
            self.aux = Head(self.part_dim, new + 1)
        self.parts.append(part)

    def _aux(self, features: Tensor) -> Tensor | None:
        if len(self.parts) < 2:
            return None
        logits: Tensor = self.aux(features[:, -self.part_dim :])
        return logits

    def freeze_old_parts(self) -> None:
        """Freezes the weights of all parts but the newest."""
        for part in self.parts[:-1]:
            part.requires_grad_(False)

    def train_newest(self) -> None:
        """Training mode, but the old parts' batch norms keep their statistics."""
        self.train()
        for part in self.parts[:-1]:
            part.eval()


class BackboneListNet(ExpandingNet):
    """DER (Yan, Xie and He 2021): a whole backbone per phase."""

    def features(self, images: Tensor) -> Tensor:
        """Features of all backbones, the oldest first."""
        return torch.cat([part(images) for part in self.parts], dim=1)

    def _expand(self, new: int) -> None:
        part = self._backbone()
        self.part_dim = part.feature_dim
        self._add(part, new)


class SharedStagesNet(ExpandingNet):
    """MEMO (Zhou et al. 2023): shared stages under one last stage per phase."""

    shared: nn.Module

    def extractors(self) -> Iterator[nn.Module]:
        """The shared stages and all last ones."""
        yield self.shared
        yield from super().extractors()

    def features(self, images: Tensor) -> Tensor:
        """Features of all last stages, the oldest first."""
        maps = self.shared(images)
        return torch.cat([part(maps) for part in self.parts], dim=1)

    def _expand(self, new: int) -> None:
        backbone = self._backbone()
        if self.classes == 0:
            self.shared = backbone.shared
        self.part_dim = backbone.feature_dim
        self._add(backbone.last, new)
