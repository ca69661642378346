"""A model folder with its ControlNet as one file in the published checkpoints' layout (``control_sd15_canny.pth``).

The inverse of what diffusers does on ``from_single_file``: names as in ldm and ControlNet 1.0's own code.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Weights = dict[str, torch.Tensor]

LAYERS = 2
LEVELS = 4

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "controlnet_mid_block": "middle_block_out.0",
    "controlnet_cond_embedding.conv_in": "input_hint_block.0",
    "controlnet_cond_embedding.conv_out": "input_hint_block.14",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def write_single_file(models: Path, folder: Path, name: str) -> Path:
    """``folder/name`` (.safetensors or .pth) of ``models/model`` and ``models/controlnet``, with the configurations
    that ``from_single_file`` would otherwise fetch beside it."""
    weights: Weights = {}
    for part, prefix, rename in (
        ("model/unet", "model.diffusion_model.", unet_key),
        ("controlnet", "control_model.", unet_key),
        ("model/vae", "first_stage_model.", vae_key),
    ):
        found = load_file(models / part / "diffusion_pytorch_model.safetensors")
        if part == "model/vae":
            found = {key: as_convolution(key, value) for key, value in found.items()}
        weights |= {prefix + rename(key): value for key, value in found.items()}
    text = load_file(models / "model" / "text_encoder" / "model.safetensors")
    prefix = "cond_stage_model.transformer.text_model."
    weights |= {prefix + key.removeprefix("text_model."): value for key, value in text.items()}
    shutil.copytree(models / "model", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copytree(models / "controlnet", folder / "controlnet", ignore=shutil.ignore_patterns("*.safetensors"))
    path = folder / name
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in weights.items()}, path)
    else:
        torch.save({"state_dict": weights}, path)
    return path


def unet_key(key: str) -> str:
    """The ldm name of a weight of the UNet or of the ControlNet."""
    stem, _, kind = key.rpartition(".")
    if stem in ENDS:
        return f"{ENDS[stem]}.{kind}"
    if match := re.fullmatch(r"controlnet_down_blocks\.(\d+)", stem):
        return f"zero_convs.{match[1]}.0.{kind}"
    if match := re.fullmatch(r"controlnet_cond_embedding\.blocks\.(\d+)", stem):
        return f"input_hint_block.{2 * int(match[1]) + 2}.{kind}"
    if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", stem):
        at = 1 if match[1] == "attentions" else 2 * int(match[2])
        return f"middle_block.{at}.{inner(match[1], match[3])}.{kind}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", stem)
    assert match, key
    side, block, sort, layer, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    if sort == "downsamplers":
        return f"input_blocks.{(block + 1) * (LAYERS + 1)}.0.op.{kind}"
    if sort == "upsamplers":
        at = 1 if block == 0 else 2  # the deepest level has no attention
        return f"output_blocks.{block * (LAYERS + 1) + LAYERS}.{at}.conv.{kind}"
    at = layer + block * (LAYERS + 1) + (1 if side == "down" else 0)
    blocks = "input_blocks" if side == "down" else "output_blocks"
    return f"{blocks}.{at}.{1 if sort == 'attentions' else 0}.{inner(sort, rest)}.{kind}"


def inner(sort: str, rest: str) -> str:
    return RESNET[rest] if sort == "resnets" else rest


def vae_key(key: str) -> str:
    """The ldm name of a weight of the VAE."""
    key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    if match := re.fullmatch(r"(.*)mid_block\.attentions\.0\.(.*)\.(\w+)", key):
        return f"{match[1]}mid.attn_1.{ATTENTION[match[2]]}.{match[3]}"
    key = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    key = re.sub(r"down_blocks\.(\d+)", r"down.\1", key)
    key = re.sub(r"up_blocks\.(\d+)", lambda m: f"up.{LEVELS - 1 - int(m[1])}", key)
    return key.replace("resnets", "block").replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")


def as_convolution(key: str, value: torch.Tensor) -> torch.Tensor:
    """The VAE's attention is of 1 x 1 convolutions there."""
    return value[:, :, None, None] if "mid_block.attentions" in key and "to_" in key and value.ndim == 2 else value
