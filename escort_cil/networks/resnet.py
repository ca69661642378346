"""Residual networks (He et al. 2016) in two parts: the stages that tasks may share, and the last stage.

Initialisation is the published one for ImageNet: convolutions normal with He's deviation over the fan-out, batch-norm
weights 1 and biases 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from escort_cil.networks.backbone import Backbone


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
        self.shortcut = _projection(planes_in, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        result: Tensor = self.relu(out)
        return result


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
        self.shortcut = _projection(planes_in, 4 * planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += self.shortcut(x)
        result: Tensor = self.relu(out)
        return result


def _projection(planes_in: int, planes_out: int, stride: int) -> nn.Module:
    """The shortcut: a 1 x 1 convolution where the shape changes, else nothing."""
    if stride == 1 and planes_in == planes_out:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(planes_in, planes_out, 1, stride, bias=False), nn.BatchNorm2d(planes_out))


def _stage(
    block: type[BasicBlock] | type[Bottleneck], planes_in: int, planes: int, blocks: int, stride: int
) -> nn.Module:
    first = block(planes_in, planes, stride)
    return nn.Sequential(first, *(block(planes * block.expansion, planes) for _ in range(1, blocks)))


def resnet(
    block: type[BasicBlock] | type[Bottleneck], blocks: Sequence[int], *, width: int = 64, small_stem: bool = False
) -> Backbone:
    """A residual network of four stages with ``blocks`` blocks each, the first of ``width`` planes.

    The stem is ImageNet's (7 x 7, stride 2, max pooling); with ``small_stem``, for images of 64 pixels or so, its
    convolution is 3 x 3.
    """
    kernel = 3 if small_stem else 7
    stem = [
        nn.Conv2d(3, width, kernel, 2, kernel // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    planes = width
    stages: list[nn.Module] = []
    for i, count in enumerate(blocks):
        stages.append(_stage(block, planes, width << i, count, stride=1 if i == 0 else 2))
        planes = (width << i) * block.expansion
    shared = nn.Sequential(*stem, *stages[:-1])
    last = nn.Sequential(stages[-1], nn.AdaptiveAvgPool2d(1), nn.Flatten())
    backbone = Backbone(shared, last, planes)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return backbone  # batch norms are made with weight 1 and bias 0


def resnet10() -> Backbone:
    """One block a stage, 16 to 128 planes, small stem: 310 thousand weights, for small images on a CPU."""
    return resnet(BasicBlock, (1, 1, 1, 1), width=16, small_stem=True)


def resnet18() -> Backbone:
    """ResNet-18 with ImageNet's stem; 512 features."""
    return resnet(BasicBlock, (2, 2, 2, 2))


def resnet34() -> Backbone:
    """ResNet-34 with ImageNet's stem; 512 features."""
    return resnet(BasicBlock, (3, 4, 6, 3))


def resnet50() -> Backbone:
    """ResNet-50 with ImageNet's stem; 2048 features."""
    return resnet(Bottleneck, (3, 4, 6, 3))
