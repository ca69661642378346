"""Data sets' presets, stems, and the rules of PyCIL's and the paper's code that their files leave out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from escort_cil.data.protocol import numbers_note
from escort_cil.networks import STEMS, backbone_maker
from escort_cil.run.command import TrainCommand, configure, sources_of
from escort_cil.run.presets import datasets, filled, preset_for, size_for
from escort_cil.run.settings import TrainConfig
from escort_codec.errors import ConfigError, UnknownNameError
from escort_codec.source import SourceImage
from tests.cil.pycil_files import EXPS, MEMO

# The paper's exps/config.json.
PAPER = {
    "dataset": "Food101",
    "augmentation_prob": 0.0,
    "augmentations_per_image": 1,
    "memory_per_class": 20,
    "real_per_class": 20,
    "syn_per_class": 0,
    "init_cls": 51,
    "increment": 5,
    "memory_size": None,
    "fixed_memory": True,
    "shuffle": True,
    "model_name": "der",
    "convnet_type": "resnet18",
    "device": ["0"],
    "seed": [1993],
    "model_seed": 1,
    "batch_size": 128,
    "num_workers": 8,
}


def read(folder: Path, values: dict[str, Any], **typed: Any) -> TrainCommand:
    path = folder / "file.json"
    path.write_text(json.dumps(values))
    return configure(typed, file=path)


def protocol(config: TrainConfig) -> tuple[Any, ...]:
    """Image size, transform, AutoAugment, stem."""
    whole, _ = filled(config)
    return whole.image_size, whole.transform, whole.autoaugment, whole.stem


@pytest.mark.parametrize("name", ["icarl", "wa", "der", "memo"])
def test_pycils_cifar_files_run_at_32_pixels(name: str, tmp_path: Path) -> None:
    asked = read(tmp_path, {**EXPS, "model_name": name, **(MEMO if name == "memo" else {})})
    config = asked.config
    assert (config.method, config.backbone, config.dataset) == (name, "resnet32", "cifar100")
    assert protocol(config) == (32, "small", "off", "cifar")
    method = config.hyperparameters()
    assert (method.init_epochs, method.init_milestones, method.epochs) == (200, (60, 120, 170), 170)
    transform = config.make_transform()
    assert (transform.size, transform.crop, transform.padding, transform.auto_augment) == (32, "padded", 4, False)
    assert transform.mean == (0.5071, 0.4867, 0.4408)
    assert any("names 4 GPUs, and this process uses one" in note for note in asked.notes)
    assert config.budget == "2000units"


def test_the_papers_own_file(tmp_path: Path) -> None:
    asked = read(tmp_path, PAPER)
    assert protocol(asked.config) == (224, "large", "imagenet", "pycil")
    assert (asked.config.budget, asked.config.keep) == ("20units/class", "20 original")
    assert asked.notes == ()
    assert protocol(read(tmp_path, PAPER | {"init_cls": 5}).config)[-1] == "imagenet"
    # What is typed counts: the first phase is then as large as the others.
    assert protocol(read(tmp_path, PAPER, init_cls="5").config)[-1] == "imagenet"
    assert protocol(read(tmp_path, PAPER, stem="cifar").config)[-1] == "cifar"
    assert protocol(read(tmp_path, PAPER | {"model_name": "memo", "convnet_type": "memo_resnet18"}).config)[-1] == (
        "imagenet"
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # PyCIL's ImageNet transform has no AutoAugment; the paper's has it, for every data set of large images.
        ({"dataset": "imagenet100", "convnet_type": "resnet18"}, (224, "large", "off", "imagenet")),
        ({"dataset": "imagenet100", "convnet_type": "resnet18", "init_cls": 50}, (224, "large", "off", "pycil")),
        ({"dataset": "imagenet1000", "convnet_type": "resnet18", "real_per_class": 18}, (224, "large", "imagenet")),
        ({"dataset": "cifar100", "convnet_type": "resnet18", "init_cls": 50}, (32, "small", "off", "cifar")),
        ({"dataset": "cifar10", "convnet_type": "resnet18"}, (32, "cifar10", "off", "cifar")),
        ({"dataset": "tinyimagenet", "convnet_type": "resnet18", "init_cls": 100}, (64, "small", "off", "pycil")),
        ({"dataset": "my birds", "convnet_type": "resnet18"}, (224, "large", "off", "imagenet")),
        ({"dataset": "caltech256", "convnet_type": "resnet18"}, (224, "large", "imagenet", "imagenet")),
    ],
)
def test_what_the_authors_code_decides(change: dict[str, Any], expected: tuple[Any, ...], tmp_path: Path) -> None:
    asked = read(tmp_path, {**EXPS, "model_name": "icarl", **change})
    assert protocol(asked.config)[: len(expected)] == expected
    assert any("is not known here" in note for note in asked.notes) == (change["dataset"] == "my birds")


def test_naming_keys_change_nothing(tmp_path: Path) -> None:
    own = {"backbone": "resnet10", "epochs": 6, "lr": 0.05}
    named = {**own, "prefix": "x", "csv_name": "y", "time_str": "z", "wb-project": "w"}
    assert read(tmp_path, named).config == read(tmp_path, own).config
    made = read(tmp_path, named).config.hyperparameters()
    assert (made.init_epochs, made.epochs) == (6, 6)
    assert len(read(tmp_path, named).notes) == 4
    # PyCIL's epochs are those of later phases where the file has the first phase's schedule as well.
    assert read(tmp_path, {"model_name": "icarl", "epochs": 6}).config.hyperparameters().init_epochs == 6
    theirs = read(tmp_path, {"model_name": "icarl", "epochs": 6, "init_epoch": 8}).config.hyperparameters()
    assert (theirs.init_epochs, theirs.epochs) == (8, 6)


def test_milestones_move_with_the_epochs_that_they_belong_to(tmp_path: Path) -> None:
    def milestones(values: dict[str, Any], **typed: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        made = read(tmp_path, {**EXPS, "model_name": "icarl", **values}, **typed).config.hyperparameters()
        return made.init_milestones, made.milestones

    # iCaRL's own: 60, 120, 170 of 200 and 80, 120 of 170.
    assert milestones({}, epochs="20") == ((6, 12, 17), (9, 14))
    assert milestones({"init_epoch": 100, "epochs": 85}) == ((30, 60, 85), (40, 60))
    assert milestones({"init_epoch": 100, "epochs": 85}, epochs="20") == ((6, 12, 17), (9, 14))
    explicit = {"init_epoch": 100, "init_milestones": [50], "epochs": 60, "milestones": [30, 45]}
    assert milestones(explicit) == ((50,), (30, 45))
    assert milestones(explicit, epochs="20") == ((10,), (10, 15))
    assert configure({"method.epochs": "17"}).config.hyperparameters().milestones == (8, 12)


def test_the_method_is_checked_first_and_in_any_letter_case(tmp_path: Path) -> None:
    assert read(tmp_path, {**EXPS, "model_name": "iCaRL"}).config.method == "icarl"
    for name, message in (
        ("TagFex", "escort does not have this method of PyCIL"),
        ("icral", "there is no such method"),
    ):
        with pytest.raises(ConfigError, match=f"model_name = '{name}': {message}: the methods are icarl, "):
            read(tmp_path, {"lambda_c_base": 5, "model_name": name})
    with pytest.raises(ConfigError, match="model_name = 3: there is no such method"):
        read(tmp_path, {"model_name": 3})


def test_each_value_says_where_it_comes_from(tmp_path: Path) -> None:
    values = {**EXPS, "model_name": "memo", **MEMO}
    asked = read(tmp_path, values, epochs="17", **{"method.momentum": "0.8"})
    _, decided = filled(asked.config)
    found, file = sources_of(asked, decided), tmp_path / "file.json"
    assert found["method"] == f"{file}: model_name"
    assert found["budget"] == f"{file}: memory_size"
    assert found["image_size"] == found["transform"] == "preset cifar100"
    assert found["autoaugment"] == "as in the code of PyCIL"
    assert found["stem"] == "backbone resnet32"
    assert (found["epochs"], found["method.momentum"], found["canny_low"]) == ("flag", "flag", "default")
    assert found["method.epochs"] == "the setting epochs"
    assert found["method.milestones"] == f"the setting epochs, scaled from {file}: milestones"
    assert found["method.aux_weight"] == f"{file}: alpha_aux"
    plain = configure({})
    assert sources_of(plain, filled(plain.config)[1])["method.epochs"] == "default of icarl"


def test_the_size_of_the_images_decides_without_a_data_set(tmp_path: Path) -> None:
    assert [size_for(side) for side in (28, 32, 40, 41, 64, 96, 97, 500)] == [32, 32, 32, 64, 64, 64, 224, 224]
    images = []
    for n, size in enumerate([(64, 80), (300, 70), (60, 60)]):  # shorter sides 64, 70 and 60
        path = tmp_path / f"{n}.png"
        Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path)
        images.append(SourceImage(path, "a", path.name))
    (tmp_path / "bad.png").write_bytes(b"no image")
    images.append(SourceImage(tmp_path / "bad.png", "a", "bad.png"))
    whole, by = filled(TrainConfig(), images)
    assert (whole.image_size, whole.transform, whole.stem) == (64, "small", "pycil")
    assert by["image_size"] == "the images' shorter side, 64 pixels"
    assert by["stem"] == "preset for 64 pixels"
    assert filled(TrainConfig(dataset="CIFAR-100"), images)[0].image_size == 32
    assert filled(TrainConfig(image_size=128), images)[0].stem == "imagenet"
    assert filled(TrainConfig(backbone="resnet10"), images)[0].stem == "small"
    assert filled(whole)[0] == whole
    with pytest.raises(UnknownNameError, match="no data set is called 'cifra10'; did you mean 'cifar10'"):
        TrainConfig(dataset="cifra10")


def test_every_preset_can_be_made() -> None:
    names = {"cifar10", "cifar100", "tinyimagenet", "imagenet100", "imagenet1000", "caltech256", "food101", "places100"}
    assert set(datasets.names()) == names
    for name in names:
        transform = TrainConfig(dataset=name).make_transform()
        preset = preset_for(name)
        assert preset is not None
        assert (transform.size, transform.preset) == (preset.image_size, preset.transform)
        assert transform.auto_augment == (name in ("caltech256", "food101", "places100"))
        backbone_maker("resnet18", preset.stem)
    assert TrainConfig(dataset="cifar10").make_transform().std == (0.2023, 0.1994, 0.2010)
    assert TrainConfig(dataset="imagenet100", autoaugment="imagenet").make_transform().auto_augment
    assert TrainConfig(dataset="cifar100", autoaugment="imagenet").make_transform().auto_augment


def multiplications(stem: str, side: int) -> int:
    """Multiplications of resnet18's convolutions for one image, counted from the shapes."""
    total = 0

    def count(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        nonlocal total
        assert isinstance(module, torch.nn.Conv2d)
        total += module.weight[0].numel() * output.numel()

    network = backbone_maker("resnet18", stem)().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.device("meta"):
        network.to_empty(device="meta")(torch.empty(1, 3, side, side))
    return total


def test_stems() -> None:
    # At 224 pixels the first stage sees 56 x 56 after ImageNet's stem and 112 x 112 after PyCIL's.
    assert multiplications("imagenet", 224) == pytest.approx(1814e6, rel=1e-3)
    assert multiplications("pycil", 224) == pytest.approx(6869e6, rel=1e-3)
    sides = {
        name: torch.nn.Sequential(*stem.layers(8))(torch.zeros(2, 3, 64, 64)).shape[-1] for name, stem in STEMS.items()
    }
    assert sides == {"imagenet": 16, "cifar": 64, "pycil": 32, "small": 16}
    assert STEMS["pycil"].describe() == "3 x 3, stride 1, max pooling"
    with pytest.raises(ConfigError, match="stem = 'pycil': resnet32 only has the stem cifar"):
        backbone_maker("resnet32", "pycil")


def test_classes_named_by_numbers() -> None:
    texts = [str(n) for n in range(12)]
    (note,) = numbers_note(texts, 1993)
    assert "sorted as texts (0, 1, 10, ...)" in note
    assert "seed 1993 gives another order" in note
    assert numbers_note([f"{n:02}" for n in range(12)], 1993) == ()
    assert numbers_note(["0", "1", "cat"], 1993) == ()
