"""The network of learned pictures in torch, as it is trained (spec/latent-1.md)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 64
TOP_LEVEL = 7
LAMBDA_LEAST, LAMBDA_MOST = 1e-4, 9e-3
CONTEXT = 96
GROUPS = (0, 1, 3, 6, 10, 16, 24, 40, 64)
"""Where the groups of channels begin: a group's probabilities know the groups before it in their own position."""
GROUP_HIDDEN = 16
LOUD = 8
"""Magnitudes above this count as this in the contexts."""


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inside = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(2)])
        nn.init.zeros_(self.inside[1].weight)
        nn.init.zeros_(self.inside[1].bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        return x + self.inside[1](F.relu(self.inside[0](F.relu(x))))


def plane(x: Tensor, level: Tensor) -> Tensor:
    """``x`` (B, C, H, W) with one channel more, that holds level / 7."""
    return torch.cat([x, (level / TOP_LEVEL)[:, None, None, None].expand(-1, 1, *x.shape[2:]).to(x.dtype)], 1)


class Encoder(nn.Module):
    """RGB (B, 3, H, W) in -0.5 to 0.5, H and W multiples of 8, to latents (B, 64, H / 8, W / 8) before the gains."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(49, 64, 3, padding=1),
            *(Residual(64) for _ in range(3)),
            nn.Conv2d(64, 96, 2, stride=2),
            *(Residual(96) for _ in range(3)),
            nn.Conv2d(96, CHANNELS, 3, padding=1),
        )
        self.linear = nn.Conv2d(48, CHANNELS, 2, stride=2)

    def forward(self, images: Tensor, level: Tensor) -> Tensor:
        """The sum of a linear transform of the block and what the network adds."""
        cut = F.pixel_unshuffle(images, 4)
        return self.linear(cut) + self.body(plane(cut, level))


class Decoder(nn.Module):
    """Latents (B, 64, h, w), times the steps, to RGB (B, 3, 8 h, 8 w)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(CHANNELS + 1, 96, 3, padding=1),
            *(Residual(96) for _ in range(3)),
            nn.ConvTranspose2d(96, 64, 2, stride=2),
            *(Residual(64) for _ in range(3)),
            nn.Conv2d(64, 48, 3, padding=1),
        )
        self.linear = nn.ConvTranspose2d(CHANNELS, 48, 2, stride=2)

    def forward(self, latents: Tensor, level: Tensor) -> Tensor:
        """The sum of a linear transform of each position and what the network adds."""
        return F.pixel_shuffle(self.linear(latents) + self.body(plane(latents, level)), 4)


class EntropyModel(nn.Module):
    """Mean and scale of each latent's logistic distribution from the latents before it, in raster and channel order."""

    def __init__(self) -> None:
        super().__init__()
        hidden = GROUP_HIDDEN * (len(GROUPS) - 1)
        self.neighbours = nn.Conv2d(2 * CHANNELS + 1, CONTEXT, 5, padding=2)
        self.own = nn.Parameter(torch.zeros(CHANNELS, 1, 5, 5))
        self.level = nn.Parameter(torch.randn(TOP_LEVEL + 1, CONTEXT) * 0.1)
        self.middle = nn.Conv2d(CONTEXT, hidden, 1)
        self.middle_here = nn.Parameter(torch.randn(hidden, 2 * CHANNELS) * 0.02)
        self.out_context = nn.Conv2d(CONTEXT, 2 * CHANNELS, 1)
        self.out_here = nn.Parameter(torch.zeros(2 * CHANNELS, hidden))
        self.level_scale = nn.Parameter(torch.zeros(TOP_LEVEL + 1, CHANNELS))
        self.earlier_mean = nn.Parameter(torch.zeros(CHANNELS, CHANNELS))
        self.earlier_scale = nn.Parameter(torch.zeros(CHANNELS, CHANNELS))
        causal = torch.zeros(5, 5)
        causal[:2] = 1
        causal[2, :2] = 1
        group = torch.tensor([sum(c >= start for start in GROUPS[1:-1]) for c in range(CHANNELS)])
        unit = torch.arange(hidden) // GROUP_HIDDEN
        self.register_buffer("causal", causal, persistent=False)
        self.register_buffer("sees", (unit[:, None] > group[None].repeat(1, 2)).float(), persistent=False)
        self.register_buffer("shows", (unit[None] <= group.repeat(2)[:, None]).float(), persistent=False)
        self.register_buffer("below", torch.tril(torch.ones(CHANNELS, CHANNELS), -1), persistent=False)

    def forward(self, latents: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Means and scales (B, 64, h, w) for integer latents and levels (B,)."""
        loud = latents.abs().clamp(max=LOUD)
        low = level.floor().long().clamp(max=TOP_LEVEL - 1)
        share = (level - low)[:, None]
        embedded = self.level[low] * (1 - share) + self.level[low + 1] * share
        spread = self.level_scale[low] * (1 - share) + self.level_scale[low + 1] * share
        seen = torch.cat([latents / 4, loud / 4, torch.ones_like(latents[:, :1])], 1)
        here = torch.cat([latents / 4, loud / 4], 1)
        x = F.conv2d(seen, self.neighbours.weight * self.causal, self.neighbours.bias, padding=2)
        x = F.relu(x + embedded[:, :, None, None])
        y = F.relu(self.middle(x) + F.conv2d(here, (self.middle_here * self.sees)[:, :, None, None]))
        mean, scale = (self.out_context(x) + F.conv2d(y, (self.out_here * self.shows)[:, :, None, None])).chunk(2, 1)
        with torch.autocast(latents.device.type, enabled=False):
            mean = mean.float() + F.conv2d(latents, (self.earlier_mean * self.below)[:, :, None, None])
            mean = mean + F.conv2d(latents, self.own * self.causal, padding=2, groups=CHANNELS)
            scale = scale.float() + F.conv2d(loud, (self.earlier_scale * self.below)[:, :, None, None])
            scale = scale + spread[:, :, None, None]
        return mean, F.softplus(scale) + 0.05


def logistic_bits(value: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Bits (B,) of latents in cells of width 1."""
    upper, lower = (value - mean + 0.5) / scale, (value - mean - 0.5) / scale
    flip = torch.where(upper + lower > 0, -1.0, 1.0)
    probability = (torch.sigmoid(flip * upper) - torch.sigmoid(flip * lower)).abs()
    return -torch.log2(probability.clamp(min=1e-7)).sum((1, 2, 3))


class LatentModel(nn.Module):
    """All parts, and the gains of each level and channel."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder, self.entropy = Encoder(), Decoder(), EntropyModel()
        self.log_gain = nn.Parameter(torch.zeros(TOP_LEVEL + 1, CHANNELS))
        self.log_step = nn.Parameter(torch.zeros(TOP_LEVEL + 1, CHANNELS))

    @torch.no_grad()
    def start(self, basis: np.ndarray) -> None:
        """Starts as a linear transform codec: rows of an orthonormal ``basis`` (64, 192) and its best steps."""
        self.encoder.linear.weight.copy_(torch.from_numpy(basis).reshape(CHANNELS, 48, 2, 2))
        self.encoder.linear.bias.zero_()
        self.decoder.linear.weight.copy_(torch.from_numpy(basis).reshape(CHANNELS, 48, 2, 2))
        self.decoder.linear.bias.zero_()
        for last in (self.encoder.body[-1], self.decoder.body[-1], self.entropy.out_context):
            last.weight.mul_(0.1)
            last.bias.zero_()
        for level in range(TOP_LEVEL + 1):
            weight = LAMBDA_LEAST * (LAMBDA_MOST / LAMBDA_LEAST) ** (level / TOP_LEVEL)
            # At high rates a step of sqrt(18 / (ln 2 lambda)) grey levels is the best; larger errors of it cost less.
            step = math.sqrt(18 / (math.log(2) * weight)) / 255
            self.log_gain[level] = -math.log(step)
            self.log_step[level] = math.log(step)

    def gains(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Gain and step (B, 64, 1, 1), between two whole levels interpolated in the logarithm."""
        low = level.floor().long().clamp(max=TOP_LEVEL - 1)
        share = (level - low)[:, None]
        gain, step = (each[low] * (1 - share) + each[low + 1] * share for each in (self.log_gain, self.log_step))
        return gain.exp()[:, :, None, None], step.exp()[:, :, None, None]

    def forward(self, images: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures again (B, 3, H, W), and bits (B,)."""
        gain, step = self.gains(level)
        scaled = (self.encoder(images, level).float() * gain).clamp(-255, 255)
        rounded = scaled + (scaled.round() - scaled).detach()
        mean, scale = self.entropy(rounded, level)
        if self.training:
            noisy = scaled + torch.rand_like(scaled) - 0.5
            bits = 0.5 * (logistic_bits(noisy, mean, scale) + logistic_bits(rounded, mean, scale))
        else:
            bits = logistic_bits(rounded, mean, scale)
        return self.decoder(rounded * step, level).float(), bits
