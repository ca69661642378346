"""Seeds, batches, order; memory that runs out, values that are not finite, and stopping."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from escort_codec.errors import ModelError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import Recipe
from escort_codec.regenerate.base import Job, JobResult
from escort_codec.regenerate.controlnet.options import ControlNetOptions
from escort_codec.regenerate.controlnet.regenerator import ControlNetRegenerator

TOLERANCE = 1  # of 255: the same sums in another order may fall to the other side of a whole number


def options_of(folder: Path, **values: Any) -> ControlNetOptions:
    given: dict[str, Any] = {"steps": 2, "resolution": 64, "device": "cpu", "dtype": "fp32", "batch_size": 4}
    places = {"model": str(folder / "model"), "controlnet": str(folder / "controlnet")}
    return ControlNetOptions(**(places | given | values))


@pytest.fixture(scope="module")
def regenerator(tiny_sd: Path) -> Iterator[ControlNetRegenerator]:
    with ControlNetRegenerator(options_of(tiny_sd)) as found:
        yield found


def exemplar(number: int, size: tuple[int, int] = (60, 80), prompt: str = "cat") -> Exemplar:
    edges = np.random.default_rng(number).random(size) < 0.1
    return Exemplar.from_edges(edges, label="cat", name=f"{number}.jpg", prompt=prompt, coding="packed")


def images(results: Iterator[JobResult]) -> dict[tuple[str, int], Any]:
    found = {}
    for result in results:
        assert result.image is not None, result.error
        found[result.job.exemplar.key, result.job.seed] = result.image.astype(int)
    return found


def test_an_image_is_the_same_alone_in_a_batch_and_in_another_order(regenerator: ControlNetRegenerator) -> None:
    tall = [exemplar(i, (80, 40)) for i in (7, 8)]
    jobs = [Job(one, seed) for one in [exemplar(0), *tall, exemplar(1), exemplar(2)] for seed in (0, 1)]
    together = images(regenerator.regenerate(jobs))
    turned = images(regenerator.regenerate(jobs[::-1]))
    assert together.keys() == turned.keys()
    assert len(together) == 10
    for job in jobs:
        key = (job.exemplar.key, job.seed)
        assert together[key].shape == (*job.exemplar.size, 3)
        assert np.abs(together[key] - turned[key]).max() <= TOLERANCE
    for job in jobs[:3]:
        alone = regenerator.image(job.exemplar, job.seed).astype(int)
        assert np.abs(together[job.exemplar.key, job.seed] - alone).max() <= TOLERANCE
    # seeds, edges and texts do matter
    first = together["cat/0.jpg", 0]
    assert np.abs(first - together["cat/0.jpg", 1]).mean() > 5
    assert np.abs(first - together["cat/1.jpg", 0]).mean() > 1
    dog = exemplar(0, prompt="dog")
    assert np.abs(first - regenerator.image(dog, 0)).mean() > 1


def test_the_same_twice(regenerator: ControlNetRegenerator, tiny_sd: Path) -> None:
    once = regenerator.image(exemplar(0), 3)
    assert (regenerator.image(exemplar(0), 3) == once).all()
    with ControlNetRegenerator(options_of(tiny_sd)) as other:
        assert np.abs(other.image(exemplar(0), 3).astype(int) - once).max() <= TOLERANCE


def test_batches_go_over_exemplars_and_seeds_by_generation_size(
    regenerator: ControlNetRegenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    regenerator.image(exemplar(0), 0)  # loads the model, whichever test runs first
    seen: list[tuple[int, ...]] = []
    forward = regenerator.session._in_use()[0].pipeline.controlnet.forward

    def watch(x: Any, t: Any, **more: Any) -> Any:
        seen.append(tuple(x.shape))
        return forward(x, t, **more)

    monkeypatch.setattr(regenerator.session._in_use()[0].pipeline.controlnet, "forward", watch)
    # 64 x 64 and 64 x 128 pixels; two halves of the guidance each
    jobs = [Job(one, seed) for one in (exemplar(0), exemplar(1, (40, 80)), exemplar(2)) for seed in range(3)]
    assert len(images(regenerator.regenerate(jobs))) == 9
    assert seen == [(8, 4, 8, 8)] * 2 + [(6, 4, 8, 16)] * 2 + [(4, 4, 8, 8)] * 2


def test_the_recipe_says_what_was_used(regenerator: ControlNetRegenerator, tiny_sd: Path) -> None:
    one = exemplar(0)
    (result,) = regenerator.regenerate([Job(one, 0, key="mine")])
    assert result.job.key == "mine"
    assert result.recipe == regenerator.recipe(one)
    recipe = result.recipe
    assert (recipe.steps, recipe.guidance, recipe.resolution, recipe.dtype) == (2, 9.0, 64, "fp32")
    assert recipe.model == str(tiny_sd / "model")
    assert recipe.controlnet == str(tiny_sd / "controlnet")
    assert recipe.model_revision is not None
    assert recipe.model_revision.startswith("files-")
    assert recipe.model_revision != recipe.controlnet_revision
    assert dict(recipe.extra)["torch"] == importlib.metadata.version("torch")
    # it can be stored and read back, and asking for it again changes nothing
    again = Recipe.from_map(recipe.to_map())
    assert again.digest == recipe.digest
    edges = exemplar(0).edges
    stored = Exemplar.from_edges(edges, label="cat", name="0.jpg", recipe=again, coding="packed")
    typed = ControlNetOptions(device="cpu", model=recipe.model, controlnet=recipe.controlnet)
    with ControlNetRegenerator(typed) as bare:
        assert bare.recipe(stored) == recipe


def test_nothing_is_loaded_for_a_recipe_or_for_no_jobs() -> None:
    with ControlNetRegenerator(ControlNetOptions(model="nobody/nothing", device="cpu")) as bare:
        assert bare.recipe(exemplar(0)).model == "nobody/nothing"
        assert list(bare.regenerate([])) == []
        assert bare.session.seconds["load"] == 0


def test_an_exemplar_that_cannot_be_regenerated_is_named_and_the_rest_goes_on(
    regenerator: ControlNetRegenerator,
) -> None:
    from dataclasses import replace

    damaged = replace(exemplar(1), payload=b"\x01")
    real = Exemplar.from_image(b"JPEG", label="cat", name="real.jpg", size=(60, 80))
    odd = replace(exemplar(3), recipe=Recipe(scheduler="none"))
    results = list(regenerator.regenerate([Job(one, 0) for one in (damaged, real, exemplar(2), odd)]))
    errors = {result.job.exemplar.name: str(result.error) for result in results if result.error}
    assert errors.keys() == {"1.jpg", "real.jpg", "3.jpg"}
    assert all(error.startswith(f"cat/{name}") for name, error in errors.items())
    assert [result.job.exemplar.name for result in results if result.image is not None] == ["2.jpg"]


# memory


def cannot_hold(more_than: int, forward: Callable[..., Any]) -> Callable[..., Any]:
    """A network that takes no larger batch, as a full GPU would not."""

    def refuse(x: Any, t: Any, **more: Any) -> Any:
        if len(x) > 2 * more_than:  # both halves of the guidance
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(x, t, **more)

    return refuse


def test_a_batch_that_does_not_fit_is_halved(
    tiny_sd: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with ControlNetRegenerator(options_of(tiny_sd, batch_size=8, steps=1)) as one:
        one.image(exemplar(0), 0)
        unet = one.session._in_use()[0].pipeline.unet
        monkeypatch.setattr(unet, "forward", cannot_hold(2, unet.forward))
        jobs = [Job(exemplar(i), 0) for i in range(5)]
        found = images(one.regenerate(jobs))
        assert len(found) == 5
        assert [record.getMessage() for record in caplog.records if "out of memory" in record.getMessage()] == [
            "out of memory at 5 images of 64 x 64: continuing with 2"
        ]
        assert one.session.sizes.of((64, 64)) == 2


def test_an_image_that_does_not_fit_at_all_is_named(tiny_sd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ControlNetRegenerator(options_of(tiny_sd, steps=1)) as one:
        one.image(exemplar(0), 0)
        unet = one.session._in_use()[0].pipeline.unet
        monkeypatch.setattr(unet, "forward", cannot_hold(0, unet.forward))
        results = list(one.regenerate([Job(exemplar(i), 0) for i in range(3)]))
    assert len(results) == 3
    assert all("does not fit" in str(result.error) and "`resolution`" in str(result.error) for result in results)


# half precision, and values that are not finite


def changed(folder: Path, to: Path, part: str, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the models with some weights changed."""
    shutil.copytree(folder, to)
    (path,) = (to / "model" / part).glob("*.safetensors")
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})
    return to


def test_half_precision_is_near(regenerator: ControlNetRegenerator, tiny_sd: Path) -> None:
    exact = regenerator.image(exemplar(0), 0).astype(int)
    with ControlNetRegenerator(options_of(tiny_sd, dtype="bf16")) as half:
        (result,) = half.regenerate([Job(exemplar(0), 0)])
    assert result.image is not None
    assert result.recipe.dtype == "bf16"
    assert 0 < np.abs(result.image - exact).mean() < 3


def test_an_overflow_in_half_precision_is_made_again_in_fp32(
    tiny_sd: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The decoder's first activations are brought above fp16's 65504; the normalisation after them hides it in fp32."""

    def grow(weights: dict[str, Any]) -> None:
        weights["decoder.conv_in.weight"] *= 1e5

    folder = changed(tiny_sd, tmp_path / "large", "vae", grow)
    with ControlNetRegenerator(options_of(folder, dtype="fp16", steps=1)) as half:
        results = list(half.regenerate([Job(exemplar(i), 0) for i in range(2)]))
        loaded = half.session._in_use()[0]
        assert loaded.pipeline.unet.dtype == torch.float16  # and back
    assert [result.recipe.dtype for result in results] == ["fp16", "fp16"]
    assert all(dict(result.recipe.extra)["retried_in"] == "fp32" for result in results)
    assert all(result.image is not None and result.image.std() > 5 for result in results)
    assert "cat/0.jpg, seed 0: not finite in fp16, made again in fp32" in caplog.text


@pytest.mark.parametrize(("dtype", "said"), [("fp32", "not finite"), ("bf16", "in bf16 and in fp32")])
def test_an_image_that_is_not_finite_is_named_and_the_rest_goes_on(
    tiny_sd: Path, tmp_path: Path, dtype: str, said: str
) -> None:
    """One letter's embedding is not a number."""

    def spoil(weights: dict[str, Any]) -> None:
        (key,) = [key for key in weights if key.endswith("token_embedding.weight")]
        from transformers import CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(tiny_sd / "model" / "tokenizer")
        weights[key][tokenizer("z", add_special_tokens=False).input_ids] = float("nan")

    folder = changed(tiny_sd, tmp_path / "spoilt", "text_encoder", spoil)
    with ControlNetRegenerator(options_of(folder, dtype=dtype, steps=1)) as one:
        good, bad = one.regenerate([Job(exemplar(0), 4), Job(exemplar(1, prompt="zzz"), 4)])
    assert good.image is not None
    assert bad.image is None
    assert str(bad.error).startswith("cat/1.jpg, seed 4: ")
    assert said in str(bad.error)


# ways to run


def test_compiled_batches_are_filled_up_and_warmed_up_apart(tiny_sd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled, and that every batch then has the same shape. (torch's own tracing takes a minute here.)"""
    compiled: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: compiled.append(type(self).__name__))
    jobs = [Job(exemplar(i), 0) for i in range(3)]
    with ControlNetRegenerator(options_of(tiny_sd, compile=True, batch_size=2, steps=1)) as one:
        shapes: list[int] = []
        assert list(one.regenerate([])) == []
        one.image(exemplar(9), 0)
        unet = one.session._in_use()[0].pipeline.unet
        unet.register_forward_pre_hook(lambda module, inputs: shapes.append(len(inputs[0])))
        spent = one.session.seconds["warm_up"]
        found = images(one.regenerate(jobs))
        assert one.session.seconds["warm_up"] == spent > 0  # before the first batch, once
    assert compiled == ["UNet2DConditionModel", "_PaperControlNet", "Decoder"]
    assert shapes == [4, 4]  # two batches of two images, both halves of the guidance
    with ControlNetRegenerator(options_of(tiny_sd, steps=1)) as plain:
        expected = images(plain.regenerate(jobs))
    assert found.keys() == expected.keys()
    assert all(np.abs(found[key] - expected[key]).max() <= TOLERANCE for key in found)


def test_stopping_ends_after_the_images_in_flight(tiny_sd: Path) -> None:
    taken: list[int] = []

    def jobs() -> Iterator[Job]:
        for seed in range(100):
            taken.append(seed)
            yield Job(exemplar(0), seed)

    with ControlNetRegenerator(options_of(tiny_sd, steps=1, batch_size=2)) as one:
        results = []
        for result in one.regenerate(jobs()):
            results.append(result)
            one.stop()
    assert len(results) == 2  # the whole batch in flight, and no other
    assert len(taken) <= 3


def test_two_models_in_one_file_are_used_in_turn(
    tiny_sd: Path, tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    import huggingface_hub.constants

    for name, folder in (("sd", tiny_sd), ("sdxl", tiny_sdxl)):
        for part in ("model", "controlnet"):
            repository = tmp_path / f"models--{name}--{part}"
            shutil.copytree(folder / part, repository / "snapshots" / ("0" * 40))
            (repository / "refs").mkdir()
            (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def made_with(name: str) -> Exemplar:
        return replace(exemplar(0), recipe=Recipe(model=f"{name}/model", controlnet=f"{name}/controlnet"))

    given = ControlNetOptions(steps=1, resolution=64, device="cpu", batch_size=2, trust_recipe=True)
    with ControlNetRegenerator(given) as one:
        results = list(one.regenerate([Job(made_with(name), 0) for name in ("sd", "sdxl")]))
    assert [result.recipe.model for result in results] == ["sd/model", "sdxl/model"]
    assert all(result.image is not None for result in results)


def test_a_device_that_is_not_here(tiny_sd: Path) -> None:
    for device in ("cuda:99", "nowhere"):
        with (
            ControlNetRegenerator(options_of(tiny_sd, device=device)) as one,
            pytest.raises(UsageError, match=r"no such device|write auto, cpu"),
        ):
            one.check([])
        with pytest.raises(UsageError):  # one error, not one for each image
            list(one.regenerate([Job(exemplar(number), 0) for number in range(3)]))


def test_a_model_that_is_missing_ends_the_run() -> None:
    with (
        ControlNetRegenerator(ControlNetOptions(model="nobody/nothing", device="cpu")) as one,
        pytest.raises(ModelError, match="hf download nobody/nothing"),
    ):
        one.image(exemplar(0), 0)
