"""One batch: text embeddings, the samplers, noise from seeds, diffusers' pipeline, latents into pixels."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from numpy.typing import NDArray

from escort_codec.regenerate.controlnet.loading import DiffusionModel, quiet_libraries
from escort_codec.regenerate.controlnet.resolve import GenerationSettings, ModelInput

VAE_BATCH: Final = 8
"""Images decoded at once: more are no faster and need 1 GB each."""

EMBEDDINGS: Final = 16_384
"""Embeddings that are kept: 2 GB of Stable Diffusion 1's in half precision if all prompts differ."""

NOISE: Final[dict[str, Any]] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
"""The noise schedule of Stable Diffusion 1, 2 and XL (Rombach et al. 2022): sqrt(beta) is linear in t."""


class _ControlNetDDIM(DDIMScheduler):  # type: ignore[misc]  # diffusers has no types
    """DDIM whose steps begin at pure noise for any number of steps, as those of ControlNet's own sampler do.

    A step is 1000 // n wide. If n does not divide 1000, diffusers makes n of them and begins far below the noise that
    it is given (at 667 of 1000 for n = 334); ControlNet goes on to the top, in some more steps.
    """

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """The timesteps 1, 1 + width, ... below 1000, the largest first."""
        super().set_timesteps(num_inference_steps, device)
        width = self.config.num_train_timesteps // num_inference_steps
        self.timesteps = torch.arange(1, self.config.num_train_timesteps, width).flip(0).to(device)


def make_scheduler(name: str, trained: Any = None) -> Any:
    """A fresh sampler: ``ddim``, ``unipc`` or ``dpm++``. One is made for each batch, as some keep state.

    ``trained`` is the model's own scheduler configuration (a mapping): what the network predicts (epsilon or v) and
    whether its schedule ends in pure noise are properties of the weights and come from it; all else is fixed here.

    - ``ddim``: eta 0, no clipping, timesteps 'leading' with offset 1, the last step's alpha that of t = 0: what
      ControlNet's own sampler does (``ddim_hacked.py``, ``make_ddim_timesteps("uniform")``). See ``_ControlNetDDIM``.
    - ``unipc``: UniPC of order 2, B2(h) (Zhao et al. 2023), 'linspace' timesteps.
    - ``dpm++``: DPM-Solver++(2M) (Lu et al. 2022), 'linspace' timesteps.
    """
    values = dict(NOISE)
    if trained is not None:
        values["prediction_type"] = trained.get("prediction_type", "epsilon")
        values["rescale_betas_zero_snr"] = trained.get("rescale_betas_zero_snr", False)
    if name == "ddim":
        return _ControlNetDDIM(
            **values, clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading"
        )
    if name == "unipc":
        return UniPCMultistepScheduler(**values, solver_order=2, timestep_spacing="linspace")
    if name == "dpm++":
        return DPMSolverMultistepScheduler(
            **values, algorithm_type="dpmsolver++", solver_order=2, timestep_spacing="linspace"
        )
    raise ValueError(f"no scheduler {name!r}")


@dataclass(frozen=True, slots=True)
class Embedding:
    """One prompt's hidden states (1, tokens, width) and, for XL, its pooled state (1, width); on the CPU."""

    hidden: torch.Tensor
    pooled: torch.Tensor | None


class Embeddings:
    """Embeds prompts one by one, so that an embedding does not depend on the others, and keeps them.

    Text beyond CLIP's 77 tokens is cut off, as in diffusers and in the paper's scripts.
    """

    def __init__(self, model: DiffusionModel) -> None:
        self._model = model
        self._kept: OrderedDict[tuple[str, torch.dtype], Embedding] = OrderedDict()

    def of(self, prompt: str) -> Embedding:
        """The embedding of a prompt in the model's current dtype."""
        key = (prompt, self._model.dtype)
        found = self._kept.get(key)
        if found is None:
            found = self._embed(prompt)
            self._kept[key] = found
            if len(self._kept) > EMBEDDINGS:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found

    def batch(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The hidden states (B, tokens, width) and pooled states (B, width) or None of B prompts, on the device."""
        found = [self.of(prompt) for prompt in prompts]
        device = self._model.device
        pooled = [embedding.pooled for embedding in found if embedding.pooled is not None]
        hidden = torch.cat([embedding.hidden for embedding in found]).to(device)
        return hidden, torch.cat(pooled).to(device) if pooled else None

    @torch.no_grad()
    def _embed(self, prompt: str) -> Embedding:
        with quiet_libraries():  # they warn of long prompts
            states = self._model.pipeline.encode_prompt(
                [prompt], device=self._model.device, num_images_per_prompt=1, do_classifier_free_guidance=False
            )
        pooled = states[2].cpu() if self._model.xl else None
        return Embedding(states[0].cpu(), pooled)


def starting_noise(seed: int, channels: int, height: int, width: int) -> torch.Tensor:
    """Standard normal noise, float32 of shape (1, channels, height, width), from a CPU generator of its own.

    It depends on the seed and the shape alone: not on the batch, the order, the device, the dtype or the process.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn((1, channels, height, width), generator=generator, dtype=torch.float32)


@torch.no_grad()
def sample(
    model: DiffusionModel, embeddings: Embeddings, settings: GenerationSettings, inputs: list[ModelInput]
) -> torch.Tensor:
    """The batch's final latents (B, 4, H/8, W/8), from diffusers' pipeline."""
    arguments = call_arguments(model, embeddings, settings, inputs)
    pipeline = model.pipeline if settings.hint_strength is None else model.image_to_image
    pipeline.scheduler = make_scheduler(settings.scheduler, model.trained)
    latents: torch.Tensor = pipeline(**arguments).images
    return latents


def warm_up(
    model: DiffusionModel, embeddings: Embeddings, settings: GenerationSettings, inputs: list[ModelInput]
) -> None:
    """``sample`` and ``decode`` with as few steps as possible, to allocate and compile; the result is dropped."""
    least = 1 if settings.hint_strength is None else int(np.ceil(1 / settings.hint_strength))
    decode(model, sample(model, embeddings, replace(settings, steps=least), inputs))


def call_arguments(
    model: DiffusionModel, embeddings: Embeddings, settings: GenerationSettings, inputs: list[ModelInput]
) -> dict[str, Any]:
    """The arguments of the pipeline's call."""
    device = model.device
    height, width = settings.size
    factor = model.pipeline.vae_scale_factor
    channels = model.pipeline.vae.config.latent_channels
    prompts, pooled = embeddings.batch([item.prompt for item in inputs])
    noise = torch.cat([starting_noise(item.seed, channels, height // factor, width // factor) for item in inputs])
    noise = noise.to(device=device, dtype=model.dtype)
    control = _unit_range([item.control for item in inputs], device)
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
        negative, negative_pooled = embeddings.batch([item.negative_prompt for item in inputs])
        arguments["negative_prompt_embeds"] = negative
        if model.xl:
            arguments["negative_pooled_prompt_embeds"] = negative_pooled
    if model.xl:
        arguments["pooled_prompt_embeds"] = pooled
    if settings.hint_strength is None:
        return arguments | {"image": control, "latents": noise}
    hints = _unit_range([item.hint for item in inputs if item.hint is not None], device)
    latents = _noisy_hints(model, settings, hints, noise)
    return arguments | {
        "image": hints,
        "control_image": control,
        "latents": latents,
        "strength": settings.hint_strength,
    }


@torch.no_grad()
def decode(model: DiffusionModel, latents: torch.Tensor) -> tuple[NDArray[np.uint8], list[bool]]:
    """The images, uint8 RGB (B, H, W, 3), and for each whether all its values were finite.

    Pixels are ``127.5 x + 127.5``, clipped and truncated, as in the paper's scripts.
    """
    vae = model.pipeline.vae
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


def _noisy_hints(
    model: DiffusionModel, settings: GenerationSettings, hints: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """The hints' latents (the encoder's mode, not a sample) with the noise of img2img's first step."""
    vae = model.pipeline.vae
    parts = [vae.encode(part.to(vae.dtype) * 2 - 1).latent_dist.mode() for part in torch.split(hints, VAE_BATCH)]
    latents = _scaled(vae, torch.cat(parts)).to(noise.dtype)
    scheduler = make_scheduler(settings.scheduler, model.trained)
    scheduler.set_timesteps(settings.steps, device=model.device)
    begin = settings.steps - min(int(settings.steps * (settings.hint_strength or 1)), settings.steps)
    first = scheduler.timesteps[begin * scheduler.order]
    noisy: torch.Tensor = scheduler.add_noise(latents, noise, first.repeat(len(latents)))
    return noisy


def _scaled(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """From the encoder's output to the UNet's input."""
    mean, std = _statistics(vae, latents)
    scaled: torch.Tensor = (latents - mean) * vae.config.scaling_factor / std
    return scaled


def _unscaled(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """The inverse of ``_scaled``."""
    mean, std = _statistics(vae, latents)
    unscaled: torch.Tensor = latents * std / vae.config.scaling_factor + mean
    return unscaled


def _statistics(vae: Any, like: torch.Tensor) -> tuple[torch.Tensor | float, torch.Tensor | float]:
    """The latents' mean and standard deviation if the VAE declares them, else 0 and 1."""
    mean, std = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
    if mean is None or std is None:
        return 0.0, 1.0
    return tuple(torch.tensor(v, device=like.device, dtype=like.dtype).view(1, -1, 1, 1) for v in (mean, std))  # type: ignore[return-value]
