"""The paper's numbers, each against values worked out by hand from its scripts' rules."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escort_codec.edges import generation_size, short_side
from escort_codec.errors import EscortError, ModelError, RegenerationError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import Recipe
from escort_codec.regenerate.controlnet import resolve as module
from escort_codec.regenerate.controlnet.options import ControlNetOptions
from escort_codec.regenerate.controlnet.presets import (
    control_image,
    full_prompt,
    guess_scales,
    presets,
    to_source_size,
)
from escort_codec.regenerate.controlnet.regenerator import ControlNetRegenerator
from escort_codec.regenerate.controlnet.resolve import Request, resolve, unapproved_models
from escort_codec.words import listed

HIRES = [  # source (h, w), generated (H, W)
    ((512, 512), (512, 512)),
    ((375, 500), (512, 704)),  # 682.7 / 64 = 10.67
    ((500, 375), (704, 512)),
    ((240, 300), (512, 640)),
    ((500, 531), (512, 512)),  # 543.7 / 64 = 8.496
    ((512, 544), (512, 512)),  # 8.5 goes to the even 8
    ((512, 608), (512, 640)),  # 9.5 goes to the even 10
    ((1000, 3000), (512, 1536)),  # 786432 pixels exactly: kept
    ((1000, 3001), (256, 768)),  # 512 x 1536.5 is above: halved to 256 x 768.3
    ((100, 1000), (256, 2560)),  # 512 x 5120 halved once
    ((300, 2000), (256, 1728)),  # 512 x 3413.3 halved: 1706.7 / 64 = 26.67
    ((10, 3000), (64, 9600)),  # 512 x 153600 halved four times: 32 rounds to 0, ours keeps 64
    ((1, 1), (512, 512)),
    ((1, 65535), (64, 12288)),  # ours: cut to 786432 pixels
]
LOWRES = [
    ((240, 300), 256, (256, 320)),
    ((511, 600), 256, (256, 320)),  # 300.6 / 64 = 4.70
    ((512, 600), 512, (512, 576)),  # 9.375
    ((64, 64), 256, (256, 256)),
    ((600, 512), 512, (576, 512)),
]


@pytest.mark.parametrize(("size", "expected"), HIRES)
def test_hires_sizes(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert short_side(size, "hires") == 512
    assert generation_size(size, "hires") == expected


@pytest.mark.parametrize(("size", "resolution", "expected"), LOWRES)
def test_lowres_sizes(size: tuple[int, int], resolution: int, expected: tuple[int, int]) -> None:
    assert short_side(size, "lowres") == resolution
    assert generation_size(size, "lowres") == expected
    assert generation_size(size, "hires", resolution) == expected


def test_a_larger_resolution_has_a_larger_area() -> None:
    assert generation_size((240, 300), "hires", 1024) == (1024, 1280)


@given(st.integers(1, 65_535), st.integers(1, 65_535), st.sampled_from([64, 256, 512, 1024]))
def test_sizes_are_multiples_of_64_within_the_area(h: int, w: int, resolution: int) -> None:
    H, W = generation_size((h, w), "hires", resolution)
    assert H % 64 == W % 64 == 0
    assert min(H, W) >= 64
    # rounding up two sides may add 32 pixels to each
    assert max(786_432, 3 * resolution**2) >= (H - 32) * (W - 32)


def test_no_image_is_its_own_error() -> None:
    with pytest.raises(RegenerationError, match="0 x 5 pixels"):
        settled(replace(exemplar(), size=(5, 0)))


def test_the_presets() -> None:
    hires, lowres = presets.get("hires"), presets.get("lowres")
    assert (hires.steps, hires.guidance, hires.control_strength, hires.scheduler) == (20, 9.0, 1.0, "ddim")
    assert (lowres.steps, lowres.guidance, lowres.control_strength, lowres.scheduler) == (50, 9.0, 1.0, "ddim")
    assert (hires.guess_steps, hires.guess_guidance) == (50, 4.5)
    assert full_prompt("cat", hires.suffix) == "cat, best quality, extremely detailed"
    assert full_prompt("", hires.suffix) == ", best quality, extremely detailed"  # the comma stays in the scripts
    assert full_prompt("cat", lowres.suffix) == "cat, clean, clear, bright, neat"
    assert full_prompt("cat", "") == "cat"
    assert hires.negative_prompt == (
        "longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, fewer digits, cropped, "
        "worst quality, low quality"
    )
    assert lowres.negative_prompt == "blurry, dark, messy, dotted"


def test_control_image_pixels() -> None:
    edges = np.array([[1, 0, 0], [0, 1, 1]], dtype=np.bool_)
    image = control_image(edges, (4, 6))
    rows = [[255, 255, 0, 0, 0, 0]] * 2 + [[0, 0, 255, 255, 255, 255]] * 2
    assert image.dtype == np.uint8
    assert image.shape == (4, 6, 3)
    assert image[:, :, 0].tolist() == rows
    assert (image == image[:, :, :1]).all()


def test_control_image_takes_the_nearest_pixel_where_it_shrinks() -> None:
    edges = np.zeros((6, 6), dtype=np.bool_)
    edges[3, 0] = edges[4, 4] = True  # of 6 rows on 2, rows 0 and 3 are taken
    assert control_image(edges, (2, 2))[:, :, 0].tolist() == [[0, 0], [255, 0]]


def test_control_image_of_nothing() -> None:
    with pytest.raises(RegenerationError):
        control_image(np.zeros((0, 4), dtype=np.bool_), (64, 64))


def test_output_is_averaged_where_it_shrinks_and_lanczos_where_it_does_not() -> None:
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    image[:2, :2] = 200
    image[0, 0] = 100
    small = to_source_size(image, (2, 2))
    assert small[:, :, 0].tolist() == [[175, 0], [0, 0]]  # (100 + 3 * 200) / 4
    assert (to_source_size(image, (4, 4)) == image).all()
    # Lanczos overshoots beside a step, the mean of areas never does; min(H, W) <= min(h, w) decides
    step = np.full((8, 8, 3), 100, dtype=np.uint8)
    step[:, 4:] = 200
    assert to_source_size(step, (8, 16)).max() > 200
    assert to_source_size(step, (7, 16)).max() == 200


def test_guess_scales() -> None:
    scales = guess_scales(13)
    assert len(scales) == 13
    assert scales[12] == 1.0
    assert scales[11] == pytest.approx(0.825)
    assert scales[0] == pytest.approx(0.0994144, rel=1e-5)  # 0.825 ** 12
    assert guess_scales(13, 0.5)[10] == pytest.approx(0.5 * 0.680625)
    diffusers = np.logspace(-1, 0, 13)
    assert np.abs(np.array(scales) / diffusers - 1).max() < 0.01


def exemplar(prompt: str = "cat", recipe: Recipe | None = None, **more: Any) -> Exemplar:
    edges = np.zeros((30, 40), dtype=np.bool_)
    return Exemplar.from_edges(
        edges, label="cat", name="a.jpg", size=(240, 300), prompt=prompt, recipe=recipe, coding="packed", **more
    )


def settled(one: Exemplar, **options: Any) -> Request:
    return resolve(one, ControlNetOptions(**options), lambda: "fp32")


def test_the_hires_preset_fills_the_recipe() -> None:
    found = settled(exemplar())
    assert found.prompt == "cat, best quality, extremely detailed"
    assert found.settings.size == (512, 640)
    assert not found.settings.guess
    assert found.settings.hint_strength is None
    assert (found.recipe.steps, found.recipe.guidance, found.recipe.resolution) == (20, 9.0, 512)
    assert (found.recipe.control_strength, found.recipe.scheduler) == (1.0, "ddim")
    assert {key for key, _ in found.recipe.extra} == {"diffusers", "noise", "torch", "transformers"}
    assert dict(found.recipe.extra)["noise"] == "cpu"


def test_steps_that_do_not_divide_1000_are_recorded_as_they_are_made() -> None:
    from escort_codec.regenerate.controlnet.sampling import make_scheduler

    made = {20: None, 30: "31", 6: "7", 3: None, 334: "500", 500: None, 1: None, 251: "333"}
    for steps, recorded in made.items():
        found = settled(exemplar(recipe=Recipe(steps=steps))).recipe
        assert (found.steps, dict(found.extra).get("steps_made")) == (steps, recorded)
        scheduler = make_scheduler("ddim")
        scheduler.set_timesteps(steps)
        assert len(scheduler.timesteps) == int(recorded or steps)
    # The other samplers make what is asked for; and a recipe that was filled in for other steps is filled in anew.
    assert "steps_made" not in dict(settled(exemplar(recipe=Recipe(steps=30, scheduler="unipc"))).recipe.extra)
    again = replace(settled(exemplar(recipe=Recipe(steps=30))).recipe, steps=20)
    assert "steps_made" not in dict(settled(exemplar(recipe=again)).recipe.extra)


def test_the_lowres_preset_fills_the_recipe() -> None:
    found = settled(exemplar(recipe=Recipe(preset="lowres")))
    assert found.prompt == "cat, clean, clear, bright, neat"
    assert found.negative_prompt == "blurry, dark, messy, dotted"
    assert found.settings.size == (256, 320)
    assert (found.recipe.steps, found.recipe.guidance, found.recipe.resolution) == (50, 9.0, 256)


def test_versions_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reading parses a file; while every image asked, it took longer than a GPU takes for a few steps."""
    first = settled(exemplar()).recipe.extra

    def read_again(library: str) -> str:
        raise AssertionError(library)

    monkeypatch.setattr(module, "version", read_again)
    assert settled(exemplar()).recipe.extra == first


def test_an_empty_prompt_is_guessed() -> None:
    found = settled(exemplar(prompt=""))
    assert found.settings.guess
    assert (found.settings.steps, found.settings.guidance) == (50, 4.5)
    assert dict(found.recipe.extra)["guess_mode"] == "on"


def test_options_beat_the_recipe_and_the_recipe_the_preset() -> None:
    recipe = Recipe(steps=7, guidance=3.0, prompt_suffix="blue", resolution=256, scheduler="unipc", dtype="bf16")
    of_recipe = settled(exemplar(recipe=recipe))
    assert (of_recipe.settings.steps, of_recipe.settings.guidance) == (7, 3.0)
    assert (of_recipe.prompt, of_recipe.settings.size) == ("cat, blue", (256, 320))
    assert (of_recipe.settings.scheduler, of_recipe.settings.choice.dtype) == ("unipc", "bf16")
    over = settled(
        exemplar(recipe=recipe),
        steps=9,
        guidance=1.5,
        prompt_suffix="",
        negative_prompt="grey",
        resolution=128,
        scheduler="dpm++",
        dtype="fp16",
        control_strength=0.5,
    )
    assert (over.settings.steps, over.settings.guidance, over.settings.control_strength) == (9, 1.5, 0.5)
    assert (over.prompt, over.negative_prompt, over.settings.size) == ("cat", "grey", (128, 128))
    assert (over.settings.scheduler, over.settings.choice.dtype) == ("dpm++", "fp16")


def test_fast_is_eight_steps_of_unipc_unless_told_otherwise() -> None:
    fast = settled(exemplar(recipe=Recipe(steps=30)), fast=True)
    assert (fast.settings.scheduler, fast.settings.steps) == ("unipc", 8)
    told = settled(exemplar(), fast=True, steps=12, scheduler="dpm++")
    assert (told.settings.scheduler, told.settings.steps) == ("dpm++", 12)


def test_a_revision_belongs_to_its_model() -> None:
    recipe = Recipe(model="a/b", model_revision="v1", controlnet="c/d", controlnet_revision="v2")
    kept = settled(exemplar(recipe=recipe), trust_recipe=True).settings.choice
    assert (kept.model, kept.model_revision, kept.controlnet_revision) == ("a/b", "v1", "v2")
    other = settled(exemplar(recipe=recipe), model="e/f@v3", controlnet="g/h").settings.choice
    assert (other.model, other.model_revision) == ("e/f", "v3")
    assert (other.controlnet, other.controlnet_revision) == ("g/h", None)
    default = settled(exemplar()).settings.choice
    assert (default.model, default.controlnet) == ("stable-diffusion-v1-5/stable-diffusion-v1-5", None)


def test_the_hint_is_used_where_it_is_asked_for() -> None:
    hinted = exemplar(hint=b"x")
    assert settled(hinted).settings.hint_strength is None
    assert settled(hinted, use_hint=True).settings.hint_strength == 0.8
    assert settled(hinted, hint_strength=0.5).settings.hint_strength == 0.5
    with pytest.raises(RegenerationError, match="no colour hint"):
        settled(exemplar(), use_hint=True)


@pytest.mark.parametrize(("scheduler", "most"), [("ddim", 500), ("unipc", 999), ("dpm++", 999)])
def test_each_scheduler_has_its_most_steps(scheduler: str, most: int) -> None:
    recipe = Recipe(scheduler=scheduler)
    assert settled(exemplar(recipe=recipe), steps=most).settings.steps == most
    for wrong in ({"recipe": replace(recipe, steps=most + 1)}, {"recipe": recipe, "steps": most + 1}):
        with pytest.raises((RegenerationError, UsageError), match=f"steps = {most + 1}"):
            settled(exemplar(recipe=wrong.pop("recipe")), **wrong)  # type: ignore[arg-type]


THEIRS = [
    (Recipe(model="evil/model"), ["the model evil/model"]),
    (Recipe(model="evil/model", model_revision="v1"), ["the model evil/model at revision v1"]),
    (Recipe(model_revision="refs/pr/5"), ["the model by default at revision refs/pr/5"]),
    (Recipe(controlnet="evil/canny"), ["the ControlNet evil/canny"]),
    (Recipe(model="./model"), ["the model ./model"]),
    (Recipe(model="/tmp/model", controlnet="c/d"), ["the model /tmp/model", "the ControlNet c/d"]),
]


@pytest.mark.parametrize(("recipe", "named"), THEIRS)
def test_a_recipes_model_is_not_loaded_without_consent(recipe: Recipe, named: list[str]) -> None:
    options = ControlNetOptions(device="cpu")
    assert unapproved_models(recipe, options) == named
    with ControlNetRegenerator(options) as one:
        assert one.wanted([Recipe(), recipe, recipe]) == named
        for ask in (lambda: one.check([Recipe(), recipe]), lambda: one.image(exemplar(recipe=recipe), 0)):
            with pytest.raises(ModelError, match=f"names {re.escape(listed(named))}, which anybody may have made"):
                ask()
        assert one.session.seconds["load"] == 0
    typed = ControlNetOptions(model="my/model", controlnet="my/canny")
    assert unapproved_models(recipe, typed) == []
    assert unapproved_models(recipe, ControlNetOptions(trust_recipe=True)) == []


def test_the_defaults_and_what_was_recorded_of_a_folder_need_no_consent() -> None:
    for recipe in (
        Recipe(),
        Recipe(model="stable-diffusion-v1-5/stable-diffusion-v1-5", model_revision="files-0123456789abcdef"),
        Recipe(controlnet="lllyasviel/sd-controlnet-canny"),
    ):
        assert unapproved_models(recipe, ControlNetOptions()) == []


@pytest.mark.parametrize(
    "name", ["model", "./model", "../m/n", "/tmp/model", "a/../b", "a/b/c", ".a/b", "a\\b", "a/.b"]
)
def test_a_trusted_recipe_names_hub_models_only(name: str) -> None:
    with pytest.raises(ModelError, match="not a Hub id"):
        settled(exemplar(recipe=Recipe(model=name)), trust_recipe=True)


@pytest.mark.parametrize(
    "recipe",
    [Recipe(model="org/tiny"), Recipe(model="org/other", controlnet="org/tiny"), Recipe(controlnet="org/tiny")],
)
def test_a_folder_beside_the_file_is_never_taken_for_a_hub_model(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org/tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="there is a folder or file org/tiny here"):
        settled(exemplar(recipe=recipe), trust_recipe=True)
    assert settled(exemplar(recipe=Recipe()), model="org/tiny").settings.choice.model == "org/tiny"  # typed


def test_the_default_model_is_no_folder_beside_the_file_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stable-diffusion-v1-5/stable-diffusion-v1-5").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="there is a folder or file stable-diffusion-v1-5/"):
        settled(exemplar())


def test_options_that_no_recipe_of_the_file_allows_stop_before_the_first_image() -> None:
    with ControlNetRegenerator(ControlNetOptions(steps=700, device="cpu")) as one:
        one.check([Recipe(), Recipe(scheduler="unipc")])
        with pytest.raises(UsageError, match="ddim makes 1 to 500 steps"):
            one.check([Recipe(), Recipe(scheduler="ddim")])


@pytest.mark.parametrize(
    "recipe",
    [Recipe(preset="none"), Recipe(scheduler="euler"), Recipe(steps=0), Recipe(dtype="int8"), Recipe(resolution=9)],
)
def test_a_recipe_that_is_not_valid_fails_its_exemplar(recipe: Recipe) -> None:
    with pytest.raises(RegenerationError, match=r"cat/a\.jpg"):
        settled(exemplar(recipe=recipe))


def test_a_real_exemplar_is_an_image_already() -> None:
    real = Exemplar.from_image(b"JPEG", label="cat", name="a.jpg", size=(2, 2))
    with pytest.raises(RegenerationError, match="real"):
        settled(real)


@pytest.mark.parametrize(
    "values",
    [
        {"batch_size": 0},
        {"dtype": "float"},
        {"steps": 0},
        {"steps": 1000},
        {"steps": 501, "scheduler": "ddim"},
        {"steps": 1000, "scheduler": "unipc"},
        {"steps": 1000, "scheduler": "dpm++"},
        {"guidance": 0.5},
        {"guidance": -1.0},
        {"guidance": float("nan")},
        {"control_strength": -0.1},
        {"scheduler": "euler"},
        {"resolution": 63},
        {"hint_strength": 0.0},
        {"hint_strength": 1.1},
        {"hint_strength": 0.1, "steps": 5},
    ],
)
def test_options_that_are_not_valid(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ControlNetOptions(**values)


@pytest.mark.parametrize("name", ["@v1", "a/b@"])
def test_half_a_revision(name: str) -> None:
    with pytest.raises(EscortError, match="revision"):
        settled(exemplar(), model=name)
