"""Configurations: defaults that depend on each other, files with the paper's and PyCIL's keys, and what beats what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from escort_cil.data.protocol import class_order
from escort_cil.memory.budget import Budget
from escort_cil.memory.keep import Keep
from escort_cil.memory.kinds import Original, Prompt, WebP, kinds
from escort_cil.run.command import configure, parse_settings
from escort_cil.run.pycil import read_config_file
from escort_cil.run.settings import TrainConfig
from escort_codec.errors import ConfigError, UsageError
from escort_codec.settings import parse_bytes

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
    config, seeds, notes = configure({}, file=write(tmp_path, PAPER))
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
        budget="20units/class",
        keep="18 original + 48 prompt",
        augmentation_prob=0.4,
        augmentations_per_image=5,
    )
    assert config.memory.counts(50) == (18, 48)
    assert any("caltech256" in note for note in notes)
    assert any("memory_size" in note for note in notes)


def test_pycils_file(tmp_path: Path) -> None:
    config, seeds, _ = configure({}, file=write(tmp_path, MEMO))
    assert (config.method, config.backbone, config.device, seeds) == ("memo", "resnet32", "cuda", (1993,))
    assert (config.budget, config.keep, config.probability) == ("2000units", "original", 0.0)
    assert [config.memory.counts(classes) for classes in (1, 10, 30)] == [(2000,), (200,), (66,)]
    method = config.hyperparameters()
    assert (method.init_epochs, method.epochs, method.milestones) == (200, 170, (80, 120, 150))
    assert method.aux_weight == 0.5  # type: ignore[attr-defined]


def test_the_command_line_beats_settings_and_these_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, PAPER)
    settings = parse_settings(["init_cls=40", "increment=20", "method.temperature=3", "regenerator.workers=2"])
    typed = {**settings, "increment": "10", "device": "cpu"}
    config, seeds, _ = configure(typed, file=file, seeds=(5,))
    assert (config.init_cls, config.increment, config.device, config.model_seed, seeds) == (40, 10, "cpu", 2, (5,))
    assert config.hyperparameters().temperature == 3  # type: ignore[attr-defined]
    assert config.make_regenerator().workers == 2  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="the harmonic regenerator has no such setting"):
        configure(parse_settings(["regenerator.near=cpu"]))


def test_a_runs_own_file(tmp_path: Path) -> None:
    config = TrainConfig(data="x", method="wa", budget="1KB", seeds=(1, 2), epochs=4)
    assert configure({}, file=write(tmp_path, {"version": "1", "command": ["x"], **config.to_map()}))[0] == config
    assert TrainConfig.from_map(json.loads(json.dumps(config.to_map()))) == config


def test_both_kinds_of_keys_in_one_file(tmp_path: Path) -> None:
    more = {"budget": "20KB", "regenerator": "harmonic", "method_options": {"momentum": 0.8}, "T": 3}
    sizes = ("memory_per_class", "memory_size", "real_per_class", "syn_per_class")
    bare = {key: value for key, value in PAPER.items() if key not in sizes}
    config, seeds, _ = configure({}, file=write(tmp_path, bare | more))
    assert (config.method, config.budget, seeds) == ("icarl", "20KB", (1993, 7))
    assert config.method_options == {"momentum": 0.8, "temperature": 3}
    # The key that is wrong is named, not the first of the other kind.
    with pytest.raises(ConfigError, match="there is no key 'epcohs'; did you mean 'epochs'"):
        configure({}, file=write(tmp_path, {"backbone": "resnet10", "epcohs": 3}))
    with pytest.raises(ConfigError, match="model_name and method are the same setting"):
        configure({}, file=write(tmp_path, PAPER | {"method": "wa"}))
    with pytest.raises(ConfigError, match="budget and memory_size both size the memory"):
        configure({}, file=write(tmp_path, PAPER | {"budget": "20KB"}))
    with pytest.raises(ConfigError, match="give a JSON object"):
        configure({}, file=write(tmp_path, {"method_options": "fast"}))


def test_a_list_of_seeds_in_a_runs_own_file(tmp_path: Path) -> None:
    values = {**TrainConfig(data="x", class_order=()).to_map(), "seed": [5, 6]}
    config, seeds, _ = configure({}, file=write(tmp_path, values))
    assert (config.seed, seeds, config.data) == (5, (5, 6), "x")


def test_other_seeds_draw_other_orders(tmp_path: Path) -> None:
    labels = ("a", "b", "c", "d")
    drawn = {"data": "x", "seed": 3, "class_order": class_order(labels, 3)}
    file = write(tmp_path, drawn)
    assert configure({}, file=file)[0].class_order == drawn["class_order"]
    assert configure({}, file=file, seeds=(3,))[0].class_order == drawn["class_order"]
    assert configure({}, file=file, seeds=(4,))[0].class_order == ()
    assert configure({}, file=file, seeds=(3, 4))[0].class_order == ()
    # An order that somebody chose is no seed's.
    chosen = write(tmp_path, {"data": "x", "seed": 3, "class_order": labels})
    assert configure({}, file=chosen, seeds=(4,))[0].class_order == labels
    with pytest.raises(UsageError, match="`class_order` gives one"):
        configure({}, file=chosen, seeds=(4, 5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augmentaton_prob": 0.4}, "there is no key 'augmentaton_prob'; did you mean 'augmentation_prob'"),
        ({"train_adaptive": True}, "train_adaptive = True is not supported"),
        ({"scheduler": "cosine"}, "only 'steplr' is"),
        ({"seed": ["a"]}, "whole numbers"),
        ({"device": ["tpu"]}, "GPU numbers"),
        ({"real_per_class": 30}, r"less than 30 original \+ 48 prompt, which is 32 units"),
        ({"memory_per_class": "20"}, "memory_per_class = '20': give a number"),
        ({"model_name": "podnet"}, "no learner is called 'podnet'"),
        ({"init_epoch": 0}, "init_epochs = 0: give a whole number of at least 1"),
        ({"T": 3, "model_name": "der"}, "there is no der setting 'temperature'"),
    ],
)
def test_invalid_files(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, UsageError), match=message):
        configure({}, file=write(tmp_path, PAPER | change))


def test_files_that_are_not_configurations(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_config_file(tmp_path / "none.json")
    for text, message in (("{", "is not a JSON file"), ("[]", "holds no JSON object")):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_config_file(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"budget": "lots"}, "budget = 'lots': write 200KB, 20KB/class, 20units/class or 2000units"),
        ({"budget": "-1"}, "write 200KB"),
        ({"budget": "20KB/phase"}, "write 200KB"),
        ({"keep": "30% original + 70 prompt"}, "shares and counts do not mix"),
        ({"keep": "30% original + 30% prompt"}, "must add up to 100%"),
        ({"keep": "1.5 original + 2 prompt"}, "counts are whole numbers"),
        ({"keep": "original=0.3"}, "write original, webp:64:20"),
        ({"keep": "jpeg:3"}, "no kind of exemplar is called 'jpeg'"),
        ({"keep": "webp"}, "write webp:SIDE"),
        ({"keep": "webp:0"}, "write webp:SIDE"),
        ({"keep": "webp:64:101"}, "write webp:SIDE"),
        ({"keep": "prompt:3"}, "prompt takes no options"),
        ({"keep": "50% original + 50% webp:64"}, "original and webp are both stored as real images"),
        ({"keep": "30 original + 48 prompt", "budget": "20units/class"}, "less than 30 original"),
        ({"augmentation_prob": 1.5}, "augmentation_prob = 1.5: give a number from 0 to 1"),
        ({"holdout": 1.0}, "a share between 0 and 1"),
        ({"eval_views": "all"}, "real, regenerated or both"),
        ({"mixed_precision": "fp8"}, "no, bf16 or fp16|did you mean"),
        ({"epochs": 0}, "epochs = 0: give a whole number of at least 1"),
        ({"seed": -1}, "seed = -1: give a whole number from 0 to 4"),
        ({"image_size": 4}, "at least 8"),
        ({"image_size": "64"}, "image_size = '64': give a whole number"),
        ({"shuffle": 1}, "shuffle = 1: give true or false"),
    ],
)
def test_invalid_values(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**values)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seeds=4-0", "seeds = '4-0': give seeds, such as 0-4"),
        ("epochs=many", "epochs = 'many': give a whole number of at least 1"),
        ("blur=true", "blur = 'true': give a number"),
        ("class_order=[1]", r"class_order = '\[1\]': give a list of texts"),
        ("shuffle=1", "shuffle = '1': give true or false"),
        ("cache_memory=many", "cache_memory = 'many': give bytes, such as 200KB"),
        ("eval_views=bot", "give real, regenerated or both"),
    ],
)
def test_settings_of_a_wrong_kind(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure(parse_settings([setting]))


def test_settings_are_read_from_texts_and_json() -> None:
    texts = ["seeds=[0, 4]", 'track=["tensorboard"]', "epochs=3", "blur=1", "budget=5000", "eval_views=both"]
    config, _, _ = configure(parse_settings(texts))
    assert (config.seeds, config.track, config.epochs, config.blur) == ((0, 4), ("tensorboard",), 3, 1)
    assert (config.budget, config.eval_views) == ("5KB", "both")
    texts = ["seeds=0-2,5", "track=tensorboard,wandb", "lr=1e-2", "shuffle=FALSE", "hint=null", "cache_memory=1MiB"]
    config, _, _ = configure(parse_settings([*texts, "method.milestones=3,4"]))
    assert (config.seeds, config.track, config.lr) == ((0, 1, 2, 5), ("tensorboard", "wandb"), 0.01)
    assert (config.shuffle, config.hint, config.cache_memory) == (False, None, 2**20)
    assert config.hyperparameters().milestones == (3, 4)
    assert TrainConfig.from_map({"budget": 300_000, "epochs": 3.0}) == TrainConfig(budget="300KB", epochs=3)


def test_settings_name_the_nearest_key() -> None:
    with pytest.raises(ConfigError, match="did you mean 'backbone'"):
        configure(parse_settings(["backbon=resnet18"]))
    with pytest.raises(UsageError, match="did you mean 'guidance'"):
        configure({"regenerator": "controlnet", **parse_settings(["regenerator.guidanc=3"])})
    with pytest.raises(UsageError, match="write KEY=VALUE"):
        parse_settings(["blur"])
    assert parse_settings(["a=1.5", "b=x=y", "c="]) == {"a": "1.5", "b": "x=y", "c": ""}


def test_defaults_that_follow_from_others() -> None:
    def kept(**values: Any) -> tuple[str, float]:
        config = TrainConfig(**values)
        return str(config.kept), config.probability

    assert kept() == ("18 original + 48 prompt", 0.5)
    assert kept(budget="1KB") == ("prompt", 0.5)
    assert kept(budget="1KB", keep="webp:32") == ("webp:32:20", 0.5)
    assert kept(budget="1KB", keep="original") == ("original", 0.0)
    assert kept(budget="20units/class") == ("90% original + 10% prompt", 0.5)
    assert kept(keep="3 original") == ("3 original", 0.0)
    assert kept(budget="1B", keep="3 original + 4 prompt", augmentation_prob=0.1) == ("3 original + 4 prompt", 0.1)
    assert TrainConfig(image_size=64).transform_name == "small"
    assert TrainConfig(image_size=128).transform_name == "large"
    assert TrainConfig(epochs=20, lr=0.5).hyperparameters().milestones == (9, 14)
    assert TrainConfig(epochs=20, lr=0.5).hyperparameters().init_lr == 0.5


@pytest.mark.parametrize(
    ("text", "kinds", "amounts", "counts"),
    [
        ("original", [Original()], [1], False),
        ("webp:48", [WebP(48, 20)], [1], False),
        ("webp:64:7", [WebP(64, 7)], [1], False),
        ("prompt", [Prompt()], [1], False),
        ("70% prompt + 30% original", [Original(), Prompt()], [0.3, 0.7], False),
        ("40%webp:64:20+60%prompt", [WebP(64, 20), Prompt()], [0.4, 0.6], False),
        ("18 original + 48 prompt", [Original(), Prompt()], [18, 48], True),
        ("0 original + 48 prompt", [Prompt()], [48], True),
    ],
)
def test_what_is_kept(text: str, kinds: list[Any], amounts: list[float], counts: bool) -> None:
    keep = Keep.parse(text)
    assert [part.kind for part in keep.parts] == kinds
    assert [part.amount for part in keep.parts] == pytest.approx(amounts)
    assert keep.counts == counts
    assert Keep.parse(str(keep)) == keep


@pytest.mark.parametrize(
    ("text", "spelled", "limits", "counts"),
    [
        ("200KB", "200KB", (200_000, 200_000), None),
        ("1.5KiB", "1536B", (1536, 1536), None),
        ("20KB/class", "20KB/class", (20_000, 60_000), None),
        ("20 units / class", "20units/class", (None, None), ((18, 48), (18, 48))),
        ("60units", "60units", (None, None), ((54, 144), (18, 48))),
    ],
)
def test_budgets(text: str, spelled: str, limits: tuple[Any, Any], counts: Any) -> None:
    budget = Budget.parse(text)
    assert str(budget) == spelled
    assert (budget.limit(1), budget.limit(3)) == limits
    if counts is not None:
        assert (budget.counts(1), budget.counts(3)) == counts


def test_counts_in_units() -> None:
    assert Budget.parse("20units", "18 original + 48 prompt").counts(2) == (9, 24)
    assert Budget.parse("999units", "18 original + 48 prompt").counts(2) == (18, 48)
    assert Budget.parse("24units/class", "50% original + 50% prompt").counts(9) == (12, 288)
    assert Budget.parse("", "30% original + 70% prompt").counts(9) == (6, 336)


def test_the_kinds_are_registered_under_their_names() -> None:
    assert kinds.names() == ("original", "webp", "prompt")
    assert all(kinds.get(name).name == name for name in kinds.names())


def test_bytes() -> None:
    texts = {"200KB": 200_000, "2MB": 2_000_000, "1.5KiB": 1536, "1GiB": 2**30, "77": 77, "3 b": 3}
    assert {text: parse_bytes(text) for text in texts} == texts
    for text in ("", "KB", "-1", "3 furlongs", "1e3"):
        with pytest.raises(UsageError, match="is not a number of bytes"):
            parse_bytes(text)
