"""Backbones: images in, features out, in two parts. The stages that tasks may share, and the last stage.

Residual networks of He et al. 2016: ImageNet's, and section 4.2's for 32 x 32 images (CIFAR-10). Initialisation is the
published one, and PyCIL's: convolutions normal with He's deviation over the fan-out, batch-norm weights 1 and biases 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from torch import Tensor, nn
from torch.nn import functional as F

from escort_codec.registry import Registry

AUTO: Final = "auto"
IMAGENET: Final = "imagenet"


@dataclass(frozen=True, slots=True)
class Stem:
    """What comes before the first stage: a convolution, and max pooling that halves the image again."""

    kernel: int
    stride: int
    pools: bool

    def layers(self, width: int) -> list[nn.Module]:
        """The layers, for images of three channels."""
        first = nn.Conv2d(3, width, self.kernel, self.stride, self.kernel // 2, bias=False)
        pooling = [nn.MaxPool2d(3, 2, 1)] if self.pools else []
        return [first, nn.BatchNorm2d(width), nn.ReLU(inplace=True), *pooling]

    def describe(self) -> str:
        """For people: ``7 x 7, stride 2, max pooling``."""
        return f"{self.kernel} x {self.kernel}, stride {self.stride}, {'max' if self.pools else 'no'} pooling"


STEMS: Final = {
    IMAGENET: Stem(7, 2, pools=True),
    "cifar": Stem(3, 1, pools=False),
    "pycil": Stem(3, 1, pools=True),
    "small": Stem(3, 2, pools=True),
}
"""By name. "pycil" is that of PyCIL and the paper for large images if the first phase is not as large as the others;
"small" is resnet10's, for images of about 64 pixels."""


class Backbone(nn.Module):
    """``last(shared(images))``: float (B, 3, S, S) to features (B, feature_dim).

    ``shared`` holds the stem and all stages but the last, ``last`` the last stage and the pooling. If both are
    sequences, ``stages`` counts the stages: the last modules of ``shared``, and the first of ``last``.
    """

    def __init__(self, shared: nn.Module, last: nn.Module, feature_dim: int, stages: int = 0) -> None:
        super().__init__()
        self.shared = shared
        self.last = last
        self.feature_dim = feature_dim
        self.stages = stages

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, feature_dim)."""
        features: Tensor = self.last(self.shared(images))
        return features

    def with_maps(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Features, and the maps (B, C, H, W) after each stage."""
        assert isinstance(self.shared, nn.Sequential)
        assert isinstance(self.last, nn.Sequential)
        first = len(self.shared) - (self.stages - 1)
        x, maps = images, []
        for number, module in enumerate((*self.shared, self.last[0])):
            x = module(x)
            if number >= first:
                maps.append(x)
        features: Tensor = self.last[1:](x)
        return features, tuple(maps)


BackboneMaker: TypeAlias = Callable[[], Backbone]
"""Makes a backbone with fresh weights from torch's random numbers."""


@dataclass(frozen=True, slots=True)
class BackboneKind:
    """A backbone of the registry. ``make`` takes one of ``stems``.

    ``stem`` is its default; "" leaves the choice to the data set and the image size.
    """

    make: Callable[[str], Backbone]
    stem: str = ""
    stems: tuple[str, ...] = ()


backbones: Registry[BackboneKind] = Registry("backbone")


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and the shortcut around them; (B, planes_in, H, W) to (B, planes, H/stride, W/stride)."""

    expansion = 1

    def __init__(self, planes_in: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(planes_in, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.end: nn.Module = self.relu
        self.shortcut = self._shortcut(planes_in, planes, stride)

    def _shortcut(self, planes_in: int, planes: int, stride: int) -> nn.Module:
        return _projection(planes_in, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        result: Tensor = self.end(out)
        return result


class CifarBlock(BasicBlock):
    """A ``BasicBlock`` whose shortcut has no weights (option A)."""

    def _shortcut(self, planes_in: int, planes: int, stride: int) -> nn.Module:
        return PaddedShortcut(planes - planes_in, stride)


class PaddedShortcut(nn.Module):
    """Takes every ``stride``-th pixel of each row and column, and appends ``planes`` channels of zeros."""

    def __init__(self, planes: int, stride: int) -> None:
        super().__init__()
        self.planes = planes
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C + planes, H/stride, W/stride)."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.planes))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (with the stride) and 1 x 1 convolutions and the shortcut; gives 4 * planes channels."""

    expansion = 4

    def __init__(self, planes_in: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(planes_in, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.relu = nn.ReLU(inplace=True)
        self.end: nn.Module = self.relu
        self.shortcut = _projection(planes_in, 4 * planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += self.shortcut(x)
        result: Tensor = self.end(out)
        return result


def _projection(planes_in: int, planes_out: int, stride: int) -> nn.Module:
    """The shortcut: a 1 x 1 convolution if the shape changes, else nothing."""
    if stride == 1 and planes_in == planes_out:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(planes_in, planes_out, 1, stride, bias=False), nn.BatchNorm2d(planes_out))


def _network(
    stem: Sequence[nn.Module], block: type[BasicBlock] | type[Bottleneck], blocks: Sequence[int], width: int
) -> Backbone:
    """The stem and a stage for each number of ``blocks``, the first of ``width`` planes, each later one of twice as
    many at half the size; pooled over the rest of the image.
    """
    planes_in = width
    stages: list[nn.Module] = []
    for i, count in enumerate(blocks):
        planes = width << i
        first = block(planes_in, planes, 1 if i == 0 else 2)
        planes_in = planes * block.expansion
        stages.append(nn.Sequential(first, *(block(planes_in, planes) for _ in range(1, count))))
    shared = nn.Sequential(*stem, *stages[:-1])
    last = nn.Sequential(stages[-1], nn.AdaptiveAvgPool2d(1), nn.Flatten())
    backbone = Backbone(shared, last, planes_in, len(stages))
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return backbone  # batch norms are made with weight 1 and bias 0


def resnet(
    block: type[BasicBlock] | type[Bottleneck], blocks: Sequence[int], stem: str, *, width: int = 64
) -> Backbone:
    """A residual network of a stage for each number of ``blocks``, the first of ``width`` planes, after a stem."""
    return _network(STEMS[stem].layers(width), block, blocks, width)


def resnet10(stem: str = "small") -> Backbone:
    """One block per stage, 16 to 128 planes: 310 thousand weights, for small images on a CPU."""
    return resnet(BasicBlock, (1, 1, 1, 1), stem, width=16)


def resnet18(stem: str = IMAGENET) -> Backbone:
    """ResNet-18; 512 features."""
    return resnet(BasicBlock, (2, 2, 2, 2), stem)


def resnet32(stem: str = "cifar") -> Backbone:
    """ResNet-32 for images of 32 pixels: three stages of five blocks, 64 features, 464 thousand weights."""
    return resnet(CifarBlock, (5, 5, 5), stem, width=16)


def resnet34(stem: str = IMAGENET) -> Backbone:
    """ResNet-34; 512 features."""
    return resnet(BasicBlock, (3, 4, 6, 3), stem)


def resnet50(stem: str = IMAGENET) -> Backbone:
    """ResNet-50; 2048 features."""
    return resnet(Bottleneck, (3, 4, 6, 3), stem)


def signed(make: Callable[[str], Backbone]) -> Callable[[str], Backbone]:
    """The same network without the last activation, so that features may be negative, for a cosine classifier.

    PyCIL calls these networks cosine_... (Hou et al. 2019).
    """

    def made(stem: str) -> Backbone:
        backbone = make(stem)
        assert isinstance(backbone.last, nn.Sequential)
        stage = backbone.last[0]
        assert isinstance(stage, nn.Sequential)
        stage[-1].end = nn.Identity()
        return backbone

    return made


def projected_resnet32(stem: str = "cifar") -> Backbone:
    """``resnet32`` with shortcuts that have weights: PyCIL's cosine_resnet32."""
    return resnet(BasicBlock, (5, 5, 5), stem, width=16)
