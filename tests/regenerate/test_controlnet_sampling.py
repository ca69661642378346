"""What diffusers is called with, and that its own pipeline gives the same image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from escort_codec.errors import UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.hint import decode_hint, encode_hint
from escort_codec.recipe import Recipe
from escort_codec.regenerate.base import Job
from escort_codec.regenerate.controlnet.loading import DiffusionModel, load, quiet_libraries
from escort_codec.regenerate.controlnet.models import ModelChoice
from escort_codec.regenerate.controlnet.options import MOST_STEPS, ControlNetOptions
from escort_codec.regenerate.controlnet.presets import enlarged_hint, guess_scales
from escort_codec.regenerate.controlnet.regenerator import ControlNetRegenerator
from escort_codec.regenerate.controlnet.resolve import GenerationSettings, ModelInput, prepare, resolve
from escort_codec.regenerate.controlnet.sampling import (
    Embeddings,
    call_arguments,
    decode,
    make_scheduler,
    sample,
    starting_noise,
)

# diffusers' UniPC gives a tensor to np.array in a way that NumPy 2 is to refuse one day
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

CPU = torch.device("cpu")
TOLERANCE = 2e-5  # of latents of about unit size: other batch shapes, other sums


def choice_of(folder: Path, dtype: str = "fp32") -> ModelChoice:
    return ModelChoice(str(folder / "model"), None, str(folder / "controlnet"), None, dtype)


@pytest.fixture(scope="module")
def sd(tiny_sd: Path) -> Iterator[DiffusionModel]:
    loaded = load(choice_of(tiny_sd), CPU)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def sdxl(tiny_sdxl: Path) -> Iterator[DiffusionModel]:
    loaded = load(choice_of(tiny_sdxl), CPU)
    yield loaded
    loaded.close()


def exemplar(number: int = 0, prompt: str = "cat", hint: bool = False, recipe: Recipe | None = None) -> Exemplar:
    random = np.random.default_rng(number)
    colours = random.integers(0, 255, (60, 80, 3), dtype=np.uint8)
    return Exemplar.from_edges(
        random.random((60, 80)) < 0.1,
        label="cat",
        name=f"{number}.jpg",
        prompt=prompt,
        hint=encode_hint(colours) if hint else None,
        recipe=recipe,
        coding="packed",
    )


def ready(one: Exemplar, seed: int = 0, **options: Any) -> tuple[GenerationSettings, ModelInput]:
    found = resolve(one, ControlNetOptions(**({"resolution": 64} | options)), lambda: "fp32")
    return found.settings, prepare(Job(one, seed), found)


# the samplers


def alphas_cumprod() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Of the schedule as it is defined: sqrt(beta) linear from sqrt(0.00085) to sqrt(0.012) over 1000 steps."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return np.cumprod(1 - betas)


def test_ddim_timesteps_and_alphas() -> None:
    scheduler = make_scheduler("ddim")
    scheduler.set_timesteps(20)
    assert scheduler.timesteps.tolist() == list(range(951, 0, -50))
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == list(range(981, 0, -20))
    scheduler.set_timesteps(3)
    assert scheduler.timesteps.tolist() == [667, 334, 1]
    scheduler.set_timesteps(334)  # a step of 2: as ControlNet's own sampler, 500 steps
    assert scheduler.timesteps.tolist() == list(range(999, 0, -2))

    alphas = scheduler.alphas_cumprod.numpy()
    assert np.allclose(alphas, alphas_cumprod(), rtol=1e-4)
    assert alphas[0] == pytest.approx(0.99915)
    assert alphas[999] == pytest.approx(0.00466, abs=1e-5)
    assert float(scheduler.final_alpha_cumprod) == alphas[0]
    assert not scheduler.config.clip_sample
    assert (scheduler.config.steps_offset, scheduler.config.timestep_spacing) == (1, "leading")
    assert scheduler.init_noise_sigma == 1.0


@pytest.mark.parametrize("name", sorted(MOST_STEPS))
def test_every_number_of_steps_begins_at_pure_noise_and_stays_finite(name: str) -> None:
    """With few steps DDIM's first one is as far below as a step is wide; diffusers' own begin at 667 for 334."""
    for count in (1, 2, 20, 30, 251, 334, 400, MOST_STEPS[name] - 1, MOST_STEPS[name]):
        scheduler = make_scheduler(name)
        scheduler.set_timesteps(count)
        steps = scheduler.timesteps.tolist()
        assert len(set(steps)) == len(steps) >= count
        assert 999 - 1000 // count <= steps[0] <= 999
        if count < 100 or count == MOST_STEPS[name]:
            x = torch.ones(1, 4, 2, 2)
            for t in scheduler.timesteps:
                x = scheduler.step(0.5 * x, t, x).prev_sample
            assert torch.isfinite(x).all()
    with pytest.raises(UsageError, match="steps"):
        ControlNetOptions(scheduler=name, steps=MOST_STEPS[name] + 1)


@pytest.mark.parametrize(("t", "before"), [(951, 901), (51, 1), (1, 0)])
def test_a_ddim_step_by_hand(t: int, before: int) -> None:
    """x' = sqrt(a') (x - sqrt(1 - a) e) / sqrt(a) + sqrt(1 - a') e, not clipped; the last a' is that of 0."""
    scheduler = make_scheduler("ddim")
    scheduler.set_timesteps(20)
    x, e = 30.0, -0.5
    found = scheduler.step(torch.full((1,), e), t, torch.full((1,), x)).prev_sample
    a, a_before = alphas_cumprod()[t], alphas_cumprod()[before]
    expected = a_before**0.5 * (x - (1 - a) ** 0.5 * e) / a**0.5 + (1 - a_before) ** 0.5 * e
    assert float(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["ddim", "unipc", "dpm++"])
def test_every_sampler_treats_each_image_alone(name: str) -> None:
    """The same steps alone and beside another image, twice: no sampler draws noise or mixes a batch."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn((2, 4, 8, 8), generator=generator)

    def run(x: Any) -> Any:
        scheduler = make_scheduler(name)
        scheduler.set_timesteps(5)
        for t in scheduler.timesteps:
            x = scheduler.step(torch.sin(3 * x), t, x).prev_sample
        return x

    both = run(start)
    assert torch.equal(both, run(start))
    assert torch.equal(both[1:], run(start[1:]))


def test_what_the_model_predicts_is_taken_from_the_model() -> None:
    assert make_scheduler("ddim", {"prediction_type": "v_prediction"}).config.prediction_type == "v_prediction"
    # the noise schedule of a folder that declares another one is not
    assert make_scheduler("ddim", {"beta_start": 0.5}).config.beta_start == 0.00085


# noise


def test_starting_noise_is_one_generator_a_seed() -> None:
    expected = torch.randn((1, 4, 8, 10), generator=torch.Generator().manual_seed(4_294_967_295))
    assert torch.equal(starting_noise(4_294_967_295, 4, 8, 10), expected)
    assert not torch.equal(starting_noise(0, 4, 8, 10), starting_noise(1, 4, 8, 10))


# what the pipeline is called with


@pytest.fixture
def calls(sd: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every call of the pipeline; what it gives back are the latents that it was given."""
    seen: list[dict[str, Any]] = []

    def record(self: Any, **arguments: Any) -> Any:
        seen.append(arguments | {"scheduler": self.scheduler})
        return type("Output", (), {"images": arguments["latents"]})()

    monkeypatch.setattr(type(sd.pipeline), "__call__", record)
    return seen


def embedded(loaded: DiffusionModel, text: str) -> Any:
    tokens = loaded.pipeline.tokenizer(
        [text], padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        return loaded.pipeline.text_encoder(tokens)[0]


def test_the_hires_call(tiny_sd: Path, calls: list[dict[str, Any]]) -> None:
    jobs = [Job(exemplar(0, "cat"), 3), Job(exemplar(1, "dog"), 5)]
    options = ControlNetOptions(model=str(tiny_sd / "model"), controlnet=str(tiny_sd / "controlnet"), device="cpu")
    with ControlNetRegenerator(options) as regenerator:
        results = list(regenerator.regenerate(jobs))
        loaded = regenerator.session._in_use()[0]
        (call,) = calls
        assert call["num_inference_steps"] == 20
        assert call["guidance_scale"] == 9.0
        assert call["controlnet_conditioning_scale"] == 1.0
        assert call["guess_mode"] is False
        assert call["eta"] == 0.0
        assert (call["height"], call["width"]) == (512, 704)  # 60 x 80: 682.7 / 64 = 10.67
        assert type(call["scheduler"]).__name__ == "_ControlNetDDIM"
        for row, job in enumerate(jobs):
            prompt = f"{job.exemplar.prompt}, best quality, extremely detailed"
            assert torch.equal(call["prompt_embeds"][row : row + 1], embedded(loaded, prompt))
            noise = torch.randn((1, 4, 64, 88), generator=torch.Generator().manual_seed(job.seed))
            assert torch.equal(call["latents"][row : row + 1], noise)
            enlarged = job.exemplar.edges[np.arange(512) * 60 // 512][:, np.arange(704) * 80 // 704]
            control = call["image"][row].numpy()
            assert control.shape == (3, 512, 704)
            assert (control == enlarged).all()
        negative = (
            "longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, fewer digits, cropped, "
            "worst quality, low quality"
        )
        assert torch.equal(call["negative_prompt_embeds"], torch.cat([embedded(loaded, negative)] * 2))
    assert all(result.image is not None and result.image.shape == (60, 80, 3) for result in results)


def test_the_lowres_and_the_guess_calls(sd: DiffusionModel) -> None:
    embeddings = Embeddings(sd)
    settings, picture = ready(exemplar(recipe=Recipe(preset="lowres")), resolution=None)
    call = call_arguments(sd, embeddings, settings, [picture])
    assert (call["num_inference_steps"], call["guidance_scale"], call["guess_mode"]) == (50, 9.0, False)
    assert (call["height"], call["width"]) == (256, 320)  # 341.3 / 64 = 5.33
    assert torch.equal(call["prompt_embeds"], embedded(sd, "cat, clean, clear, bright, neat"))
    assert torch.equal(call["negative_prompt_embeds"], embedded(sd, "blurry, dark, messy, dotted"))
    settings, picture = ready(exemplar(prompt=""))
    call = call_arguments(sd, embeddings, settings, [picture])
    assert (call["num_inference_steps"], call["guidance_scale"], call["guess_mode"]) == (50, 4.5, True)
    assert torch.equal(call["prompt_embeds"], embedded(sd, ", best quality, extremely detailed"))


def test_each_distinct_prompt_is_embedded_once(sd: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = Embeddings(sd)
    seen: list[str] = []
    real = sd.pipeline.encode_prompt

    def encode(prompts: list[str], **more: Any) -> Any:
        seen.extend(prompts)
        return real(prompts, **more)

    monkeypatch.setattr(sd.pipeline, "encode_prompt", encode)
    for number in range(4):
        settings, picture = ready(exemplar(number, prompt="dog" if number % 2 else "cat"), seed=number)
        call_arguments(sd, embeddings, settings, [picture, picture])
    assert len(seen) == len(set(seen)) == 3  # two prompts and one negative prompt


# diffusers' own way


def test_the_batch_is_what_diffusers_makes_one_by_one(sd: DiffusionModel, tiny_sd: Path) -> None:
    """diffusers' pipeline as anybody would call it, with texts, images and a generator, against a batch of ours."""
    from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline
    from PIL import Image

    with quiet_libraries():
        theirs = StableDiffusionControlNetPipeline.from_pretrained(
            tiny_sd / "model",
            controlnet=ControlNetModel.from_pretrained(tiny_sd / "controlnet"),
            safety_checker=None,
            requires_safety_checker=False,
        )
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config, clip_sample=False)
    theirs.set_progress_bar_config(disable=True)
    ours = [ready(exemplar(number, prompt), seed, steps=3) for number, prompt, seed in [(0, "cat", 7), (1, "dog", 8)]]
    settings = ours[0][0]
    latents = sample(sd, Embeddings(sd), settings, [picture for _, picture in ours])
    images, finite = decode(sd, latents)
    assert finite == [True, True]
    for row, (_, picture) in enumerate(ours):
        arguments = {
            "prompt": picture.prompt,
            "negative_prompt": picture.negative_prompt,
            "image": Image.fromarray(picture.control),
            "num_inference_steps": 3,
            "guidance_scale": 9.0,
        }
        expected = theirs(**arguments, generator=torch.Generator().manual_seed(picture.seed), output_type="latent")
        assert torch.allclose(latents[row], expected.images[0], atol=TOLERANCE * float(expected.images.abs().max()))
        pixels = theirs(**arguments, generator=torch.Generator().manual_seed(picture.seed), output_type="np").images
        # they round, the paper's scripts and ours truncate
        assert np.abs(images[row].astype(int) - np.floor(pixels[0] * 255)).max() <= 1


def test_xl_is_what_diffusers_makes(sdxl: DiffusionModel, tiny_sdxl: Path) -> None:
    from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionXLControlNetPipeline
    from PIL import Image

    assert sdxl.xl
    with quiet_libraries():
        theirs = StableDiffusionXLControlNetPipeline.from_pretrained(
            tiny_sdxl / "model", controlnet=ControlNetModel.from_pretrained(tiny_sdxl / "controlnet")
        )
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config, clip_sample=False)
    theirs.set_progress_bar_config(disable=True)
    settings, picture = ready(exemplar(), 7, steps=2)
    latents = sample(sdxl, Embeddings(sdxl), settings, [picture, picture])
    expected = theirs(
        picture.prompt,
        negative_prompt=picture.negative_prompt,
        image=Image.fromarray(picture.control),
        num_inference_steps=2,
        guidance_scale=9.0,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).images
    assert torch.allclose(latents[1:], expected, atol=TOLERANCE * float(expected.abs().max()))


# guess mode


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_guess_mode_is_the_papers(sd: DiffusionModel, monkeypatch: pytest.MonkeyPatch, strength: float) -> None:
    """The unconditional half sees no control; the other half's residuals are weakened by 0.825 ** (12 - i)."""
    from diffusers import ControlNetModel

    seen: list[tuple[Any, dict[str, Any], tuple[Any, Any]]] = []
    plain: list[tuple[Any, dict[str, Any]]] = []
    unet, controlnet = sd.pipeline.unet, sd.pipeline.controlnet
    forward, net_forward = unet.forward, controlnet.forward

    def watch_unet(x: Any, t: Any, **more: Any) -> Any:
        seen.append((x, more, plain[-1]))
        return forward(x, t, **more)

    def watch_net(x: Any, t: Any, **more: Any) -> Any:
        unscaled = more | {"guess_mode": False, "conditioning_scale": 1.0}
        plain.append((x, ControlNetModel.forward(controlnet, x, t, **unscaled)))
        return net_forward(x, t, **more)

    monkeypatch.setattr(unet, "forward", watch_unet)
    monkeypatch.setattr(controlnet, "forward", watch_net)
    settings, picture = ready(exemplar(prompt=""), steps=1, control_strength=strength)
    sample(sd, Embeddings(sd), settings, [picture])
    ((x, more, (net_x, (down, mid))),) = seen
    assert len(x) == 2
    assert len(net_x) == 1  # the control network runs for the conditional half alone
    residuals = [*more["down_block_additional_residuals"], more["mid_block_additional_residual"]]
    assert len(residuals) == 13
    for residual, raw, scale in zip(residuals, [*down, mid], guess_scales(13, strength), strict=True):
        assert not residual[0].any()
        assert raw[0].any()
        assert torch.allclose(residual[1], raw[0] * scale)


def test_guess_mode_is_batched(sd: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images at once, the control network run for the conditional half of each, and the same as one by one."""
    ready_ones = [ready(exemplar(number, prompt=""), seed=number, steps=2) for number in range(3)]
    settings = ready_ones[0][0]
    pictures = [picture for _, picture in ready_ones]
    alone = [sample(sd, Embeddings(sd), settings, [picture]) for picture in pictures]
    seen: list[tuple[int, int]] = []
    forward, net_forward = sd.pipeline.unet.forward, sd.pipeline.controlnet.forward
    controlled: list[int] = []

    def watch_unet(x: Any, t: Any, **more: Any) -> Any:
        seen.append((len(x), controlled[-1]))
        return forward(x, t, **more)

    def watch_net(x: Any, t: Any, **more: Any) -> Any:
        controlled.append(len(x))
        return net_forward(x, t, **more)

    monkeypatch.setattr(sd.pipeline.unet, "forward", watch_unet)
    monkeypatch.setattr(sd.pipeline.controlnet, "forward", watch_net)
    together = sample(sd, Embeddings(sd), settings, pictures)
    assert seen == [(6, 3)] * 2
    for one, expected in zip(together, torch.cat(alone), strict=True):
        assert torch.allclose(one, expected, atol=TOLERANCE * float(expected.abs().max()))


def test_pixels_are_decoded_in_parts_of_eight(sd: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = torch.randn((10, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    sizes: list[int] = []
    forward = sd.pipeline.vae.decode

    def watch(part: Any, **more: Any) -> Any:
        sizes.append(len(part))
        return forward(part, **more)

    monkeypatch.setattr(sd.pipeline.vae, "decode", watch)
    images, finite = decode(sd, latents)
    assert sizes == [8, 2]
    assert finite == [True] * 10
    alone = decode(sd, latents[9:])[0]
    assert np.abs(images[9].astype(int) - alone[0]).max() <= 1


def test_without_guess_mode_both_halves_are_controlled(sd: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    forward = sd.pipeline.unet.forward

    def watch(x: Any, t: Any, **more: Any) -> Any:
        seen.append(more)
        return forward(x, t, **more)

    monkeypatch.setattr(sd.pipeline.unet, "forward", watch)
    settings, picture = ready(exemplar(), steps=1)
    sample(sd, Embeddings(sd), settings, [picture])
    assert all(residual[0].any() and residual[1].any() for residual in seen[0]["down_block_additional_residuals"])


# the hint


@pytest.mark.parametrize("scheduler", ["ddim", "unipc", "dpm++"])
def test_the_hint_is_where_img2img_begins(sd: DiffusionModel, scheduler: str) -> None:
    """The same as diffusers' image-to-image pipeline from those latents; its weights are the loaded ones."""
    one = exemplar(hint=True)
    settings, picture = ready(one, 3, use_hint=True, hint_strength=0.5, steps=4, scheduler=scheduler)
    assert picture.hint is not None
    assert one.hint is not None
    assert (picture.hint == enlarged_hint(decode_hint(one.hint), (64, 64))).all()
    call = call_arguments(sd, Embeddings(sd), settings, [picture])
    assert call["strength"] == 0.5
    assert np.allclose(call["image"][0].numpy() * 255, picture.hint.transpose(2, 0, 1), atol=1e-3)
    assert np.allclose(call["control_image"][0].numpy() * 255, picture.control.transpose(2, 0, 1))
    # 4 steps at strength 0.5: the last two, so the noise is that of the third timestep
    steps = make_scheduler(scheduler)
    steps.set_timesteps(4)
    t = int(steps.timesteps[2])
    with torch.no_grad():
        clean = sd.pipeline.vae.encode(call["image"] * 2 - 1).latent_dist.mode() * 0.18215
    a = alphas_cumprod()[t]
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(3))
    assert torch.allclose(call["latents"], a**0.5 * clean + (1 - a) ** 0.5 * noise, atol=2e-3)
    assert sd.image_to_image.unet is sd.pipeline.unet
    assert sd.image_to_image.vae is sd.pipeline.vae
    assert type(sd.image_to_image).__name__ == "StableDiffusionControlNetImg2ImgPipeline"
    seen: list[int] = []
    sd.pipeline.unet.register_forward_pre_hook(lambda module, inputs: seen.append(int(inputs[1])))
    latents = sample(sd, Embeddings(sd), settings, [picture])
    sd.pipeline.unet._forward_pre_hooks.clear()
    assert seen == [int(t) for t in steps.timesteps[2:]]
    assert torch.isfinite(latents).all()


def test_xl_has_a_hint_path_too(sdxl: DiffusionModel) -> None:
    settings, picture = ready(exemplar(hint=True), 3, use_hint=True, steps=2)
    with_hint = sample(sdxl, Embeddings(sdxl), settings, [picture])
    assert type(sdxl.image_to_image).__name__ == "StableDiffusionXLControlNetImg2ImgPipeline"
    assert torch.isfinite(with_hint).all()
    plain, bare = ready(exemplar(hint=True), 3, steps=2)
    assert not torch.allclose(with_hint, sample(sdxl, Embeddings(sdxl), plain, [bare]))
