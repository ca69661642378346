"""Configurations: defaults that depend on each other, files with the paper's and PyCIL's keys, and what beats what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from escort_cil.data.protocol import class_order
from escort_cil.memory.budget import Budget
from escort_cil.memory.keep import Keep
from escort_cil.run.command import configure
from escort_cil.run.pycil import read_config_file
from escort_cil.run.settings import TrainConfig
from escort_cli.flags import parse_settings
from escort_codec.errors import ConfigError, UsageError
from escort_codec.settings import parse_bytes
from tests.cil.pycil_files import EXPS, MEMO

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
MEMO_FILE = {**EXPS, **MEMO, "model_name": "memo", "alpha_aux": 0.5}


def write(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(values))
    return path


def test_the_papers_file(tmp_path: Path) -> None:
    asked = configure({}, file=write(tmp_path, PAPER))
    config, seeds, notes = asked.config, asked.seeds, asked.notes
    assert seeds == (1993, 7)
    assert config == TrainConfig(
        dataset="caltech256",
        method="icarl",
        backbone="resnet18",
        stem="pycil",
        autoaugment="imagenet",
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
    assert config.memory.counts(classes=100) == (18, 48)
    assert any("prefix = 'reproduce' only names the run" in note for note in notes)
    assert any("memory_size" in note for note in notes)


def test_pycils_file(tmp_path: Path) -> None:
    asked = configure({}, file=write(tmp_path, MEMO_FILE))
    config, seeds = asked.config, asked.seeds
    assert (config.method, config.backbone, config.device, seeds) == ("memo", "resnet32", "cuda", (1993,))
    assert (config.budget, str(config.kept), config.probability) == ("2000units", "original", 0.0)
    assert [config.memory.counts(classes) for classes in (1, 30)] == [(2000,), (66,)]
    method = config.hyperparameters()
    assert (method.init_epochs, method.epochs, method.milestones) == (200, 170, (80, 120, 150))
    assert method.aux_weight == 0.5  # type: ignore[attr-defined]


def test_the_command_line_beats_settings_and_these_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, PAPER)
    settings = parse_settings(["init_cls=40", "increment=20", "method.temperature=3", "regenerator.workers=2"])
    asked = configure({**settings, "increment": 10, "device": "cpu"}, file=file, seeds=(5,))
    config, seeds = asked.config, asked.seeds
    assert (config.init_cls, config.increment, config.device, config.model_seed, seeds) == (40, 10, "cpu", 2, (5,))
    assert config.hyperparameters().temperature == 3  # type: ignore[attr-defined]
    assert config.regenerator_options == {"workers": 2}
    with pytest.raises(UsageError, match="near"):
        configure(parse_settings(["regenerator.near=cpu"]))


def test_epochs_move_the_milestones_of_a_file(tmp_path: Path) -> None:
    config = configure({"epochs": 17}, file=write(tmp_path, MEMO_FILE)).config
    assert config.method_options["epochs"] == 170
    for each in (config, TrainConfig.from_map(config.to_map())):
        made = each.hyperparameters()
        assert (made.init_epochs, made.init_milestones) == (17, (5, 10, 14))
        assert (made.epochs, made.milestones) == (17, (8, 12, 15))


def test_a_runs_own_file(tmp_path: Path) -> None:
    config = TrainConfig(data="x", method="wa", budget="1KB", seeds=(1, 2), epochs=4)
    assert configure({}, file=write(tmp_path, {"version": "1", "command": ["x"], **config.to_map()})).config == config
    assert TrainConfig.from_map(json.loads(json.dumps(config.to_map()))) == config


def test_both_kinds_of_keys_in_one_file(tmp_path: Path) -> None:
    more = {"budget": 20_000, "regenerator": "harmonic", "method_options": {"momentum": 0.8}, "T": 3}
    bare = {key: value for key, value in PAPER.items() if key not in ("memory_per_class", "memory_size")}
    asked = configure({}, file=write(tmp_path, bare | more))
    config, seeds = asked.config, asked.seeds
    assert (config.method, config.budget, seeds) == ("icarl", "20KB", (1993, 7))
    assert config.method_options == {"momentum": 0.8, "temperature": 3}
    # The key that is wrong is named, not the first of the other kind.
    with pytest.raises(ConfigError, match="there is no key 'epcohs'; did you mean 'epochs'"):
        configure({}, file=write(tmp_path, {"backbone": "resnet10", "epcohs": 3}))
    with pytest.raises(ConfigError, match="model_name and method are the same setting"):
        configure({}, file=write(tmp_path, PAPER | {"method": "wa"}))
    with pytest.raises(ConfigError, match="give a JSON object"):
        configure({}, file=write(tmp_path, {"method_options": "fast"}))


def test_a_list_of_seeds_in_a_runs_own_file(tmp_path: Path) -> None:
    values = {**TrainConfig(data="x", class_order=()).to_map(), "seed": [5, 6]}
    asked = configure({}, file=write(tmp_path, values))
    config, seeds = asked.config, asked.seeds
    assert (config.seed, seeds, config.data) == (5, (5, 6), "x")


def test_other_seeds_draw_other_orders(tmp_path: Path) -> None:
    labels = ("a", "b", "c", "d")
    drawn = {"data": "x", "seed": 3, "class_order": class_order(labels, 3)}
    file = write(tmp_path, drawn)
    assert configure({}, file=file).config.class_order == drawn["class_order"]
    assert configure({}, file=file, seeds=(3,)).config.class_order == drawn["class_order"]
    assert configure({}, file=file, seeds=(4,)).config.class_order == ()
    assert configure({}, file=file, seeds=(3, 4)).config.class_order == ()
    # An order that somebody chose is no seed's.
    chosen = write(tmp_path, {"data": "x", "seed": 3, "class_order": labels})
    assert configure({}, file=chosen, seeds=(4,)).config.class_order == labels
    with pytest.raises(UsageError, match="`seed` draws class orders, and `class_order` gives one"):
        configure({}, file=chosen, seeds=(4, 5))


@pytest.mark.parametrize(
    ("values", "budget", "keep"),
    [
        ({"memory_per_class": 20}, "20units/class", ""),
        ({"memory_size": 2000}, "2000units", ""),
        ({"memory_size": 2000, "memory_per_class": 20, "fixed_memory": False}, "2000units", ""),
        ({"memory_size": 2000, "memory_per_class": 20, "fixed_memory": True}, "20units/class", ""),
        ({"real_per_class": 3}, "", "3 original"),
        ({"syn_per_class": 48}, "", "48 prompt"),
        ({"memory_size": 100, "real_per_class": 18, "syn_per_class": 48}, "100units", "18 original + 48 prompt"),
        ({"memory_per_class": 20, "keep": "webp:64"}, "20units/class", "webp:64:20"),
        ({"budget": "20KB", "real_per_class": 18}, "20KB", "18 original"),
        ({"memory_size": 0, "real_per_class": 0, "syn_per_class": 0}, "0units", "0 original"),
    ],
)
def test_the_papers_and_pycils_memory(values: dict[str, Any], budget: str, keep: str, tmp_path: Path) -> None:
    config = configure({}, file=write(tmp_path, {"model_name": "icarl", **values})).config
    assert (config.budget, config.keep) == (budget, keep)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augmentaton_prob": 0.4}, "there is no key 'augmentaton_prob'; did you mean 'augmentation_prob'"),
        ({"train_adaptive": True}, "train_adaptive = True is not supported"),
        ({"scheduler": "cosine"}, "only 'steplr' is"),
        ({"seed": ["a"]}, "whole numbers"),
        ({"device": ["tpu"]}, "GPU numbers"),
        ({"real_per_class": 30}, "budget = '20units/class': 30 original . 48 prompt needs 32 units per class"),
        ({"real_per_class": -3}, "real_per_class = -3: give a number of at least 0"),
        ({"real_per_class": 1.5}, "counts are whole numbers"),
        ({"budget": "20KB"}, "memory_size and budget are the same setting: give one"),
        ({"keep": "prompt"}, "real_per_class and keep are the same setting: give one"),
        (
            {"model_name": "tagfex"},
            "model_name = 'tagfex': escort does not have this method of PyCIL: the methods are icarl",
        ),
        ({"init_epoch": 0}, "init_epochs"),
        ({"T": 3, "model_name": "der"}, "there is no der setting 'temperature'"),
    ],
)
def test_files_that_are_not_valid(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, UsageError), match=message):
        configure({}, file=write(tmp_path, PAPER | change))


def test_no_process_for_loading_is_one_thread(tmp_path: Path) -> None:
    for number, workers in ((0, 1), (3, 3)):
        file = write(tmp_path, {"model_name": "icarl", "num_workers": number})
        assert configure({}, file=file).config.workers == workers
    with pytest.raises(ConfigError, match="num_workers and workers are the same setting"):
        configure({}, file=write(tmp_path, {"model_name": "icarl", "num_workers": 0, "workers": 2}))


def test_files_that_are_not_json(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_config_file(tmp_path / "none.json")
    for text, message in (("{", "is not JSON"), ("[]", "not a JSON object")):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_config_file(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"budget": "-1"}, "budget = '-1': write 200KB"),
        ({"budget": "20MB/cat"}, "write 200KB"),
        ({"keep": "30% original + 30% prompt", "budget": "1B"}, "must add up to 100%"),
        ({"keep": "original + prompt"}, "must add up to 100%"),
        ({"keep": "30% original + 5 prompt"}, "shares and counts do not mix"),
        ({"keep": "1.5 original"}, "counts are whole numbers"),
        ({"keep": "18 original + 2 webp:64"}, "both stored as real images"),
        ({"keep": "jpeg:3"}, "no kind of exemplar is called 'jpeg'"),
        ({"keep": "webp"}, "write webp:SIDE"),
        ({"keep": "webp:0"}, "write webp:SIDE"),
        ({"keep": "webp:64:101"}, "write webp:SIDE"),
        ({"keep": "prompt:64"}, "write prompt, or prompt:BYTES"),
        ({"keep": "some of both"}, "write original"),
        ({"keep": "18 original + 60 prompt", "budget": "20units/class"}, "needs 20.5 units per class"),
        ({"augmentation_prob": 1.5}, "a number from 0 to 1"),
        ({"eval_views": "all"}, "real, regenerated or both"),
        ({"mixed_precision": "fp8"}, "no, bf16 or fp16"),
        ({"epochs": 0}, "epochs = 0: give a whole number of at least 1"),
        ({"seed": -1}, "seed = -1: give a whole number from 0 to 4294967295"),
        ({"image_size": 4}, "from 8 to 4096"),
    ],
)
def test_values_that_are_not_valid(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**values)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seeds=x", r"seeds = 'x': give seeds, such as 0-4"),
        ("epochs=many", "epochs = 'many': give a whole number of at least 1"),
        ("blur=true", "blur = 'true': give a number from 0 to 655.35"),
        ("class_order=[1]", "give a list of texts"),
        ("shuffle=1", "shuffle = '1': give true or false"),
        ("budget=many", "budget = 'many': write 200KB"),
        ("cache_memory=many", "cache_memory = 'many': give bytes, such as 200KB"),
        ("method.epochs=0", "^method.epochs = '0': give a whole number of at least 1"),
        ("regenerator.workers=x", "^regenerator.workers = 'x': give a whole number"),
    ],
)
def test_settings_of_a_wrong_kind(setting: str, message: str) -> None:
    with pytest.raises((ConfigError, UsageError), match=message):
        configure(parse_settings([setting]))


def test_settings_are_read_from_texts() -> None:
    texts = ["seeds=0-2,4", "track=tensorboard", "epochs=3", "blur=1", "budget=5000", "eval_views=both"]
    texts += [
        "shuffle=false",
        "lr=null",
        "cache_memory=1KiB",
        "class_order=a, b",
        "data=3",
        "keep=30%original+70%prompt",
    ]
    config = configure(parse_settings(texts)).config
    assert (config.seeds, config.track, config.epochs, config.blur) == ((0, 1, 2, 4), ("tensorboard",), 3, 1)
    assert (config.budget, config.keep, config.eval_views) == ("5KB", "30% original + 70% prompt", "both")
    assert (config.shuffle, config.lr, config.cache_memory) == (False, None, 1024)
    assert (config.class_order, config.data) == (("a", "b"), "3")
    same = configure(parse_settings(["seeds=[0, 1, 2, 4]", 'track=["tensorboard"]', 'class_order=["a", "b"]'])).config
    assert (same.seeds, same.track, same.class_order) == (config.seeds, config.track, config.class_order)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": 3}, "data = 3: give a text"),
        ({"shuffle": 1}, "shuffle = 1: give true or false"),
        ({"epochs": 1.5}, "epochs = 1.5: give a whole number"),
        ({"seeds": [0, "a"]}, "give seeds"),
        ({"blur": True}, "blur = True: give a number"),
        ({"method_options": {"epochs": True}}, "epochs = True: give a whole number"),
        ({"method_options": {"batch_size": 1e300}}, "batch_size = .*: give a whole number"),
        ({"image_size": 4097}, "image_size = 4097: give a whole number from 8 to 4096"),
    ],
)
def test_json_values_of_a_wrong_kind(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        configure({}, file=write(tmp_path, values))


@pytest.mark.parametrize("values", [{"data": "caf\udce9"}, {"class_order": ("a", "b\ud800")}])
def test_names_in_another_encoding_are_refused_before_they_are_recorded(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is not valid UTF-8: give it another name"):
        TrainConfig(**values)
    with pytest.raises(ConfigError, match="is not valid UTF-8: give it another name"):
        configure(values)


def test_settings_name_the_nearest_key() -> None:
    with pytest.raises(ConfigError, match="did you mean 'backbone'"):
        configure(parse_settings(["backbon=resnet18"]))
    with pytest.raises(UsageError, match="did you mean 'guidance'"):
        configure({"regenerator": "controlnet"} | parse_settings(["regenerator.guidanc=3"]))
    with pytest.raises(UsageError, match="write KEY=VALUE"):
        parse_settings(["blur"])
    assert parse_settings(["a=1.5", "b=x=y", " c=[1,2]"]) == {"a": "1.5", "b": "x=y", "c": "[1,2]"}


def test_defaults_that_follow_from_others() -> None:
    def kept(**values: Any) -> tuple[str, float]:
        config = TrainConfig(**values)
        return str(config.kept), config.probability

    assert kept() == ("18 original + 48 prompt", 0.5)
    assert kept(budget="1KB") == ("latent:64:32", 0.5)
    assert kept(budget="1KB", prompts_file="out.escx") == ("prompt", 0.5)
    assert kept(budget="1KB/class", keep="webp:32") == ("webp:32:20", 0.5)
    assert kept(budget="1KB", keep="original") == ("original", 0.0)
    assert kept(budget="20units/class") == ("original", 0.0)
    assert kept(keep="3 original") == ("3 original", 0.0)
    assert kept(budget="1B", keep="3 original + 4 prompt", augmentation_prob=0.1) == ("3 original + 4 prompt", 0.1)
    assert TrainConfig(image_size=64).make_transform().preset == "small"
    assert TrainConfig(image_size=128).make_transform().preset == "large"
    assert TrainConfig(epochs=20, lr=0.5).hyperparameters().milestones == (9, 14)
    assert TrainConfig(epochs=20, lr=0.5).hyperparameters().init_lr == 0.5


def assert_read_and_written(kind: type[Keep] | type[Budget], texts: dict[str, str]) -> None:
    """Each text is written back in its one form, which means the same."""
    for text, form in texts.items():
        assert str(kind.parse(text)) == form
        assert kind.parse(form) == kind.parse(text)


def test_the_grammar_of_keep() -> None:
    texts = {
        "original": "original",
        "webp:48": "webp:48:20",
        "webp:64:7": "webp:64:7",
        " prompt ": "prompt",
        "70% prompt+30%original": "30% original + 70% prompt",
        "48 prompt + 18 webp:64": "18 webp:64:20 + 48 prompt",
        "12.5% original + 87.5% prompt": "12.5% original + 87.5% prompt",
        "100% prompt": "prompt",
        "0 original + 5 prompt": "5 prompt",
    }
    assert_read_and_written(Keep, texts)


def test_the_grammar_of_budget() -> None:
    texts = {
        "2MB": "2MB",
        "2000000": "2MB",
        "20 KB / class": "20KB/class",
        "2MiB": "2097152B",
        "0": "0B",
        "20units/class": "20units/class",
        "1 unit / class": "1units/class",
        "2000 units": "2000units",
        "2.5units": "2.5units",
    }
    assert_read_and_written(Budget, texts)
    limits = [Budget.parse(text).limit(10) for text in ("2MB", "20KB/class", "20units/class", "2000units", "")]
    assert limits == [2_000_000, 200_000, None, None, None]
    assert Budget.parse("20units/class", "prompt").counts(5) == (480,)
    assert Budget.parse("", "webp:64").counts(5) == (20,)
    assert Budget.parse("100units", "18 original + 48 prompt").counts(10) == (9, 24)
    assert Budget.parse("0units", "0 original").counts(10) == (0,)


def test_bytes() -> None:
    texts = {"200KB": 200_000, "2MB": 2_000_000, "1.5KiB": 1536, "1GiB": 2**30, "77": 77, "3 b": 3}
    assert {text: parse_bytes(text) for text in texts} == texts
    for text in ("", "KB", "-1", "3 furlongs", "1e3", "9" * 400):
        with pytest.raises(UsageError, match="is not a number of bytes"):
            parse_bytes(text)
