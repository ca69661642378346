"""Loading: the base model and its ControlNet in one of diffusers' pipelines, by the model's class."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
import torch._dynamo
import transformers
from diffusers import ControlNetModel

from escort_codec.errors import ModelError
from escort_codec.names import there_is
from escort_codec.regenerate.controlnet.models import (
    DEFAULT_CONTROLNETS,
    DEFAULT_MODEL,
    HUB_ID,
    INDEX,
    Family,
    ModelChoice,
    check_hub_id,
    default_controlnet,
    family_of,
    family_of_index,
    single_file_config,
)
from escort_codec.regenerate.controlnet.presets import guess_scales
from escort_codec.words import first_line

SHAPES: Final = 64
"""Shapes that a network is compiled for at most."""

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class _PaperControlNet(ControlNetModel):  # type: ignore[misc]  # diffusers has no types
    """diffusers' ControlNet with the paper's scales in guess mode: see ``presets.guess_scales``."""

    def forward(self, *args: Any, conditioning_scale: float = 1.0, guess_mode: bool = False, **kwargs: Any) -> Any:
        """(down residuals, middle residual), as diffusers gets them with ``return_dict=False``."""
        if not guess_mode:
            return super().forward(*args, conditioning_scale=conditioning_scale, guess_mode=False, **kwargs)
        down, mid = super().forward(
            *args, conditioning_scale=1.0, guess_mode=False, **(kwargs | {"return_dict": False})
        )
        scales = guess_scales(len(down) + 1, conditioning_scale)
        return [residual * scale for residual, scale in zip(down, scales, strict=False)], mid * scales[-1]


class DiffusionModel:
    """A model on its device. ``pipeline`` starts from noise, ``image_to_image`` from hints, with the same weights."""

    def __init__(self, pipeline: Any, family: Family, dtype: torch.dtype, device: torch.device) -> None:
        self.pipeline: Any = pipeline
        self.family = family
        self.dtype: torch.dtype = dtype
        self.device = device
        self.trained: dict[str, Any] = dict(pipeline.scheduler.config)
        self.compiled: bool = False
        self._image_to_image: Any = None
        self._place()

    @property
    def xl(self) -> bool:
        """Whether it is Stable Diffusion XL."""
        return self.family == "sdxl"

    @property
    def image_to_image(self) -> Any:
        """The pipeline that starts from an image. It shares the first one's parts: nothing is loaded again."""
        if self._image_to_image is None:
            if self.xl:
                kind, extra = diffusers.StableDiffusionXLControlNetImg2ImgPipeline, {"add_watermarker": False}
            else:
                kind = diffusers.StableDiffusionControlNetImg2ImgPipeline
                extra = {"requires_safety_checker": False}
            with quiet_libraries():
                self._image_to_image = kind(**self.pipeline.components, **extra)
            self._image_to_image.set_progress_bar_config(disable=True)
        return self._image_to_image

    def compile(self, backend: str = "inductor") -> None:
        """Compiles the networks in place, for fixed shapes: each size and batch size when it first occurs."""
        for network in (self.pipeline.unet, self.pipeline.controlnet, self.pipeline.vae.decoder):
            network.compile(backend=backend, dynamic=False)
        self.compiled = True

    def many_shapes(self) -> AbstractContextManager[Any]:
        """A block in which a network may be compiled for more shapes than torch's eight."""
        if not self.compiled:
            return nullcontext()
        patch: AbstractContextManager[Any] = torch._dynamo.config.patch(recompile_limit=SHAPES)
        return patch

    @contextmanager
    def not_compiled(self) -> Iterator[None]:
        """A block in which the networks run in eager mode."""
        compiled = self.compiled
        try:
            self.compiled = False
            with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
                yield
        finally:
            self.compiled = compiled

    @contextmanager
    def in_fp32(self) -> Iterator[None]:
        """A block that computes in fp32, not compiled; the weights are the same and come back exactly."""
        dtype = self.dtype
        try:
            self.dtype = torch.float32
            self._place()
            with self.not_compiled():
                yield
        finally:
            self.dtype = dtype
            self._place()

    def close(self) -> None:
        """Frees the weights."""
        self.pipeline = self._image_to_image = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _place(self) -> None:
        pipeline = self.pipeline
        for part in (pipeline.unet, pipeline.controlnet, pipeline.vae, pipeline.text_encoder):
            part.to(device=self.device, dtype=self.dtype)
        if self.xl:
            pipeline.text_encoder_2.to(device=self.device, dtype=self.dtype)
        if self.dtype == torch.float16 and pipeline.vae.config.force_upcast and self.xl:
            pipeline.vae.to(dtype=torch.float32)  # XL's first VAE overflows in fp16
        if self.device.type == "cuda":
            for part in (pipeline.unet, pipeline.controlnet, pipeline.vae):
                part.to(memory_format=torch.channels_last)


def load(choice: ModelChoice, device: torch.device) -> DiffusionModel:
    """Loads the weights of ``choice``, without the safety checker. In folders and on the Hub only safetensors files are
    read, which hold nothing but tensors; a file of weights may be of an older kind, as the user named it.

    Raises ModelError if they are missing or of the wrong kind; its one line says what is missing and how to get it.
    """
    dtype = DTYPES[choice.dtype]
    if device.type == "cuda":
        torch.cuda.set_device(device)  # compiled kernels run on the current device
    with quiet_libraries():
        family = _family(choice.model, choice.model_revision)
        name, revision = choice.controlnet, choice.controlnet_revision
        if name is None:
            name, revision = default_controlnet(choice.model, family), None
            if name == DEFAULT_CONTROLNETS[family]:
                check_hub_id(name, "ControlNet")
        controlnet = _load_controlnet(name, revision, dtype)
        pipeline = _load_pipeline(choice.model, choice.model_revision, family, controlnet, dtype)
        pipeline.set_progress_bar_config(disable=True)
        _check_pair(pipeline.unet, controlnet, choice.model, name)
        try:
            return DiffusionModel(pipeline, family, dtype, device)
        except (RuntimeError, AssertionError) as exc:
            raise ModelError(f"the model cannot be put on {device}: {first_line(exc)}") from exc


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """A block in which diffusers and transformers neither log nor warn nor draw progress bars."""
    shown = [(library.utils.logging, library.utils.logging.get_verbosity()) for library in (diffusers, transformers)]
    bars = [log for log, _ in shown if log.is_progress_bar_enabled()]
    try:
        for log, _ in shown:
            log.set_verbosity_error()
        for log in bars:
            log.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, verbosity in shown:
            log.set_verbosity(verbosity)
        for log in bars:
            log.enable_progress_bar()


def _family(name: str, revision: str | None) -> Family:
    """The model's class; needs only ``model_index.json`` from the Hub."""
    known = family_of(name, revision)
    if known is not None:
        return known
    if Path(name).is_dir():
        raise ModelError(f"the folder {name} holds no model: it has no {INDEX} (diffusers' save_pretrained writes one)")
    from huggingface_hub import hf_hub_download

    with _as_model_error("model", name, revision, "model"):
        index = hf_hub_download(name, INDEX, revision=revision)
    return family_of_index(Path(index), name)


def _load_controlnet(name: str, revision: str | None, dtype: torch.dtype) -> Any:
    with _as_model_error("ControlNet", name, revision, "controlnet"):
        if Path(name).is_file():
            folder = single_file_config(Path(name))
            place = {"config": folder, "subfolder": "controlnet"} if folder else {}
            return _PaperControlNet.from_single_file(name, dtype=dtype, **place)
        return _PaperControlNet.from_pretrained(name, revision=revision, dtype=dtype, use_safetensors=True)


def _load_pipeline(name: str, revision: str | None, family: Family, controlnet: Any, dtype: torch.dtype) -> Any:
    extra: dict[str, Any]
    if family == "sdxl":
        kind, extra = diffusers.StableDiffusionXLControlNetPipeline, {"add_watermarker": False}
    else:
        kind = diffusers.StableDiffusionControlNetPipeline
        extra = {"safety_checker": None, "requires_safety_checker": False, "feature_extractor": None}
    with _as_model_error("model", name, revision, "model"):
        if Path(name).is_file():
            folder = single_file_config(Path(name))
            place = {"config": folder} if folder else {}
            return kind.from_single_file(name, controlnet=controlnet, dtype=dtype, **extra, **place)
        return kind.from_pretrained(
            name, revision=revision, controlnet=controlnet, dtype=dtype, use_safetensors=True, **extra
        )


def _check_pair(unet: Any, controlnet: Any, model: str, name: str) -> None:
    """Raises ModelError if the ControlNet was made for another kind of model."""
    for key in ("cross_attention_dim", "block_out_channels", "layers_per_block", "addition_embed_type"):
        if unet.config[key] != controlnet.config[key]:
            raise ModelError(
                f"the ControlNet {name} is not for {model}: its {key} is {controlnet.config[key]}, the model's "
                f"{unet.config[key]}; choose a `controlnet` made for this kind of model"
            )


@contextmanager
def _as_model_error(what: str, name: str, revision: str | None, option: str) -> Iterator[None]:
    """Turns the libraries' errors into one line: what is missing, where it was searched, and how to get it."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as exc:  # the libraries raise OSError, ValueError, HTTP errors and more
        if Path(name).is_file() and single_file_config(Path(name)) is None:
            raise ModelError(_unread_file(what, name, exc)) from exc
        if there_is(name):
            raise ModelError(f"the {what} {name} cannot be loaded: {first_line(exc)}") from exc
        raise ModelError(_missing(what, name, revision, option, exc)) from exc


def _unread_file(what: str, name: str, exc: Exception) -> str:
    """For a single file of weights: most often its configurations are missing."""
    get = (
        f'\'hf download {DEFAULT_MODEL} --local-dir DIR --include "*.json" --include "tokenizer/*"\' and '
        f"'hf download {DEFAULT_CONTROLNETS['sd']} config.json --local-dir DIR/controlnet'"
    )
    return (
        f"the {what} {name} cannot be loaded: {first_line(exc)}; a file of weights needs the configurations of the "
        f"model it was made from, and {Path(name).parent} has none: without HF_HUB_OFFLINE they are fetched, or put "
        f"them there (for Stable Diffusion 1.5: {get})"
    )


def _missing(what: str, name: str, revision: str | None, option: str, exc: Exception) -> str:
    from huggingface_hub import constants

    at = f" at revision {revision}" if revision else ""
    if name.startswith(".") or not HUB_ID.fullmatch(name):
        return f"the {what} {name} was not found: no such folder or file; `{option}` takes one, or a Hub id as org/name"
    asked = (
        "HF_HUB_OFFLINE is set, so the Hub was not tried"
        if constants.is_offline_mode()
        else f"the download failed ({first_line(exc)})"
    )
    get = f"hf download {name}" + (f" --revision {revision}" if revision else "")
    return (
        f"the {what} {name}{at} was not found: no folder or file of that name, not in the cache "
        f"{constants.HF_HUB_CACHE}, and {asked}; get it with '{get}' ('huggingface-cli download' in old versions), "
        f"or name a folder with `{option}`"
    )
