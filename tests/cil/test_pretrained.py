"""Pretrained backbones: small random models of transformers, saved to a folder as the Hub has them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from escort_cil.evaluation import evaluate_run
from escort_cil.learners import learners
from escort_cil.networks import Backbone, backbone_maker
from escort_cil.networks.pretrained import check_description, describe, pretrained_maker
from escort_cil.run.plan import RunPlan
from escort_cil.run.presets import filled
from escort_cil.run.settings import TrainConfig
from escort_cil.trainer import train
from escort_codec.errors import ConfigError
from tests.cil.run.test_checkpoint import Killed, killer
from tests.cil.small_runs import logged, quick

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {"resnet": 32, "convnext": 32, "vit": 32, "dinov2": 28}
MEAN, STD = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)


def models() -> dict[str, Any]:
    """One small model of each kind, with random weights."""
    t: Any = transformers
    torch.manual_seed(3)
    transformer: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    vit = t.ViTConfig(**transformer, intermediate_size=32, image_size=32, patch_size=8)
    return {
        "resnet": t.ResNetModel(t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])),
        "convnext": t.ConvNextModel(t.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2)),
        "vit": t.ViTForImageClassification(vit),  # with a classifier, which is left out
        "dinov2": t.Dinov2Model(t.Dinov2Config(**transformer, image_size=28, patch_size=14)),
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name, model in models().items():
        model.save_pretrained(root / name)
        processor = {"do_center_crop": True, "crop_size": {"height": SIZES[name], "width": SIZES[name]}}
        (root / name / "preprocessor_config.json").write_text(
            json.dumps({**processor, "size": {"shortest_edge": 40}, "image_mean": MEAN, "image_std": STD})
        )
    return root


def features_of(name: str, model: Any, images: torch.Tensor) -> torch.Tensor:
    """What transformers itself gives: the pooled map, or the class token."""
    output = model.eval()(pixel_values=images)
    pooled: torch.Tensor = output.last_hidden_state[:, 0] if name in ("vit", "dinov2") else output.pooler_output
    return pooled.flatten(1)


@pytest.mark.parametrize("name", list(SIZES))
def test_features_are_those_of_transformers(name: str, saved: Path) -> None:
    source = f"hf:{saved / name}"
    about = describe(source)
    assert about["size"] == SIZES[name]
    backbone = backbone_maker(source)()
    images = torch.randn(2, 3, SIZES[name], SIZES[name])
    model = models()[name]
    model = getattr(model, "vit", model)
    with torch.no_grad():
        features = backbone.eval()(images)
        assert torch.allclose(features, features_of(name, model, images), atol=1e-5)
    assert features.shape == (2, backbone.feature_dim)
    assert backbone.stages == (2 if name in ("resnet", "convnext") else 0)
    if backbone.stages:
        again, maps = backbone.with_maps(images)
        assert torch.equal(again, features)
        assert [each.shape[1] for each in maps] == [8, 16]
    # Every weight has a gradient, as several processes ask for, and the network can be built without its source.
    backbone.train()(images).square().sum().backward()
    assert not [key for key, weight in backbone.named_parameters() if weight.grad is None]
    built = pretrained_maker("hf:gone", about, weights=False)()
    built.load_state_dict(backbone.state_dict())
    assert torch.equal(built.eval()(images), backbone.eval()(images))
    # Larger images than its own.
    assert backbone(torch.randn(1, 3, 56, 56)).shape == (1, backbone.feature_dim)


@pytest.mark.parametrize(
    ("name", "method"), [("resnet", "memo"), ("convnext", "podnet"), ("vit", "foster"), ("dinov2", "der")]
)
def test_a_run(name: str, method: str, saved: Path, small_data: Path, tmp_path: Path) -> None:
    source = tmp_path / "model"
    shutil.copytree(saved / name, source)
    config = quick(small_data, method=method, backbone=f"hf:{source}", image_size=None, epochs=1)
    lines: list[str] = []
    with pytest.raises(Killed), logged(killer(4)), logged(lines.append):
        train(config, out=tmp_path / "run")
    assert any(f"hf:{source}, trained at 0.1 of the learning rate at {SIZES[name]} pixels" in line for line in lines)
    whole = train(config, out=tmp_path / "whole")
    assert (whole.config.image_size, whole.config.make_transform().mean) == (SIZES[name], MEAN)
    shutil.rmtree(source)
    # The run's own configuration has what the network is: its source may be gone.
    resumed = train(
        TrainConfig.from_map(json.loads((tmp_path / "run" / "config.json").read_text())["config"])
        if "config" in json.loads((tmp_path / "run" / "config.json").read_text())
        else whole.config,
        out=tmp_path / "run",
        resume=True,
    )
    assert resumed.records == whole.records
    assert evaluate_run(tmp_path / "whole", small_data).main.to_record()["top1"] == whole.records[-1]["top1"]


def test_frozen_and_slower(saved: Path, small_data: Path, tmp_path: Path) -> None:
    name = f"hf:{saved / 'resnet'}"
    before = backbone_maker(name)().state_dict()
    for method in ("icarl", "simplecil"):
        config = quick(small_data, method=method, backbone=name, image_size=None, freeze=True, increment=3)
        train(config, out=tmp_path / method)
        after = load_file(tmp_path / method / "model.safetensors")
        assert all(torch.equal(after[f"body.{key}"], value) for key, value in before.items())
    records = [json.loads(line) for line in (tmp_path / "simplecil" / "metrics.jsonl").read_text().splitlines()]
    assert records[0]["top1"] > 100 / 3 - 1e-6  # means of random features still tell drawn pictures apart
    # A rate of 0 is frozen weights too, but batch normalisation goes on.
    config = quick(small_data, backbone=name, image_size=None, backbone_lr=0.0, increment=5, epochs=1)
    train(config, out=tmp_path / "slow")
    after = load_file(tmp_path / "slow" / "model.safetensors")
    changed = {key for key, value in before.items() if not torch.equal(after[f"body.{key}"], value)}
    assert changed
    assert all("running" in key or "num_batches" in key for key in changed)


def test_what_cannot_be_used_is_said(saved: Path, small_data: Path) -> None:
    vit, resnet = (f"hf:{saved / name}" for name in ("vit", "resnet"))
    for options, message in (
        (
            {"method": "memo", "backbone": vit},
            r"shares all stages but the last, and .*vit has no stages: take a resnet",
        ),
        ({"method": "podnet", "backbone": vit}, r"distils the maps after each stage, and .*vit has no stages"),
        ({"method": "der", "backbone": resnet, "freeze": True}, r"freeze = True: der adds trained parts"),
        ({"method": "foster", "backbone": resnet, "freeze": True}, r"freeze = True: foster adds trained parts"),
        ({"backbone": "resnet18", "freeze": True}, r"freeze = True: resnet18 is not pretrained"),
        ({"backbone": resnet, "stem": "cifar"}, r"stem = 'cifar': a pretrained backbone has its own stem"),
        ({"backbone": "hf:/none/such"}, r"backbone = 'hf:/none/such': is neither a folder nor a Hub id"),
        ({"backbone": "hf:"}, r"is neither a folder nor a Hub id"),
    ):
        with pytest.raises(ConfigError, match=message):
            RunPlan(quick(small_data, **{"image_size": None, **options}))
    for name, kind in learners._members.items():
        assert bool(kind.needs_stages) == (name in ("memo", "podnet"))
        assert kind.grows == (name in ("der", "memo", "foster"))


def test_a_damaged_model_is_said(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved / "vit", folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"model.safetensors in .* cannot be used"):
        backbone_maker(f"hf:{folder}")()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match=r"is of the kind bert: resnet, convnext, .* can be used"):
        describe(f"hf:{folder}")
    (folder / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config.json in .* cannot be used"):
        describe(f"hf:{folder}")
    about = describe(f"hf:{saved / 'vit'}")
    for damage, message in (
        ({"size": 10**9}, "its size is not a number of pixels"),
        ({"mean": [0.5]}, "its mean does not have three values"),
        ({"std": [1, 0, 1]}, "its std is not a number"),
        ({"model": {**about["model"], "hidden_size": 10**9}}, "it has a number that is too large"),
        ({"model": {**about["model"], "num_hidden_layers": 60000}}, "it has too many layers"),
        ({"model": {"model_type": "bert"}}, "its model is none of resnet"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_description({**about, **damage}, "hf:x")


def test_where_the_values_come_from(saved: Path) -> None:
    name = f"hf:{saved / 'dinov2'}"
    config, decided = filled(TrainConfig(backbone=name, dataset="cifar100"))
    assert (config.image_size, decided["image_size"]) == (28, f"backbone {name}")
    assert filled(TrainConfig(backbone=name, image_size=56))[0].image_size == 56
    assert config.make_transform().std == STD
    again, decided = filled(config)
    assert again == config
    assert "backbone_config" not in decided
    assert isinstance(backbone_maker("resnet10")(), Backbone)


def test_offline_nothing_is_downloaded(tmp_path: Path) -> None:
    # A process of its own, as huggingface_hub reads the environment once.
    script = "from escort_cil.networks.pretrained import describe; describe('hf:some/model')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        env={"PATH": "", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .endswith(
            "hf:some/model: HF_HUB_OFFLINE is set, so nothing is downloaded: looked for config.json of some/model in "
            f"{tmp_path / 'hub'}: get it with 'hf download some/model', or give a folder: hf:FOLDER"
        )
    )
