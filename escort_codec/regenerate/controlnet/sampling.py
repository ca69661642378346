"""One batch: noise from seeds, diffusers' pipeline, latents into pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from escort_codec.regenerate.controlnet.loading import Loaded
from escort_codec.regenerate.controlnet.pictures import Picture
from escort_codec.regenerate.controlnet.prompts import Embeddings
from escort_codec.regenerate.controlnet.schedulers import make_scheduler
from escort_codec.regenerate.controlnet.settings import Settings

VAE_BATCH: Final = 8  # images decoded at once: more are no faster and need 1 GB each


def starting_noise(seed: int, channels: int, height: int, width: int) -> torch.Tensor:
    """Standard normal noise, float32 of shape (1, channels, height, width), from a CPU generator of its own.

    It depends on the seed and the shape alone: not on the batch, the order, the device, the dtype or the process.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn((1, channels, height, width), generator=generator, dtype=torch.float32)


@torch.no_grad()
def sample(loaded: Loaded, embeddings: Embeddings, settings: Settings, pictures: list[Picture]) -> torch.Tensor:
    """The batch's final latents (B, 4, H/8, W/8), by diffusers' pipeline."""
    arguments = call_arguments(loaded, embeddings, settings, pictures)
    pipeline = loaded.pipeline if settings.hint_strength is None else loaded.image_to_image
    pipeline.scheduler = make_scheduler(settings.scheduler, loaded.trained)
    latents: torch.Tensor = pipeline(**arguments).images
    return latents


def warm_up(loaded: Loaded, embeddings: Embeddings, settings: Settings, pictures: list[Picture]) -> None:
    """As ``sample`` and ``decode`` with the fewest steps, the result thrown away: allocates, and compiles."""
    least = 1 if settings.hint_strength is None else int(np.ceil(1 / settings.hint_strength))
    decode(loaded, sample(loaded, embeddings, replace(settings, steps=least), pictures))


def call_arguments(
    loaded: Loaded, embeddings: Embeddings, settings: Settings, pictures: list[Picture]
) -> dict[str, Any]:
    """What the pipeline is called with."""
    device = loaded.device
    height, width = settings.size
    factor = loaded.pipeline.vae_scale_factor
    channels = loaded.pipeline.vae.config.latent_channels
    prompts, pooled = embeddings.batch([picture.prompt for picture in pictures])
    noise = torch.cat([starting_noise(p.seed, channels, height // factor, width // factor) for p in pictures])
    noise = noise.to(device=device, dtype=loaded.dtype)
    control = _unit_range([picture.control for picture in pictures], device)
    arguments: dict[str, Any] = {
        "prompt_embeds": prompts,
        "height": height,
        "width": width,
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance,
        "controlnet_conditioning_scale": settings.control_strength,
        "guess_mode": settings.guess,
        "eta": 0.0,
        "output_type": "latent",
    }
    if settings.guidance > 1:  # below, diffusers has no unconditional branch
        negative, negative_pooled = embeddings.batch([picture.negative_prompt for picture in pictures])
        arguments["negative_prompt_embeds"] = negative
        if loaded.xl:
            arguments["negative_pooled_prompt_embeds"] = negative_pooled
    if loaded.xl:
        arguments["pooled_prompt_embeds"] = pooled
    if settings.hint_strength is None:
        return arguments | {"image": control, "latents": noise}
    hints = _unit_range([picture.hint for picture in pictures if picture.hint is not None], device)
    latents = _noisy_hints(loaded, settings, hints, noise)
    return arguments | {
        "image": hints,
        "control_image": control,
        "latents": latents,
        "strength": settings.hint_strength,
    }


@torch.no_grad()
def decode(loaded: Loaded, latents: torch.Tensor) -> tuple[NDArray[np.uint8], list[bool]]:
    """The images, uint8 RGB (B, H, W, 3), and of each whether all of it was finite.

    Pixels are ``127.5 x + 127.5``, clipped and truncated, as in the paper's scripts.
    """
    vae = loaded.pipeline.vae
    images: list[NDArray[np.uint8]] = []
    finite: list[bool] = []
    for part in torch.split(latents, VAE_BATCH):
        pixels = vae.decode(_unscaled(vae, part.to(vae.dtype)), return_dict=False)[0].float()
        finite += torch.isfinite(pixels).flatten(1).all(1).tolist()
        whole = (pixels * 127.5 + 127.5).nan_to_num(0.0).clamp(0, 255).to(torch.uint8)
        images.append(whole.permute(0, 2, 3, 1).contiguous().cpu().numpy())
    return np.concatenate(images), finite


def _unit_range(images: list[NDArray[np.uint8]], device: torch.device) -> torch.Tensor:
    """uint8 (H, W, 3) images as float32 (B, 3, H, W) in 0..1."""
    return torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float() / 255


def _noisy_hints(loaded: Loaded, settings: Settings, hints: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """The hints' latents (the encoder's mode, nothing is drawn) with the noise of the step that img2img begins at."""
    vae = loaded.pipeline.vae
    parts = [vae.encode(part.to(vae.dtype) * 2 - 1).latent_dist.mode() for part in torch.split(hints, VAE_BATCH)]
    latents = _scaled(vae, torch.cat(parts)).to(noise.dtype)
    scheduler = make_scheduler(settings.scheduler, loaded.trained)
    scheduler.set_timesteps(settings.steps, device=loaded.device)
    begin = settings.steps - min(int(settings.steps * (settings.hint_strength or 1)), settings.steps)
    first = scheduler.timesteps[begin * scheduler.order]
    noisy: torch.Tensor = scheduler.add_noise(latents, noise, first.repeat(len(latents)))
    return noisy


def _scaled(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """From what the encoder gives to what the UNet sees."""
    mean, std = _statistics(vae, latents)
    scaled: torch.Tensor = (latents - mean) * vae.config.scaling_factor / std
    return scaled


def _unscaled(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """The inverse of ``_scaled``."""
    mean, std = _statistics(vae, latents)
    unscaled: torch.Tensor = latents * std / vae.config.scaling_factor + mean
    return unscaled


def _statistics(vae: Any, like: torch.Tensor) -> tuple[torch.Tensor | float, torch.Tensor | float]:
    """The latents' mean and standard deviation where the VAE declares them, else 0 and 1."""
    mean, std = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
    if mean is None or std is None:
        return 0.0, 1.0
    return tuple(torch.tensor(v, device=like.device, dtype=like.dtype).view(1, -1, 1, 1) for v in (mean, std))  # type: ignore[return-value]
