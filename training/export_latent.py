"""Writes what the package ships of a trained network of learned pictures, and fits the probabilities of its latents.

    python training/export_latent.py model.pt OUT --zip tinyimagenet-160.zip --photos caltech40-extra

OUT (``escort_codec/latent`` in the end) gets ``model-1.encoder.onnx``, ``model-1.decoder.onnx`` and
``model-1.tables.xz`` (spec/latent-1.md). The network's numbers are rounded to integers first; the probabilities
are then those of what the integer network predicts for the training pictures. Needs the packages torch and onnx.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from latent_model import CHANNELS, TOP_LEVEL, LatentModel
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F
from train_latent import Pictures, load_zip

from escort_codec.latent import picture, tables
from escort_codec.latent.tables import ESCAPE, NODES, PARTS, QUALITIES, SCALES, TAPS

UNIT = 1 << 12
LEAST_SCALE, MOST_SCALE = 0.05, 24.0
PRIOR = 24.0
"""What the logistic distribution counts for beside the pictures: as many latents."""


class Graph:
    """An ONNX graph of convolutions with weights in half precision."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """The name of the output of a new node."""
        name = f"{kind.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def weight(self, value: torch.Tensor) -> str:
        """The name of a tensor."""
        name = f"weight{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(value.detach().numpy().astype(np.float16), name))
        return name

    def layer(self, layer: nn.Module, x: str) -> str:
        """A convolution, transposed convolution or residual block; missing input channels get zero weights."""
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            turned = isinstance(layer, nn.ConvTranspose2d)
            weight, missing = layer.weight, 0
            if x == "in":
                missing = self.channels - layer.in_channels
                weight = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, missing) if turned else (0, 0, 0, 0, 0, missing))
            return self.add(
                "ConvTranspose" if turned else "Conv",
                [x, self.weight(weight), self.weight(layer.bias)],
                kernel_shape=list(layer.kernel_size),
                strides=list(layer.stride),
                pads=[*layer.padding, *layer.padding],
            )
        first, second = layer.inside
        inner = self.layer(first, self.add("Relu", [x]))
        return self.add("Add", [x, self.layer(second, self.add("Relu", [inner]))])

    def bytes(self, part: nn.Module, out: int) -> bytes:
        """The ONNX file of an encoder or decoder: ``in`` (1, channels, h, w) to ``out``.

        The sizes are those of a picture of 64 x 64 pixels: OpenCV 4 takes no open ones, and goes by the input's.
        """
        x = "in"
        for layer in part.body:
            x = self.layer(layer, x)
        end = self.add("Add", [x, self.layer(part.linear, "in")])
        self._nodes[-1].output[0] = "out"
        assert end
        fine, coarse = 16, 8
        sides = (coarse, fine) if isinstance(part.linear, nn.ConvTranspose2d) else (fine, coarse)
        shapes = [("in", [1, self.channels, sides[0], sides[0]]), ("out", [1, out, sides[1], sides[1]])]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes]
        graph = helper.make_graph(self._nodes, "escort-latent-1", ends[:1], ends[1:], self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="escort")
        model.ir_version = 8
        onnx.checker.check_model(model)
        return model.SerializeToString(deterministic=True)


def whole(value: torch.Tensor, scale: float = UNIT, most: int = 32767) -> np.ndarray:
    """Rounded to integers, at most ``most`` (said if some are more)."""
    rounded = np.rint(value.detach().double().numpy() * scale)
    if beyond := int((abs(rounded) > most).sum()):
        print(f"{beyond} of {rounded.size} weights are limited to {most}")
    return np.clip(rounded, -most, most).astype(np.int64)


def integer_tables(model: LatentModel) -> dict[str, np.ndarray]:
    """All tables but the probabilities."""
    part = model.entropy
    taps = [(tap // 5, tap % 5) for tap in range(TAPS)]
    around = torch.stack([part.neighbours.weight[:, :, y, x].T for y, x in taps])
    around = around * torch.cat([torch.full((2 * CHANNELS,), 0.25), torch.ones(1)])[None, :, None]
    level = torch.arange(QUALITIES) * TOP_LEVEL / (QUALITIES - 1)
    low = level.floor().long().clamp(max=TOP_LEVEL - 1)
    share = (level - low)[:, None]

    def between(values: torch.Tensor) -> torch.Tensor:
        return values[low] * (1 - share) + values[low + 1] * share

    spread = torch.cat([torch.zeros(QUALITIES, CHANNELS), between(part.level_scale)], 1)
    gain, step = model.gains(level)
    scales = np.geomspace(LEAST_SCALE, MOST_SCALE, SCALES)
    loose = ((np.arange(512) * 16 + 8) - 2048) / 256
    wanted = np.log1p(np.exp(-abs(loose))) + np.maximum(loose, 0) + 0.05
    nearest = abs(np.log(wanted)[:, None] - np.log(scales)).argmin(1)
    return {
        "neighbours": whole(around, most=8191),
        "context_bias": whole(part.neighbours.bias + between(part.level), most=1 << 30),
        "own": whole(torch.stack([part.own[:, 0, y, x] for y, x in taps])),
        "middle": whole(part.middle.weight[:, :, 0, 0].T),
        "middle_bias": whole(part.middle.bias, most=1 << 30),
        "middle_here": whole((part.middle_here * part.sees).T / 4),
        "out_context": whole(part.out_context.weight[:, :, 0, 0].T),
        "out_bias": whole(part.out_context.bias + spread, most=1 << 30),
        "out_here": whole((part.out_here * part.shows).T),
        "earlier_mean": whole((part.earlier_mean * part.below).T),
        "earlier_scale": whole((part.earlier_scale * part.below).T),
        "scale_index": nearest,
        "gains": gain[:, :, 0, 0].detach().numpy(),
        "steps": step[:, :, 0, 0].detach().numpy(),
        "scales": scales,
    }


def nodes_of(far: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(node, which of the values meet it, their choice there) for values ``far`` from their centres."""
    found = [(0, np.ones(far.shape, bool), far != 0), (1, far != 0, far < 0)]
    left = abs(far) - 1
    for negative in (0, 1):
        side = (far < 0) if negative else (far > 0)
        found += [(2 + negative * ESCAPE + n, side & (left >= n), left > n) for n in range(ESCAPE)]
    return found


def logistic_choices(scales: np.ndarray) -> np.ndarray:
    """(SCALES, PARTS, NODES, 2): probabilities of meeting a node with each choice under the logistic distribution."""
    values = np.arange(-400, 401)
    means = (np.arange(PARTS) + 0.5) / PARTS - 0.5
    at = (values[None, None, :] - means[None, :, None]) / scales[:, None, None]
    half = 0.5 / scales[:, None, None]
    flip = np.where(at > 0, -1.0, 1.0)
    share = abs(
        1 / (1 + np.exp(-np.clip(flip * at + half, -500, 500)))
        - 1 / (1 + np.exp(-np.clip(flip * at - half, -500, 500)))
    )
    share = share / share.sum(-1, keepdims=True)
    found = np.zeros((SCALES, PARTS, NODES, 2))
    for node, met, choice in nodes_of(values):
        for bit in (0, 1):
            found[:, :, node, bit] = share[:, :, met & (choice == bool(bit))].sum(-1)
    return found


def probabilities(choices: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """16-bit probabilities of the first alternative from counts and the logistic distribution as a prior."""
    conditional = (prior[..., 0] + 1e-9) / (prior.sum(-1) + 2e-9)
    strength = PRIOR * prior.sum(-1) + 1.0
    first = (choices[..., 0] + strength * conditional) / (choices.sum(-1) + strength)
    return np.clip(np.rint(first * 65536), 6, 65530).astype(np.int64)


def count(pictures: list[np.ndarray], qualities: list[int]) -> tuple[np.ndarray, int]:
    """Choices at (scale, part, node), over pictures coded with the tables in use, and their bytes."""
    found, total = np.zeros((SCALES * PARTS, NODES, 2)), 0
    for pixels, quality in zip(pictures, qualities, strict=True):
        data = picture.encode_latent(pixels, quality=quality)
        total += len(data)
        read = picture.read_latents(data)
        mean = read.offsets.astype(np.int64) + 256 * read.values
        centre = (mean + 128) >> 8
        far = (read.values - centre).ravel()
        cell = (read.scales.astype(np.int64) * PARTS + ((mean - 256 * centre + 128) >> 4)).ravel()
        for node, met, choice in nodes_of(far):
            if met.any():
                for bit in (0, 1):
                    np.add.at(found[:, node, bit], cell[met & (choice == bool(bit))], 1)
    return found.reshape(SCALES, PARTS, NODES, 2), total


def main() -> None:
    """Writes the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model.pt, or last.pt of a run that goes on")
    parser.add_argument("out", type=Path)
    parser.add_argument("--zip", type=Path, required=True)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    state = torch.load(options.model, weights_only=True, map_location="cpu")
    model = LatentModel().eval()
    model.load_state_dict(state.get("average", state))
    options.out.mkdir(parents=True, exist_ok=True)
    networks = {
        tables.ENCODER: Graph(49).bytes(model.encoder, CHANNELS),
        tables.DECODER: Graph(CHANNELS + 1).bytes(model.decoder, 48),
    }
    for name, data in networks.items():
        (options.out / name).write_bytes(data)
    arrays: dict[str, np.ndarray] = integer_tables(model)
    prior = logistic_choices(arrays["scales"])
    arrays["probabilities"] = probabilities(np.zeros_like(prior), prior)

    def use() -> bytes:
        data = tables.pack(arrays)
        (options.out / tables.FILE).write_bytes(data)
        tables.load_tables.cache_clear()
        tables.load_costs.cache_clear()
        return data

    tables.FOLDER = options.out
    data = use()
    training, _ = load_zip(options.zip)
    photographs = sorted(options.photos.glob("*/*.jpg")) if options.photos else []
    source = Pictures(training, photographs, options.seed + 1_000_000)
    rows: list[np.ndarray] = []
    while len(rows) < options.pictures:
        batch = ((source.batch(0.1) + 0.5) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        rows.extend(batch)
    draw = random.Random(options.seed)
    qualities = [draw.randrange(QUALITIES) for _ in rows]
    for round_number in range(options.rounds):
        choices, total = count(rows, qualities)
        print(f"round {round_number}: {total / len(rows):.2f} bytes a picture")
        arrays["probabilities"] = probabilities(choices, prior)
        data = use()
    _, total = count(rows, qualities)
    sizes = {name: len(each) for name, each in networks.items()} | {tables.FILE: len(data)}
    print(f"at the end: {total / len(rows):.2f} bytes a picture; files: {sizes}")


if __name__ == "__main__":
    main()
