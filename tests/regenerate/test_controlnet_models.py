"""Where models are taken from, and what is said where they are not there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import safetensors.torch
import torch

from escort_codec.errors import ModelError
from escort_codec.exemplar import Exemplar
from escort_codec.regenerate.controlnet.models import (
    DEFAULT_MODEL,
    ModelChoice,
    default_controlnet,
    family_of,
    pin,
    resolved_revision,
    split_revision,
)
from escort_codec.regenerate.controlnet.options import ControlNetOptions
from escort_codec.regenerate.controlnet.regenerator import ControlNetRegenerator
from tests.regenerate.single_file import write_single_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def exemplar() -> Exemplar:
    edges = np.random.default_rng(0).random((60, 80)) < 0.1
    return Exemplar.from_edges(edges, label="cat", name="a.jpg", coding="packed")


def image_with(model: str, controlnet: str | None) -> Any:
    options = ControlNetOptions(model=model, controlnet=controlnet, steps=1, resolution=64, device="cpu")
    with ControlNetRegenerator(options) as one:
        return one.image(exemplar(), 0)


def same(image: Any, expected: Any) -> bool:
    """Up to 1 of 255: where a file's weights lie in memory decides how the processor adds them up."""
    return bool(np.abs(image.astype(int) - expected).max() <= 1)


def refusal_of(model: str, controlnet: str | None) -> str:
    """The message of the ModelError: one line."""
    with pytest.raises(ModelError) as caught:
        image_with(model, controlnet)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def expected(tiny_sd: Path) -> Any:
    return image_with(str(tiny_sd / "model"), str(tiny_sd / "controlnet"))


@pytest.fixture
def cache(tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's cache with ``org/tiny`` and ``org/tiny-canny``, both at one commit that ``main`` and ``v1`` name."""
    hub = tmp_path / "hub"
    for name, part in (("tiny", "model"), ("tiny-canny", "controlnet")):
        repository = hub / f"models--org--{name}"
        shutil.copytree(tiny_sd / part, repository / "snapshots" / COMMIT)
        (repository / "refs").mkdir()
        for reference in ("main", "v1"):
            (repository / "refs" / reference).write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    return hub


def test_a_hub_id_comes_from_the_cache(cache: Path, expected: Any) -> None:
    for model, controlnet in (("org/tiny", "org/tiny-canny"), ("org/tiny@v1", f"org/tiny-canny@{COMMIT}")):
        assert same(image_with(model, controlnet), expected)
        with ControlNetRegenerator(ControlNetOptions(model=model, controlnet=controlnet, device="cpu")) as one:
            recipe = one.recipe(exemplar())
        assert (recipe.model, recipe.model_revision) == ("org/tiny", COMMIT)
        assert (recipe.controlnet, recipe.controlnet_revision) == ("org/tiny-canny", COMMIT)
    assert family_of("org/tiny") == "sd"


def test_weights_that_may_hold_code_are_not_read_from_folders(cache: Path) -> None:
    """A pickle is read only if the user names that file."""
    for name, part, said in (("tiny", "unet", "the model"), ("tiny-canny", "", "the ControlNet")):
        (weights,) = (cache / f"models--org--{name}" / "snapshots" / COMMIT / part).glob("*.safetensors")
        whole = weights.read_bytes()
        torch.save(safetensors.torch.load(whole), weights.with_suffix(".bin"))
        weights.unlink()
        assert refusal_of("org/tiny", "org/tiny-canny").startswith(said)
        weights.write_bytes(whole)


def test_what_is_not_in_the_cache_is_named_with_how_to_get_it(cache: Path) -> None:
    said = refusal_of("org/tiny@v2", "org/tiny-canny")
    assert said.startswith("the model org/tiny at revision v2 was not found")
    assert str(cache) in said
    assert "HF_HUB_OFFLINE is set" in said
    assert "'hf download org/tiny --revision v2' ('huggingface-cli download' in old versions)" in said
    said = refusal_of("org/tiny", None)  # the default ControlNet of its class
    assert said.startswith("the ControlNet lllyasviel/sd-controlnet-canny was not found")
    assert "name a folder with `controlnet`" in said


@pytest.mark.parametrize("name", ["control_sd15_canny.pth", "control_sd15_canny.safetensors"])
def test_one_file_in_the_papers_layout_holds_model_and_controlnet(
    tiny_sd: Path, tmp_path: Path, expected: Any, name: str
) -> None:
    path = write_single_file(tiny_sd, tmp_path / "one", name)
    assert family_of(str(path)) == "sd"
    assert default_controlnet(str(path), "sd") == str(path)
    assert same(image_with(str(path), None), expected)


def test_a_file_without_configurations_says_how_to_get_them(tiny_sd: Path, tmp_path: Path) -> None:
    path = write_single_file(tiny_sd, tmp_path / "one", "control_sd15_canny.safetensors")
    alone = tmp_path / "alone" / path.name
    alone.parent.mkdir()
    path.rename(alone)
    for said in (refusal_of(str(alone), str(tiny_sd / "controlnet")), refusal_of(str(alone), None)):
        assert f"{alone} cannot be loaded: " in said
        assert f"{alone.parent} has none" in said
        assert "HF_HUB_OFFLINE" in said
        assert "hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --local-dir DIR --include" in said
        assert "hf download lllyasviel/sd-controlnet-canny config.json --local-dir DIR/controlnet" in said


def test_a_folder_may_hold_its_controlnet(tiny_sd: Path, tmp_path: Path, expected: Any) -> None:
    shutil.copytree(tiny_sd / "model", tmp_path / "both")
    shutil.copytree(tiny_sd / "controlnet", tmp_path / "both" / "controlnet")
    assert same(image_with(str(tmp_path / "both"), None), expected)


def test_xl_is_chosen_by_the_models_class(tiny_sdxl: Path) -> None:
    assert family_of(str(tiny_sdxl / "model")) == "sdxl"
    assert default_controlnet(str(tiny_sdxl / "model"), "sdxl") == "diffusers/controlnet-canny-sdxl-1.0"
    image = image_with(str(tiny_sdxl / "model"), str(tiny_sdxl / "controlnet"))
    assert image.shape == (60, 80, 3)
    assert image.std() > 5


def test_a_controlnet_of_another_class_is_refused(tiny_sd: Path, tiny_sdxl: Path) -> None:
    said = refusal_of(str(tiny_sd / "model"), str(tiny_sdxl / "controlnet"))
    assert "is not for" in said
    assert "cross_attention_dim" in said


def test_paths_that_hold_no_model(tiny_sd: Path, tmp_path: Path) -> None:
    assert "no such folder or file" in refusal_of(str(tmp_path / "none"), None)
    assert "no model_index.json" in refusal_of(str(tiny_sd), None)
    (tmp_path / "noise.safetensors").write_bytes(b"\xff" * 64)
    assert "cannot be read as a file of weights" in refusal_of(str(tmp_path / "noise.safetensors"), None)
    (tmp_path / "noise.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")  # a pickle that would run a program
    assert "cannot be read as a file of weights" in refusal_of(str(tmp_path / "noise.pth"), None)
    weights = tiny_sd / "controlnet" / "diffusion_pytorch_model.safetensors"
    assert "is not a Stable Diffusion model" in refusal_of(str(weights), None)
    assert "ControlNet" in refusal_of(str(tiny_sd / "model"), str(tmp_path))
    flux = tmp_path / "flux"
    flux.mkdir()
    (flux / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    assert "is a FluxPipeline" in refusal_of(str(flux), None)
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_sd / "model", damaged)
    (damaged / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"\0" * 100)
    assert "cannot be loaded" in refusal_of(str(damaged), str(tiny_sd / "controlnet"))


def test_a_folders_fingerprint_follows_its_weights(tiny_sd: Path, tmp_path: Path) -> None:
    first = resolved_revision(str(tiny_sd / "controlnet"), None)
    copy = tmp_path / "copy"
    shutil.copytree(tiny_sd / "controlnet", copy)
    assert resolved_revision(str(copy), None) == first
    other = tmp_path / "other"
    shutil.copytree(tiny_sd / "controlnet", other)
    path = other / "diffusion_pytorch_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    assert resolved_revision(str(other), None) != first


def test_names(tmp_path: Path) -> None:
    assert split_revision("org/name") == ("org/name", None)
    assert split_revision("org/name@main") == ("org/name", "main")
    folder = tmp_path / "a@b"
    folder.mkdir()
    assert split_revision(str(folder)) == (str(folder), None)
    # the default model's class is known without having it
    pins = pin(ModelChoice(DEFAULT_MODEL, None, None, None, "fp32"))
    assert pins.controlnet == "lllyasviel/sd-controlnet-canny"
    assert pin(ModelChoice("nobody/nothing", "v1", None, None, "fp32")).controlnet is None


def test_on_a_gpu_the_networks_are_channels_last(tiny_sd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it can be seen without one: everything that is done for a GPU but the move itself."""
    from escort_codec.regenerate.controlnet.loading import DiffusionModel, load

    def to(self: Any, *given: Any, device: Any = None, **more: Any) -> Any:
        devices.add(str(device))
        return move(self, *given, **more)

    devices: set[str] = set()
    loaded = load(
        ModelChoice(str(tiny_sd / "model"), None, str(tiny_sd / "controlnet"), None, "fp32"), torch.device("cpu")
    )
    pipeline = loaded.pipeline
    networks = (pipeline.unet, pipeline.controlnet, pipeline.vae)
    weights = [module.weight for n in networks for module in n.modules() if isinstance(module, torch.nn.Conv2d)]
    weights = [weight for weight in weights if weight.shape[1] > 1 and weight.shape[2] > 1]
    assert not any(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    move = torch.nn.Module.to
    monkeypatch.setattr(torch.nn.Module, "to", to)
    DiffusionModel(pipeline, "sd", torch.bfloat16, torch.device("cuda", 0))
    assert "cuda:0" in devices
    assert len(weights) > 20
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    assert {network.dtype for network in networks} == {torch.bfloat16}


def test_half_precision_loads_as_such(tiny_sd: Path) -> None:
    from escort_codec.regenerate.controlnet.loading import load

    choice = ModelChoice(str(tiny_sd / "model"), None, str(tiny_sd / "controlnet"), None, "bf16")
    loaded = load(choice, torch.device("cpu"))
    parts = (loaded.pipeline.unet, loaded.pipeline.controlnet, loaded.pipeline.vae, loaded.pipeline.text_encoder)
    assert {part.dtype for part in parts} == {torch.bfloat16}
    assert loaded.pipeline.safety_checker is None
    loaded.close()
