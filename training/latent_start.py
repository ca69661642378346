"""Reads an exported network of learned pictures back into torch, to train it further."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import onnx
import torch
from latent_model import CHANNELS, CONTEXT, TOP_LEVEL, LatentModel
from onnx import numpy_helper
from torch import Tensor, nn

from escort_codec.latent import tables

UNIT = 1 << 12


def _set(part: nn.Module, file: Path) -> None:
    """Weights of an encoder or decoder, in the order of its graph: layer by layer, weight then bias, linear last."""
    held = [
        numpy_helper.to_array(each).astype(np.float32)
        for each in onnx.load_from_string(file.read_bytes()).graph.initializer
    ]
    layers = [each for layer in [*part.body, part.linear] for each in (getattr(layer, "inside", None) or [layer])]
    for number, layer in enumerate(layers):
        weight, bias = torch.from_numpy(held[2 * number]), torch.from_numpy(held[2 * number + 1])
        rows, columns = layer.weight.shape[:2]
        layer.weight.copy_(weight[:rows, :columns])  # the file has zeros where a layer does not see the quality
        layer.bias.copy_(bias)


@torch.no_grad()
def load_exported(model: LatentModel, folder: Path) -> None:
    """Sets the model to what the files in ``folder`` hold, but for their rounding."""
    _set(model.encoder, folder / tables.ENCODER)
    _set(model.decoder, folder / tables.DECODER)
    found, at = {}, 0
    data = lzma.decompress((folder / tables.FILE).read_bytes())
    for name, (form, shape) in tables.ARRAYS.items():
        found[name] = np.frombuffer(data, form, int(np.prod(shape)), at).reshape(shape)
        at += found[name].nbytes

    def real(name: str) -> Tensor:
        return torch.from_numpy(found[name].astype(np.float64) / UNIT).float()

    part = model.entropy
    around = real("neighbours") / torch.cat([torch.full((2 * CHANNELS,), 0.25), torch.ones(1)])[None, :, None]
    own = real("own")
    for tap in range(tables.TAPS):
        part.neighbours.weight[:, :, tap // 5, tap % 5] = around[tap].T
        part.own[:, 0, tap // 5, tap % 5] = own[tap]
    whole = torch.arange(TOP_LEVEL + 1) * (tables.QUALITIES - 1) // TOP_LEVEL  # the qualities that are whole levels
    part.neighbours.bias.zero_()
    part.level.copy_(real("context_bias")[whole].reshape(TOP_LEVEL + 1, CONTEXT))
    part.middle.weight.copy_(real("middle").T[:, :, None, None])
    part.middle.bias.copy_(real("middle_bias"))
    part.middle_here.copy_(real("middle_here").T * 4)
    part.out_context.weight.copy_(real("out_context").T[:, :, None, None])
    bias = real("out_bias")[whole]
    part.out_context.bias.copy_(bias[0])
    part.out_context.bias[CHANNELS:] = 0
    part.level_scale.copy_(bias[:, CHANNELS:])
    part.out_here.copy_(real("out_here").T)
    part.earlier_mean.copy_(real("earlier_mean").T)
    part.earlier_scale.copy_(real("earlier_scale").T)
    model.log_gain.copy_(torch.from_numpy(np.log(found["gains"][whole])))
    model.log_step.copy_(torch.from_numpy(np.log(found["steps"][whole])))
