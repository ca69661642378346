"""The residual networks for 32 x 32 images of He et al. 2016, section 4.2 (CIFAR-10), with option A shortcuts.

Initialisation as in PyCIL: convolutions normal with variance 2 / (k k out), batch-norm weights 1 and biases 0.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from escort_cil.networks.backbone import Backbone


class CifarBlock(nn.Module):
    """Two 3 x 3 convolutions; where the shape changes the shortcut takes every other pixel and adds zero channels."""

    def __init__(self, planes_in: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(planes_in, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.stride = stride
        self.padding = planes - planes_in

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.padding:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.padding))
        return F.relu(out + shortcut, inplace=True)


def cifar_resnet(depth: int) -> Backbone:
    """The network of ``depth`` = 6 n + 2 layers; 64 features, pooled over whatever size is left."""
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"a CIFAR network's depth is 6 n + 2, not {depth}")
    blocks = (depth - 2) // 6

    def stage(planes_in: int, planes: int, stride: int) -> nn.Sequential:
        first = CifarBlock(planes_in, planes, stride)
        return nn.Sequential(first, *(CifarBlock(planes, planes) for _ in range(1, blocks)))

    shared = nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        stage(16, 16, 1),
        stage(16, 32, 2),
    )
    last = nn.Sequential(stage(32, 64, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    backbone = Backbone(shared, last, 64)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return backbone


def resnet32() -> Backbone:
    """ResNet-32 for CIFAR: five blocks a stage, 464 thousand weights."""
    return cifar_resnet(32)
