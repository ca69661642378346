"""Randomly initialised Stable Diffusion models with their ControlNets, saved as folders; for tests and benchmarks.

They have the real architecture's shape (four levels, two layers a block, so thirteen control residuals), at its width
or a fraction of it, and are written with diffusers' and transformers' own classes: what loads them loads the real
ones. The ControlNet's zero convolutions are given random weights, or control would have no effect.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer


@dataclass(frozen=True, slots=True)
class Scale:
    """Channels a level of the UNet and of the VAE, and the text encoder's width and layers."""

    unet: tuple[int, int, int, int]
    unet_groups: int
    heads: int
    vae: tuple[int, int, int, int]
    vae_groups: int
    vae_layers: int
    embedding: tuple[int, int, int, int]
    text_width: int
    text_layers: int
    text_heads: int


TINY = Scale((16, 32, 32, 32), 8, 2, (8, 8, 16, 16), 4, 1, (8, 8, 16, 16), 32, 2, 2)
SMALL = Scale((64, 128, 256, 256), 32, 8, (32, 64, 128, 128), 32, 2, (16, 32, 96, 256), 192, 4, 4)
REAL = Scale((320, 640, 1280, 1280), 32, 8, (128, 256, 512, 512), 32, 2, (16, 32, 96, 256), 768, 12, 12)
"""Stable Diffusion 1.5's own."""


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer of single bytes, no merges: any text has tokens."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in visible]
    letters = [chr(b) for b in visible] + [chr(256 + i) for i in range(len(hidden))]
    vocab = {token: i for i, token in enumerate([*letters, *(letter + "</w>" for letter in letters)])}
    vocab |= {"<|startoftext|>": len(vocab), "<|endoftext|>": len(vocab) + 1}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    return tokenizer


def text_config(tokenizer: CLIPTokenizer, scale: Scale, **changes: Any) -> CLIPTextConfig:
    values = {
        "vocab_size": len(tokenizer),
        "hidden_size": scale.text_width,
        "intermediate_size": 4 * scale.text_width,
        "num_hidden_layers": scale.text_layers,
        "num_attention_heads": scale.text_heads,
        "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "projection_dim": scale.text_width,
    }
    return CLIPTextConfig(**(values | changes))


def make_vae(scale: Scale) -> AutoencoderKL:
    blocks = len(scale.vae)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=scale.vae,
        layers_per_block=scale.vae_layers,
        latent_channels=4,
        norm_num_groups=scale.vae_groups,
        sample_size=64,
    )


def make_unet(scale: Scale, **changes: Any) -> UNet2DConditionModel:
    values: dict[str, Any] = {
        "sample_size": 64,
        "block_out_channels": scale.unet,
        "layers_per_block": 2,
        "cross_attention_dim": scale.text_width,
        "attention_head_dim": scale.heads,
        "norm_num_groups": scale.unet_groups,
    }
    return UNet2DConditionModel(**(values | changes))


def make_controlnet(unet: UNet2DConditionModel, scale: Scale) -> ControlNetModel:
    """The UNet's ControlNet, with weights where a new one has zeros, large enough for edges to be seen."""
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=scale.embedding)
    embedding = net.controlnet_cond_embedding
    control = [*net.controlnet_down_blocks, net.controlnet_mid_block]
    for layer in [*control, embedding.conv_in, *embedding.blocks, embedding.conv_out]:
        torch.nn.init.normal_(layer.weight, std=0.2 * min(1.0, 32 / layer.in_channels) ** 0.5)
    return net


def sd_scheduler() -> PNDMScheduler:
    """What Stable Diffusion 1.5 is published with."""
    return PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def write_sd(folder: Path, scale: Scale = TINY, *, seed: int = 0) -> None:
    """``folder/model`` (Stable Diffusion 1.x's layout) and ``folder/controlnet``."""
    torch.manual_seed(seed)
    tokenizer = write_tokenizer(folder / "model" / "tokenizer")
    unet = make_unet(scale)
    pipeline = StableDiffusionPipeline(
        vae=make_vae(scale),
        text_encoder=CLIPTextModel(text_config(tokenizer, scale)),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=sd_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "model")
    make_controlnet(unet, scale).save_pretrained(folder / "controlnet")


def write_sdxl(folder: Path, scale: Scale = TINY, *, seed: int = 0) -> None:
    """``folder/model`` (Stable Diffusion XL's layout: two text encoders, size embeddings) and ``folder/controlnet``."""
    torch.manual_seed(seed)
    tokenizer = write_tokenizer(folder / "model" / "tokenizer")
    unet = make_unet(
        scale,
        block_out_channels=scale.unet[:3],
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * 6 + scale.text_width,
        cross_attention_dim=2 * scale.text_width,
    )
    pipeline = StableDiffusionXLPipeline(
        vae=make_vae(scale),
        text_encoder=CLIPTextModel(text_config(tokenizer, scale)),
        text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer, scale, hidden_act="gelu")),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=sd_scheduler(),
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder / "model")
    make_controlnet(unet, scale).save_pretrained(folder / "controlnet")
