"""The settings for an exemplar: the user's options, else its recipe, else the preset. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from escort_codec.coding import EdgeMap
from escort_codec.edges import enlarged, generation_size, short_side
from escort_codec.errors import EscortError, ModelError, RegenerationError
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import HIRES, Recipe
from escort_codec.regenerate.base import Job
from escort_codec.regenerate.controlnet.models import (
    DEFAULT_CONTROLNETS,
    DEFAULT_MODEL,
    ModelChoice,
    Pins,
    check_hub_id,
    split_revision,
)
from escort_codec.regenerate.controlnet.options import DTYPES, ControlNetOptions
from escort_codec.regenerate.controlnet.presets import control_image, enlarged_hint, full_prompt, presets
from escort_codec.words import listed

T = TypeVar("T")

HINT_STRENGTH: Final = 0.8
TRAINED_STEPS: Final = 1000
"""Steps of noise that the networks were trained on."""

NOISE_DEVICE: Final = "cpu"
"""Where the starting noise is drawn; recorded, as a GPU (in the paper's scripts) draws other numbers from a seed."""

FAST_SCHEDULER: Final = "unipc"
FAST_STEPS: Final = 8


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """What all images of a batch share. ``size`` is the generation size (H, W) in pixels; ``guess`` is guess mode;
    ``hint_strength`` is None if the colour hint is not used."""

    choice: ModelChoice
    size: tuple[int, int]
    guess: bool
    steps: int
    guidance: float
    control_strength: float
    scheduler: str
    hint_strength: float | None


@dataclass(frozen=True, slots=True)
class Request:
    """One exemplar's settings, its two prompts, and its recipe with every value but the models': see ``with_pins``."""

    settings: GenerationSettings
    prompt: str
    negative_prompt: str
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class ModelInput:
    """What the model needs for one image: the control image and, if used, the enlarged hint (uint8 (H, W, 3) of
    generation size), the prompts and the seed."""

    control: NDArray[np.uint8]
    prompt: str
    negative_prompt: str
    seed: int
    hint: NDArray[np.uint8] | None = None


def resolve(exemplar: Exemplar, options: ControlNetOptions, default_dtype: Callable[[], str]) -> Request:
    """What ``exemplar`` is regenerated with. ``default_dtype`` returns what the dtype "auto" means on the device.

    Raises RegenerationError for a real exemplar, a value in its recipe that is not valid, a missing colour hint, and
    an image size of zero; ModelError for a model that the user has not allowed.
    """
    if exemplar.kind != "prompt":
        raise RegenerationError(f"{exemplar.key} is a real exemplar: it is an image already")
    try:
        return _resolve(exemplar, options, default_dtype)
    except ModelError:
        raise
    except EscortError as exc:
        raise RegenerationError(f"{exemplar.key}: {exc}") from exc


def prepare(job: Job, request: Request) -> ModelInput:
    """Decodes the edge map and the hint and scales them to generation size; raises RegenerationError."""
    size = request.settings.size
    exemplar = job.exemplar
    try:
        hint = None
        if request.settings.hint_strength is not None and (pixels := exemplar.hint_pixels) is not None:
            hint = enlarged_hint(pixels, size)
        control = control_image(_lines(exemplar, size), size)
    except Exception as exc:  # a damaged payload; OpenCV's limits
        raise RegenerationError(f"{exemplar.key}: {exc}") from exc
    return ModelInput(control, request.prompt, request.negative_prompt, job.seed, hint)


def _lines(exemplar: Exemplar, size: tuple[int, int]) -> EdgeMap:
    """The edge map; one that rate control made smaller than its image is drawn at ``size`` in thin lines."""
    edges = exemplar.edges
    reduced = exemplar.recipe.preset == HIRES and exemplar.map_shape != exemplar.size
    if reduced and edges.size and all(own <= wanted for own, wanted in zip(edges.shape, size, strict=True)):
        return enlarged(edges, size)
    return edges


def with_pins(recipe: Recipe, choice: ModelChoice, pins: Pins) -> Recipe:
    """``recipe`` with the weights that were used."""
    return replace(
        recipe,
        model=choice.model,
        model_revision=pins.model_revision,
        controlnet=pins.controlnet,
        controlnet_revision=pins.controlnet_revision,
        dtype=choice.dtype,
    )


def unapproved_models(recipe: Recipe, options: ControlNetOptions) -> list[str]:
    """The models that ``recipe`` names, except the defaults and those that an option replaces or allows.

    Revisions count too: anybody may propose one on the Hub, under the model's own name.
    """
    if options.trust_recipe:
        return []
    found = []
    for what, option, name, revision, known in (
        ("model", options.model, recipe.model, recipe.model_revision, (DEFAULT_MODEL,)),
        ("ControlNet", options.controlnet, recipe.controlnet, recipe.controlnet_revision, DEFAULT_CONTROLNETS.values()),
    ):
        revision = _hub_revision(revision)
        if option is None and (name not in (None, *known) or revision is not None):
            found.append(f"the {what} {name or 'by default'}" + (f" at revision {revision}" if revision else ""))
    return found


def check_choice(recipe: Recipe, options: ControlNetOptions) -> None:
    """Raises ModelError for a model of ``recipe`` that the user has not allowed, or that is not on the Hub."""
    if wanted := unapproved_models(recipe, options):
        raise ModelError(
            f"the file's recipe names {listed(wanted)}, which anybody may have made: agree with `trust_recipe`, or "
            "choose with `model` and `controlnet`"
        )
    if not options.model:
        check_hub_id(recipe.model or DEFAULT_MODEL, "model")
    if not options.controlnet and recipe.controlnet is not None:
        check_hub_id(recipe.controlnet, "ControlNet")


def check_recipe(recipe: Recipe, options: ControlNetOptions) -> None:
    """Raises UsageError for values that no exemplar of ``recipe`` can be made with."""
    replace(options, **_values(recipe, options, (512, 512), guess=False))


def _resolve(exemplar: Exemplar, options: ControlNetOptions, default_dtype: Callable[[], str]) -> Request:
    if min(exemplar.size) < 1:
        raise RegenerationError(f"the image has {exemplar.size[1]} x {exemplar.size[0]} pixels")
    recipe = exemplar.recipe
    guess = not exemplar.prompt
    values = _values(recipe, options, exemplar.size, guess=guess)
    final = replace(options, **values)  # checks the recipe's values
    if final.hint_strength is not None and exemplar.hint is None:
        raise RegenerationError("no colour hint was kept: encode with hints, or leave `use_hint` out")
    settings = GenerationSettings(
        choice=_choice(recipe, options, default_dtype),
        size=generation_size(exemplar.size, recipe.preset, values["resolution"]),
        guess=guess,
        steps=values["steps"],
        guidance=values["guidance"],
        control_strength=values["control_strength"],
        scheduler=values["scheduler"],
        hint_strength=final.hint_strength,
    )
    facts = {"noise": NOISE_DEVICE} | ({"guess_mode": "on"} if guess else {})
    if settings.scheduler == "ddim" and (made := ddim_steps(settings.steps)) != settings.steps:
        facts["steps_made"] = str(made)
    filled = replace(recipe, **values, extra=_facts(recipe.extra, facts))
    return Request(settings, full_prompt(exemplar.prompt, values["prompt_suffix"]), values["negative_prompt"], filled)


def _values(recipe: Recipe, options: ControlNetOptions, size: tuple[int, int], *, guess: bool) -> dict[str, Any]:
    """The settings that options, recipe and preset decide, for an image of ``size`` (height, width)."""
    preset = presets.get(recipe.preset)
    fast_scheduler, fast_steps = (FAST_SCHEDULER, FAST_STEPS) if options.fast else (None, None)
    preset_steps, preset_guidance = (
        (preset.guess_steps, preset.guess_guidance) if guess else (preset.steps, preset.guidance)
    )
    return {
        "prompt_suffix": _first(options.prompt_suffix, recipe.prompt_suffix, preset.suffix),
        "negative_prompt": _first(options.negative_prompt, recipe.negative_prompt, preset.negative_prompt),
        "steps": _first(options.steps, fast_steps, recipe.steps, preset_steps),
        "guidance": _first(options.guidance, recipe.guidance, preset_guidance),
        "control_strength": _first(options.control_strength, recipe.control_strength, preset.control_strength),
        "scheduler": _first(options.scheduler, fast_scheduler, recipe.scheduler, preset.scheduler),
        "resolution": _first(options.resolution, recipe.resolution, short_side(size, recipe.preset)),
        "hint_strength": _hint_strength(options, recipe),
    }


def _hint_strength(options: ControlNetOptions, recipe: Recipe) -> float | None:
    strength = options.hint_strength if options.hint_strength is not None else recipe.hint_strength
    return HINT_STRENGTH if strength is None and options.use_hint else strength


def _choice(recipe: Recipe, options: ControlNetOptions, default_dtype: Callable[[], str]) -> ModelChoice:
    """The model. A revision in the recipe belongs to the model in the recipe: an option for the model replaces both.

    Raises ModelError as ``check_choice`` does.
    """
    check_choice(recipe, options)
    model = split_revision(options.model) if options.model else (recipe.model, recipe.model_revision)
    controlnet = (
        split_revision(options.controlnet) if options.controlnet else (recipe.controlnet, recipe.controlnet_revision)
    )
    dtype = options.dtype or recipe.dtype or "auto"
    if dtype == "auto":
        dtype = default_dtype()
    if dtype not in DTYPES:
        raise RegenerationError(f"the recipe's dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    return ModelChoice(
        model=model[0] or DEFAULT_MODEL,
        model_revision=_hub_revision(model[1]),
        controlnet=controlnet[0],
        controlnet_revision=_hub_revision(controlnet[1]),
        dtype=dtype,
    )


def _hub_revision(revision: str | None) -> str | None:
    """None for a folder's fingerprint, which only records what was used."""
    return None if revision is None or revision.startswith("files-") else revision


def _first(*values: T | None) -> T:
    """The first value that is not None."""
    return next(value for value in values if value is not None)


def _facts(extra: tuple[tuple[str, str], ...], facts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """``extra`` with the libraries' versions and the ``facts`` about how this image is made."""
    left = {key: text for key, text in extra if key not in ("guess_mode", "retried_in", "noise", "steps_made")}
    return tuple(sorted({**left, **_versions(), **facts}.items()))


def ddim_steps(asked: int) -> int:
    """The steps that DDIM makes of ``asked`` ones: 1, 1 + width, ... below 1000, a step being 1000 // asked wide."""
    return len(range(1, TRAINED_STEPS, TRAINED_STEPS // asked))


@cache
def _versions() -> dict[str, str]:
    """Versions of the libraries that make the image; read once, as it takes milliseconds."""
    found = {}
    for library in ("diffusers", "torch", "transformers"):
        with suppress(PackageNotFoundError):
            found[library] = version(library)
    return found
