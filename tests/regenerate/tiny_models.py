"""Tiny randomly initialised Stable Diffusion models with their ControlNets, saved as folders and as a single file.

They have the real architecture's shape (four levels, two layers a block, so thirteen control residuals) at a
fraction of its width, and are written with diffusers' and transformers' own classes: what loads them loads the real
ones. The ControlNet's zero convolutions are given random weights, or control would have no effect.
"""

from __future__ import annotations

import json
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

WIDTHS = (16, 32, 32, 32)
TEXT_WIDTH = 32


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


def text_config(tokenizer: CLIPTokenizer, **changes: Any) -> CLIPTextConfig:
    values = {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "projection_dim": TEXT_WIDTH,
    }
    return CLIPTextConfig(**(values | changes))


def tiny_vae() -> AutoencoderKL:
    blocks = len(WIDTHS)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
    )


def tiny_unet(**changes: Any) -> UNet2DConditionModel:
    values: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": WIDTHS,
        "layers_per_block": 2,
        "cross_attention_dim": TEXT_WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**(values | changes))


def tiny_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """The UNet's ControlNet, with weights where a new one has zeros, large enough for edges to be seen."""
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 16, 16))
    for layer in [*net.controlnet_down_blocks, net.controlnet_mid_block]:
        torch.nn.init.normal_(layer.weight, std=0.2)
    embedding = net.controlnet_cond_embedding
    for layer in [embedding.conv_in, *embedding.blocks, embedding.conv_out]:
        torch.nn.init.normal_(layer.weight, std=0.2)
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


def write_sd(folder: Path, *, seed: int = 0) -> None:
    """``folder/model`` (Stable Diffusion 1.x's layout) and ``folder/controlnet``."""
    torch.manual_seed(seed)
    tokenizer = write_tokenizer(folder / "model" / "tokenizer")
    unet = tiny_unet()
    pipeline = StableDiffusionPipeline(
        vae=tiny_vae(),
        text_encoder=CLIPTextModel(text_config(tokenizer)),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=sd_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "model")
    tiny_controlnet(unet).save_pretrained(folder / "controlnet")


def write_sdxl(folder: Path, *, seed: int = 0) -> None:
    """``folder/model`` (Stable Diffusion XL's layout: two text encoders, size embeddings) and ``folder/controlnet``."""
    torch.manual_seed(seed)
    tokenizer = write_tokenizer(folder / "model" / "tokenizer")
    unet = tiny_unet(
        block_out_channels=WIDTHS[:3],
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * 6 + TEXT_WIDTH,
        cross_attention_dim=2 * TEXT_WIDTH,
    )
    pipeline = StableDiffusionXLPipeline(
        vae=tiny_vae(),
        text_encoder=CLIPTextModel(text_config(tokenizer)),
        text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer, hidden_act="gelu")),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=sd_scheduler(),
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder / "model")
    tiny_controlnet(unet).save_pretrained(folder / "controlnet")
