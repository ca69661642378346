"""Configurations: defaults that depend on each other, files with the paper's and PyCIL's keys, and what beats what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from escort_cil.bytes import parse_bytes
from escort_cil.data.protocol import class_order
from escort_cil.policy import Mix, RealKind
from escort_cil.run.command import configure, parse_settings
from escort_cil.run.pycil import read_config_file
from escort_cil.run.settings import TrainConfig
from escort_codec.errors import ConfigError, UsageError

PAPER = {
    "prefix": "reproduce",
    "dataset": "caltech256",
    "augmentation_prob": 0.4,
    "augmentations_per_image": 5,
    "memory_size": 2000,
    "memory_per_class": 20,
    "real_per_class": 18,
    "syn_per_class": 48,
    "fixed_memory": True,
    "shuffle": True,
    "init_cls": 50,
    "increment": 25,
    "model_name": "icarl",
    "convnet_type": "resnet18",
    "device": ["0"],
    "seed": [1993, 7],
    "model_seed": 2,
    "batch_size": 64,
    "num_workers": 4,
}
MEMO = {
    "prefix": "benchmark",
    "dataset": "cifar100",
    "memory_size": 2000,
    "memory_per_class": 20,
    "fixed_memory": False,
    "shuffle": True,
    "init_cls": 10,
    "increment": 10,
    "model_name": "memo",
    "convnet_type": "memo_resnet32",
    "train_base": True,
    "train_adaptive": False,
    "debug": False,
    "skip": False,
    "device": ["0", "1", "2", "3"],
    "seed": [1993],
    "scheduler": "steplr",
    "init_epoch": 200,
    "t_max": None,
    "init_lr": 0.1,
    "init_weight_decay": 5e-4,
    "init_lr_decay": 0.1,
    "init_milestones": [60, 120, 170],
    "milestones": [80, 120, 150],
    "epochs": 170,
    "lrate": 0.1,
    "batch_size": 128,
    "weight_decay": 2e-4,
    "lrate_decay": 0.1,
    "alpha_aux": 0.5,
}


def write(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(values))
    return path


def test_the_papers_file(tmp_path: Path) -> None:
    config, seeds, notes = configure({}, {}, file=write(tmp_path, PAPER))
    assert seeds == (1993, 7)
    assert config == TrainConfig(
        method="icarl",
        backbone="resnet18",
        init_cls=50,
        increment=25,
        model_seed=2,
        batch_size=64,
        workers=4,
        device="cuda:0",
        memory_per_class=20,
        real_per_class=18,
        syn_per_class=48,
        augmentation_prob=0.4,
        augmentations_per_image=5,
    )
    assert config.kept == Mix(18, 48, counts=True)
    assert any("caltech256" in note for note in notes)
    assert any("memory_size" in note for note in notes)


def test_pycils_file(tmp_path: Path) -> None:
    config, seeds, _ = configure({}, {}, file=write(tmp_path, MEMO))
    assert (config.method, config.backbone, config.device, seeds) == ("memo", "resnet32", "cuda", (1993,))
    assert (config.memory_size, config.memory_per_class, config.probability) == (2000, None, 0.0)
    assert config.kept == Mix(2000, 0, counts=True)
    method = config.hyperparameters()
    assert (method.init_epochs, method.epochs, method.milestones) == (200, 170, (80, 120, 150))
    assert method.aux_weight == 0.5  # type: ignore[attr-defined]


def test_the_command_line_beats_settings_and_these_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, PAPER)
    settings = parse_settings(["init_cls=40", "increment=20", "method.temperature=3", "regenerator.workers=2"])
    config, seeds, _ = configure({"increment": 10, "device": "cpu"}, settings, file=file, seeds=(5,))
    assert (config.init_cls, config.increment, config.device, config.model_seed, seeds) == (40, 10, "cpu", 2, (5,))
    assert config.hyperparameters().temperature == 3  # type: ignore[attr-defined]
    assert config.make_regenerator_options().workers == 2
    assert config.make_regenerator_options("cuda:1").near == "cuda:1"
    with pytest.raises(ConfigError, match="near"):
        configure({}, parse_settings(["regenerator.near=cpu"]))[0].make_regenerator_options()


def test_a_runs_own_file(tmp_path: Path) -> None:
    config = TrainConfig(data="x", method="wa", budget=1000, seeds=(1, 2), epochs=4)
    assert configure({}, {}, file=write(tmp_path, {"version": "1", "command": ["x"], **config.to_map()}))[0] == config
    assert TrainConfig.from_map(json.loads(json.dumps(config.to_map()))) == config


def test_both_kinds_of_keys_in_one_file(tmp_path: Path) -> None:
    more = {"budget": "20KB", "regenerator": "harmonic", "method_options": {"momentum": 0.8}, "T": 3}
    bare = {key: value for key, value in PAPER.items() if key not in ("memory_per_class", "memory_size")}
    config, seeds, _ = configure({}, {}, file=write(tmp_path, bare | more))
    assert (config.method, config.budget, seeds) == ("icarl", 20_000, (1993, 7))
    assert config.method_options == {"momentum": 0.8, "temperature": 3}
    # The key that is wrong is named, not the first of the other kind.
    with pytest.raises(ConfigError, match="'epcohs' is not known; did you mean 'epochs'"):
        configure({}, {}, file=write(tmp_path, {"backbone": "resnet10", "epcohs": 3}))
    with pytest.raises(ConfigError, match="model_name and method say the same"):
        configure({}, {}, file=write(tmp_path, PAPER | {"method": "wa"}))
    with pytest.raises(ConfigError, match="give a JSON object"):
        configure({}, {}, file=write(tmp_path, {"method_options": "fast"}))


def test_a_list_of_seeds_in_a_runs_own_file(tmp_path: Path) -> None:
    values = {**TrainConfig(data="x", class_order=()).to_map(), "seed": [5, 6]}
    config, seeds, _ = configure({}, {}, file=write(tmp_path, values))
    assert (config.seed, seeds, config.data) == (5, (5, 6), "x")


def test_other_seeds_draw_other_orders(tmp_path: Path) -> None:
    labels = ("a", "b", "c", "d")
    drawn = {"data": "x", "seed": 3, "class_order": class_order(labels, 3)}
    file = write(tmp_path, drawn)
    assert configure({}, {}, file=file)[0].class_order == drawn["class_order"]
    assert configure({}, {}, file=file, seeds=(3,))[0].class_order == drawn["class_order"]
    assert configure({}, {}, file=file, seeds=(4,))[0].class_order == ()
    assert configure({}, {}, file=file, seeds=(3, 4))[0].class_order == ()
    # An order that somebody chose is no seed's.
    chosen = write(tmp_path, {"data": "x", "seed": 3, "class_order": labels})
    assert configure({}, {}, file=chosen, seeds=(4,))[0].class_order == labels
    with pytest.raises(UsageError, match="the order is given"):
        configure({}, {}, file=chosen, seeds=(4, 5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augmentaton_prob": 0.4}, "'augmentaton_prob' is not known; did you mean 'augmentation_prob'"),
        ({"train_adaptive": True}, "train_adaptive = True is not built"),
        ({"scheduler": "cosine"}, "only 'steplr' is"),
        ({"seed": ["a"]}, "whole numbers"),
        ({"device": ["tpu"]}, "GPU numbers"),
        ({"real_per_class": 30}, "less than 30 real exemplars and 48 prompts, which are 32 units"),
        ({"model_name": "podnet"}, "no learner is called 'podnet'"),
        ({"init_epoch": 0}, "init_epochs"),
        ({"T": 3, "model_name": "der"}, "'temperature' is not known"),
    ],
)
def test_files_that_cannot_be_meant(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, UsageError), match=message):
        configure({}, {}, file=write(tmp_path, PAPER | change))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_config_file(tmp_path / "none.json")
    for text, message in (("{", "is not a JSON file"), ("[]", "no JSON object")):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_config_file(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"budget": 1, "budget_per_class": 1}, "--budget and --budget-per-class are two budgets"),
        ({"budget": -1}, "must not be negative"),
        ({"mix": "real=0.3,prompt=0.7"}, "needs a budget in bytes"),
        ({"mix": "real=1,prompt=1", "syn_per_class": 3}, "says the same"),
        ({"mix": "real=0.3,prompt=0.3", "budget": 1}, "must add up to 1"),
        ({"mix": "real=x", "budget": 1}, "write shares"),
        ({"real": "jpeg:3"}, "write original"),
        ({"real": "webp:0"}, "write original"),
        ({"real": "webp:64:101"}, "write original"),
        ({"real": "webp:64", "mix": "prompt=1", "budget": 9}, "no real exemplars are kept"),
        ({"augmentation_prob": 1.5}, "between 0 and 1"),
        ({"eval_views": "all"}, "real, regenerated or both"),
        ({"mixed_precision": "fp8"}, "no, bf16 or fp16"),
        ({"epochs": 0}, "--epochs 0"),
        ({"seed": -1}, "--seed -1"),
        ({"image_size": 4}, "at least 8"),
    ],
)
def test_values_that_cannot_be_meant(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**values)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seeds=0-4", r"seeds = '0-4': give a list of whole numbers, such as \[0, 1\]"),
        ("track=tensorboard", "track = 'tensorboard': give a list of texts"),
        ("epochs=many", "epochs = 'many': give a whole number or null"),
        ("blur=true", "blur = True: give a number"),
        ("class_order=[1]", "give a list of texts"),
        ("shuffle=1", "shuffle = 1: give true or false"),
        ("data=3", "data = 3: give a text"),
        ("budget=many", "no number of bytes"),
    ],
)
def test_settings_of_a_wrong_kind(setting: str, message: str) -> None:
    with pytest.raises((ConfigError, UsageError), match=message):
        configure({}, parse_settings([setting]))
    right = ["seeds=[0, 4]", 'track=["tensorboard"]', "epochs=3", "blur=1", "budget=5KB", "eval_views=both"]
    config, _, _ = configure({}, parse_settings(right))
    assert (config.seeds, config.track, config.epochs, config.blur) == ((0, 4), ("tensorboard",), 3, 1)
    assert (config.budget, config.eval_views) == (5000, "both")


def test_settings_name_the_nearest_key() -> None:
    with pytest.raises(ConfigError, match="did you mean 'backbone'"):
        configure({}, parse_settings(["backbon=resnet18"]))
    with pytest.raises(ConfigError, match="did you mean 'guidance'"):
        configure({}, parse_settings(["regenerator.guidanc=3"]))
    with pytest.raises(UsageError, match="write KEY=VALUE"):
        parse_settings(["blur"])
    assert parse_settings(["a=1.5", "b=text", "c=[1,2]", "d=true"]) == {"a": 1.5, "b": "text", "c": [1, 2], "d": True}


def test_defaults_that_follow_from_others() -> None:
    def kept(**values: Any) -> tuple[Mix, float]:
        config = TrainConfig(**values)
        return config.kept, config.probability

    assert kept() == (Mix(18, 48, counts=True), 0.5)
    assert kept(budget=1000) == (Mix(0, 1), 0.5)
    assert kept(budget=1000, real="webp:32") == (Mix(1, 0), 0.5)
    assert kept(budget=1000, mix="real=1,prompt=0") == (Mix(1, 0), 0.0)
    assert kept(memory_per_class=20.0) == (Mix(20, 0, counts=True), 0.0)
    assert kept(real_per_class=3) == (Mix(3, 0, counts=True), 0.0)
    assert kept(budget=1, mix="real=3,prompt=4", augmentation_prob=0.1) == (Mix(3, 4, counts=True), 0.1)
    assert TrainConfig(image_size=64).transform_name == "small"
    assert TrainConfig(image_size=128).transform_name == "large"
    assert TrainConfig(epochs=20, lr=0.5).hyperparameters().milestones == (9, 14)
    assert TrainConfig(epochs=20, lr=0.5).hyperparameters().init_lr == 0.5


def test_real_kinds() -> None:
    assert RealKind.parse("original") == RealKind()
    assert RealKind.parse("webp:48") == RealKind(48, 20)
    assert RealKind.parse("webp:64:7") == RealKind(64, 7)


def test_bytes() -> None:
    texts = {"200KB": 200_000, "2MB": 2_000_000, "1.5KiB": 1536, "1GiB": 2**30, "77": 77, "3 b": 3}
    assert {text: parse_bytes(text) for text in texts} == texts
    for text in ("", "KB", "-1", "3 furlongs", "1e3"):
        with pytest.raises(UsageError, match="no number of bytes"):
            parse_bytes(text)
