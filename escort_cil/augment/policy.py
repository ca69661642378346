"""AutoAugment's ImageNet policy (Cubuk et al., CVPR 2019, table 9), each image drawing its own sub-policy.

A sub-policy is two operations, each with a probability and a magnitude level of 0..9. Images are grouped by
operation, so a batch takes at most two steps per operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from escort_cil.augment import operations
from escort_codec.registry import Registry


@dataclass(frozen=True)
class Operation:
    """An operation of AutoAugment: ``apply(images uint8 (B, 3, H, W), magnitudes float32 (B,))``.

    The magnitude at level i of 0..9 is ``base + sign * (lowest + (highest - lowest) * i / 9)``; the sign is drawn for
    each image if ``signed``, else it is +1.
    """

    apply: Callable[[Tensor, Tensor], Tensor]
    lowest: float = 0.0
    highest: float = 0.0
    base: float = 0.0
    signed: bool = False

    def magnitude(self, level: int, sign: float = 1.0) -> float:
        """The magnitude at a level; the sign counts if the operation is signed."""
        return self.base + (sign if self.signed else 1.0) * (self.lowest + (self.highest - self.lowest) * level / 9)


# Ranges of the paper's table 6, as in its authors' code and the common reimplementations.
image_operations: Registry[Operation] = Registry("image operation")
image_operations.add("ShearX", Operation(operations.shear_x, 0, 0.3, signed=True))
image_operations.add("ShearY", Operation(operations.shear_y, 0, 0.3, signed=True))
image_operations.add("TranslateX", Operation(operations.translate_x, 0, 150 / 331, signed=True))
image_operations.add("TranslateY", Operation(operations.translate_y, 0, 150 / 331, signed=True))
image_operations.add("Rotate", Operation(operations.rotate, 0, 30, signed=True))
image_operations.add("Color", Operation(operations.color, 0, 0.9, base=1, signed=True))
image_operations.add("Contrast", Operation(operations.contrast, 0, 0.9, base=1, signed=True))
image_operations.add("Brightness", Operation(operations.brightness, 0, 0.9, base=1, signed=True))
image_operations.add("Sharpness", Operation(operations.sharpness, 0, 0.9, base=1, signed=True))
image_operations.add("Posterize", Operation(operations.posterize, 8, 4))
image_operations.add("Solarize", Operation(operations.solarize, 256, 0))
image_operations.add("AutoContrast", Operation(operations.autocontrast))
image_operations.add("Equalize", Operation(operations.equalize))
image_operations.add("Invert", Operation(operations.invert))

# (operation, probability, level) twice.
IMAGENET_POLICY: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
    (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Equalize", 0.4, 4), ("Rotate", 0.8, 8)),
    (("Solarize", 0.6, 3), ("Equalize", 0.6, 7)),
    (("Posterize", 0.8, 5), ("Equalize", 1.0, 2)),
    (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
    (("Equalize", 0.6, 8), ("Posterize", 0.4, 6)),
    (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
    (("Rotate", 0.4, 9), ("Equalize", 0.6, 2)),
    (("Equalize", 0.0, 7), ("Equalize", 0.8, 8)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
    (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
    (("Sharpness", 0.4, 7), ("Invert", 0.6, 8)),
    (("ShearX", 0.6, 5), ("Equalize", 1.0, 9)),
    (("Color", 0.4, 0), ("Equalize", 0.6, 3)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
)


@dataclass(frozen=True)
class PolicyDraws:
    """The draws of B images, on the CPU, which groups them: operations, int64 (B, 2), positions in
    ``image_operations`` or -1 for none; magnitudes, float32 (B, 2).
    """

    operations: Tensor
    magnitudes: Tensor

    def __getitem__(self, part: slice) -> PolicyDraws:
        return PolicyDraws(self.operations[part], self.magnitudes[part])


def draw_policy(draws: Tensor) -> PolicyDraws:
    """Sub-policies, whether each operation happens, and signs from ``draws`` (B, 5), uniform in [0, 1)."""
    names = image_operations.names()
    rows = [row for pair in IMAGENET_POLICY for row in pair]
    members = [image_operations.get(name) for name, _, _ in rows]
    shape = (len(IMAGENET_POLICY), 2)
    indices = torch.tensor([names.index(name) for name, _, _ in rows]).view(shape)
    chances = torch.tensor([chance for _, chance, _ in rows]).view(shape)
    levels = [level for _, _, level in rows]
    plus = torch.tensor([m.magnitude(i, +1.0) for m, i in zip(members, levels, strict=True)]).view(shape)
    minus = torch.tensor([m.magnitude(i, -1.0) for m, i in zip(members, levels, strict=True)]).view(shape)

    draws = draws.cpu()
    chosen = (draws[:, 0] * len(IMAGENET_POLICY)).long().clamp_(max=len(IMAGENET_POLICY) - 1)
    happens = draws[:, 1:3] < chances[chosen]
    positive = draws[:, 3:5] < 0.5
    return PolicyDraws(torch.where(happens, indices[chosen], -1), torch.where(positive, plus[chosen], minus[chosen]))


def apply_policy(images: Tensor, draws: PolicyDraws) -> Tensor:
    """A new batch, uint8 (B, 3, H, W): each image after the operations that it drew."""
    place = torch.arange(len(images))  # where the images are now
    for stage in (0, 1):
        # Sorted by operation, a group is a slice.
        drawn = draws.operations[place, stage]
        order = torch.argsort(drawn, stable=True)
        place = place[order]
        images = images.index_select(0, order.to(images.device, non_blocking=True))
        magnitudes = draws.magnitudes[place, stage].to(images.device, non_blocking=True)
        ends = torch.bincount(drawn + 1, minlength=len(image_operations) + 1).cumsum(0).tolist()
        for operation, start, end in zip(image_operations, ends[:-1], ends[1:], strict=True):
            if start < end:
                images[start:end] = operation.apply(images[start:end], magnitudes[start:end])
    return images.index_select(0, torch.argsort(place).to(images.device, non_blocking=True))
