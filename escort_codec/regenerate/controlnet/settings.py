"""What an exemplar is regenerated with: the user's options over its recipe over the preset. No torch here."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final, TypeVar

from escort_codec.edges import generation_size, short_side
from escort_codec.errors import EscortError, RegenerationError
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import Recipe
from escort_codec.regenerate.controlnet.models import (
    DEFAULT_MODEL,
    ModelChoice,
    Pins,
    split_revision,
)
from escort_codec.regenerate.controlnet.options import DTYPES, SCHEDULERS, ControlNetOptions
from escort_codec.regenerate.controlnet.presets import full_prompt, presets

T = TypeVar("T")

HINT_STRENGTH: Final = 0.8
FAST_SCHEDULER: Final = "unipc"
FAST_STEPS: Final = 8


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a batch has in common. ``size`` is the generation size (H, W) in pixels; ``guess`` is guess mode;
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
class Resolved:
    """One exemplar's settings, its two prompts, and its recipe with all values but the models': see ``with_pins``."""

    settings: Settings
    prompt: str
    negative_prompt: str
    recipe: Recipe


def resolve(exemplar: Exemplar, options: ControlNetOptions, default_dtype: Callable[[], str]) -> Resolved:
    """What ``exemplar`` is regenerated with. ``default_dtype`` tells what the dtype "auto" is on the device.

    Raises RegenerationError for a real exemplar, an unknown preset or scheduler in its recipe, a missing colour hint,
    and an image size of zero.
    """
    if exemplar.kind != "prompt":
        raise RegenerationError(f"{exemplar.key} is a real exemplar: it is an image already")
    try:
        return _resolve(exemplar, options, default_dtype)
    except EscortError as exc:
        raise RegenerationError(f"{exemplar.key}: {exc}") from exc


def _resolve(exemplar: Exemplar, options: ControlNetOptions, default_dtype: Callable[[], str]) -> Resolved:
    if min(exemplar.size) < 1:
        raise RegenerationError(f"an image of {exemplar.size[1]} x {exemplar.size[0]} pixels cannot be made")
    recipe = exemplar.recipe
    preset = presets.get(recipe.preset)
    guess = not exemplar.prompt
    scheduler = _first(options.scheduler, FAST_SCHEDULER if options.fast else None, recipe.scheduler, preset.scheduler)
    steps = _first(
        options.steps,
        FAST_STEPS if options.fast else None,
        recipe.steps,
        preset.guess_steps if guess else preset.steps,
    )
    guidance = _first(options.guidance, recipe.guidance, preset.guess_guidance if guess else preset.guidance)
    control_strength = _first(options.control_strength, recipe.control_strength, preset.control_strength)
    resolution = _first(options.resolution, recipe.resolution, short_side(exemplar.size, recipe.preset))
    suffix = _first(options.prompt_suffix, recipe.prompt_suffix, preset.suffix)
    negative = _first(options.negative_prompt, recipe.negative_prompt, preset.negative_prompt)
    hint_strength = options.hint_strength if options.hint_strength is not None else recipe.hint_strength
    if hint_strength is None and options.use_hint:
        hint_strength = HINT_STRENGTH
    _check(steps, guidance, control_strength, scheduler, resolution, hint_strength)
    if hint_strength is not None and exemplar.hint is None:
        raise RegenerationError("no colour hint was kept: encode with hints, or leave `use_hint` out")
    choice = _choice(recipe, options, default_dtype)
    settings = Settings(
        choice=choice,
        size=generation_size(exemplar.size, recipe.preset, resolution),
        guess=guess,
        steps=steps,
        guidance=guidance,
        control_strength=control_strength,
        scheduler=scheduler,
        hint_strength=hint_strength,
    )
    filled = replace(
        recipe,
        prompt_suffix=suffix,
        negative_prompt=negative,
        steps=steps,
        guidance=guidance,
        control_strength=control_strength,
        scheduler=scheduler,
        resolution=resolution,
        hint_strength=hint_strength,
        extra=_facts(recipe.extra, guess),
    )
    return Resolved(settings, full_prompt(exemplar.prompt, suffix), negative, filled)


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


def _choice(recipe: Recipe, options: ControlNetOptions, default_dtype: Callable[[], str]) -> ModelChoice:
    """The model. A revision in the recipe belongs to the model in the recipe: an option for the model replaces both."""
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
        model_revision=_asked_revision(model[1]),
        controlnet=controlnet[0],
        controlnet_revision=_asked_revision(controlnet[1]),
        dtype=dtype,
    )


def _asked_revision(revision: str | None) -> str | None:
    """None for a folder's fingerprint: it tells what was used and cannot be asked for."""
    return None if revision is None or revision.startswith("files-") else revision


def _check(
    steps: int | None,
    guidance: float | None,
    control_strength: float | None,
    scheduler: str | None,
    resolution: int | None,
    hint_strength: float | None,
) -> None:
    if steps is not None and not 1 <= steps <= 1000:
        raise RegenerationError(f"steps are 1 to 1000, not {steps}")
    if guidance is not None and not (math.isfinite(guidance) and guidance >= 0):
        raise RegenerationError(f"guidance is a number from 0 up, not {guidance}")
    if control_strength is not None and not (math.isfinite(control_strength) and control_strength >= 0):
        raise RegenerationError(f"control strength is a number from 0 up, not {control_strength}")
    if scheduler is not None and scheduler not in SCHEDULERS:
        raise RegenerationError(f"there is no scheduler {scheduler!r} (there are: {', '.join(SCHEDULERS)})")
    if resolution is not None and not 64 <= resolution <= 4096:
        raise RegenerationError(f"a resolution is 64 to 4096 pixels, not {resolution}")
    if hint_strength is not None and not 0 < hint_strength <= 1:
        raise RegenerationError(f"hint strength is above 0 and at most 1, not {hint_strength}")
    if hint_strength is not None and steps is not None and int(steps * hint_strength) < 1:
        raise RegenerationError(f"{steps} steps at hint strength {hint_strength} leave no step")


def _first(*values: T | None) -> T:
    """The first value that is not None."""
    return next(value for value in values if value is not None)


def _facts(extra: tuple[tuple[str, str], ...], guess: bool) -> tuple[tuple[str, str], ...]:
    """``extra`` with the libraries' versions, and whether guess mode was on."""
    facts = {key: text for key, text in extra if key not in ("guess_mode", "retried_in")}
    facts |= _versions()
    if guess:
        facts["guess_mode"] = "on"
    return tuple(sorted(facts.items()))


@cache
def _versions() -> dict[str, str]:
    """Versions of the libraries that make the image; read once, as it takes milliseconds."""
    found = {}
    for library in ("diffusers", "torch", "transformers"):
        with suppress(PackageNotFoundError):
            found[library] = version(library)
    return found
