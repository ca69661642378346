"""``escort train --regenerator controlnet``: what is learnt from is made by the diffusion model, as in ``decode``."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from escort_cil.demo.drawings import draw_dataset
from escort_cil.memory.synthetic import QUALITY
from escort_cli.app import app
from escort_codec.container import Reader
from escort_codec.regenerate.base import RGBImage
from escort_codec.regenerate.controlnet.options import ControlNetOptions
from escort_codec.regenerate.controlnet.regenerator import ControlNetRegenerator

QUICK = (
    "--backbone resnet10 --image-size 16 --epochs 1 --increment 2 --batch-size 8 --budget 8000 --keep prompt --seeds 3 "
    "--hint 0 --device cpu --workers 1"
)


def escort(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def as_saved(image: RGBImage) -> NDArray[np.int64]:
    """Through a JPEG file such as the cache's."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(file)).astype(np.int64)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    draw_dataset(tmp_path / "data", classes=3, train=2, test=1, size=48)
    return tmp_path / "data"


def test_copies_are_the_diffusion_models(tiny_sd: Path, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    model, controlnet = str(tiny_sd / "model"), str(tiny_sd / "controlnet")
    wanted = [f"model={model}", f"controlnet={controlnet}", "steps=1", "resolution=64"]
    settings = [text for one in wanted for text in ("--set", f"regenerator.{one}")]
    result = escort("train", data, "--out", run, "--regenerator", "controlnet", *QUICK.split(), *settings)
    assert result.exit_code == 0, result.stderr
    assert "synthetic images: by controlnet" in result.stderr
    config = json.loads((run / "config.json").read_text())
    assert config["regenerator"] == "controlnet"
    assert config["regenerator_options"]["steps"] == 1
    made = [np.asarray(Image.open(path)).astype(int) for path in sorted((run / "cache").rglob("*.jpg"))]
    assert len(made) == 6  # three classes of two images, one seed
    options = ControlNetOptions(device="cpu", model=model, controlnet=controlnet, steps=1, resolution=64)
    with Reader(run / "memory.escx") as memory, ControlNetRegenerator(options) as regenerator:
        for exemplar in memory:
            expected = as_saved(regenerator.image(exemplar, 3))
            assert min(np.abs(image - expected).mean() for image in made if image.shape == expected.shape) < 1


def test_a_missing_model_is_one_line(data: Path, tmp_path: Path) -> None:
    options = ["--regenerator", "controlnet", "--set", "regenerator.model=nobody/nothing", *QUICK.split()]
    result = escort("train", data, "--out", tmp_path / "run", *options)
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("escort train: ")]
    assert line.startswith("escort train: the model nobody/nothing was not found")
    assert "hf download nobody/nothing" in line
