"""New classes that arrive later, as a folder of their own, when no one has the old data any more."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

import escort_codec
from escort_cil.demo.drawings import draw_dataset
from escort_cil.evaluation import evaluate_run
from escort_cil.run.command import configure
from escort_cil.trainer import train
from escort_codec.encode.folder import encode_folder
from escort_codec.errors import ConfigError, OutputError, SourceError, TrainingError
from escort_codec.recipe import EdgeSettings, EncodeOptions
from tests.cil.small_runs import logged, quick

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def halves(small_data: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The data in two folders: three classes, and the other two."""
    labels = sorted(path.name for path in (small_data / "train").iterdir())
    for name, group in (("old", labels[:3]), ("new", labels[3:])):
        for split in ("train", "test"):
            for label in group:
                shutil.copytree(small_data / split / label, tmp_path / name / split / label)
    return tmp_path / "old", tmp_path / "new"


@pytest.mark.parametrize("method", ["icarl", "der"])
def test_new_classes_from_a_new_folder(method: str, halves: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = halves
    first = train(quick(old, method=method, increment=2), out=tmp_path / "first")
    shutil.rmtree(old)
    asked = configure({"data": str(new)}, continued=tmp_path / "first")
    config, seeds = asked.config, asked.seeds
    assert (config.method, config.budget, seeds) == (method, "8KB", (1993,))
    second = train(config, out=tmp_path / "second")
    assert second.class_order[:3] == first.class_order
    assert [record["classes"] for record in second.records] == [2, 3, 5]
    assert list(second.records[:2]) == list(first.records)
    last = second.records[-1]
    assert last["groups"] == [2, 1, 2]
    assert last["images"] == 6  # only the new classes have test images left
    assert last["memory_bytes"] <= 8000
    with escort_codec.open(tmp_path / "second" / "memory.escx") as memory:
        assert tuple(memory.labels) == second.class_order
    # And once more, with the second run's folder alone.
    shutil.rmtree(tmp_path / "first")
    extra = tmp_path / "extra"
    label = second.class_order[-1]
    shutil.copytree(new / "train" / label, extra / "train" / "another")
    shutil.copytree(new / "test" / label, extra / "test" / "another")
    config = configure({"data": str(extra), "epochs": 1}, continued=tmp_path / "second").config
    third = train(config, out=tmp_path / "third")
    assert third.class_order == (*second.class_order, "another")
    assert [record["classes"] for record in third.records] == [2, 3, 5, 6]


def test_runs_that_cannot_be_continued(halves: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = halves
    train(quick(old, method="replay", epochs=1), out=tmp_path / "first")
    with pytest.raises(SourceError, match="nothing new to learn"):
        train(configure({"data": str(old)}, continued=tmp_path / "first").config, out=tmp_path / "second")
    with pytest.raises(ConfigError, match="no data"):
        train(configure({}, continued=tmp_path / "first").config, out=tmp_path / "second")
    (tmp_path / "first" / "metrics.jsonl").write_text("")
    with pytest.raises(TrainingError, match="is not finished"):
        train(configure({"data": str(new)}, continued=tmp_path / "first").config, out=tmp_path / "second")


def test_old_classes_are_still_known_when_their_images_are_gone(tmp_path: Path) -> None:
    # Slow (5 s): pictures of 24 pixels and 12 epochs are about the least that classes are learnt with.
    names = draw_dataset(tmp_path / "all", classes=6, train=24, test=10, size=48)
    for split in ("train", "test"):
        for label in names[4:]:
            (tmp_path / "new" / split).mkdir(parents=True, exist_ok=True)
            shutil.copytree(tmp_path / "all" / split / label, tmp_path / "new" / split / label)
            shutil.move(tmp_path / "all" / split / label, tmp_path / "later" / split / label)
    options = {"image_size": 24, "epochs": 12, "lr": 0.05, "batch_size": 16, "budget": "16000", "checkpoint_every": 100}
    first = train(quick(tmp_path / "all", **options), out=tmp_path / "first")
    assert [record["classes"] for record in first.records] == [2, 4]
    # Nothing is left but the run folder, and that lies elsewhere now.
    shutil.rmtree(tmp_path / "all" / "train")
    shutil.move(tmp_path / "first", tmp_path / "kept" / "run")
    config = configure({"data": str(tmp_path / "new")}, continued=tmp_path / "kept" / "run").config
    lines: list[str] = []
    with logged(lines.append):
        second = train(config, out=tmp_path / "second")
    assert any(
        line.startswith(f"4 classes without test images, not in the figures: {first.class_order[0]},") for line in lines
    )
    memory = tmp_path / "second" / "memory.escx"
    assert memory.stat().st_size <= 16000
    with escort_codec.open(memory) as reader:
        assert tuple(reader.labels) == second.class_order
        assert min(reader.labels.values()) >= 5
    # On all classes' test images: four old ones by chance would be right 1 time in 6, and never without a memory.
    shutil.copytree(tmp_path / "later" / "test", tmp_path / "all" / "test", dirs_exist_ok=True)
    found = evaluate_run(tmp_path / "second", tmp_path / "all").to_record()
    assert found["images"] == 60
    assert found["groups"] == [2, 2, 2]
    assert found["old"] > 25
    assert found["new"] > 25
    assert found["nme_top1"] > 25
    assert found["new"] == second.records[-1]["new"]


def test_a_continued_run_is_resumed(halves: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = halves
    train(quick(old, increment=3), out=tmp_path / "first")
    config = configure({"data": str(new), "increment": 1}, continued=tmp_path / "first").config
    whole = train(config, out=tmp_path / "whole")
    assert [record["classes"] for record in whole.records] == [3, 4, 5]

    class Killed(BaseException):
        pass

    def die(line: str) -> None:
        if line.startswith("phase 3 epoch"):
            raise Killed

    with pytest.raises(Killed), logged(die):
        train(config, out=tmp_path / "killed")
    with pytest.raises(TrainingError, match=r"killed: is not finished: `resume` it first"):
        train(configure({"data": str(new)}, continued=tmp_path / "killed").config, out=tmp_path / "more")
    resumed = configure({}, resume=tmp_path / "killed").config
    train(resumed, out=tmp_path / "killed", resume=True)
    for name in ("metrics.jsonl", "memory.escx", "model.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_the_run_before_stays_and_names_the_next(
    halves: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    old, new = halves
    train(quick(old, method="replay", epochs=1, increment=3), out=tmp_path / "first")
    config = configure({"data": str(new)}, continued=Path("first")).config
    before = (tmp_path / "first" / "memory.escx").read_bytes()
    with pytest.raises(OutputError, match="must not change: give another `out`"):
        train(config, out=tmp_path / "new" / ".." / "first", force=True)
    assert (tmp_path / "first" / "memory.escx").read_bytes() == before
    assert train(config).folder == Path("runs/first-then2-seed1993-model1")
    both = tmp_path / "both"
    shutil.copytree(new, both)
    shutil.copytree(old, both, dirs_exist_ok=True)
    lines: list[str] = []
    with logged(lines.append):
        result = train(configure({"data": "both"}, continued=Path("first")).config, out=tmp_path / "x")
    assert any("training images of 3 known classes" in line for line in lines)
    assert result.records[-1]["images"] == 15
    assert result.records[-1]["old"] is not None


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"method": "wa"}, r"method = 'wa': .*first has icarl: leave it out"),
        ({"backbone": "resnet18"}, r"backbone = 'resnet18': .*first has tiny"),
        ({"image_size": 32}, r"image_size = 32: .*first has 16"),
        ({"transform": "large"}, r"transform = 'large': .*first has small"),
        ({"eval_views": "both"}, r"eval_views = 'both': .*first has real: leave it out"),
    ],
)
def test_what_stays_as_it_was(typed: dict[str, object], message: str, begun: Path, small_data: Path) -> None:
    config = configure({"data": str(small_data), **typed}, continued=begun).config
    with pytest.raises(ConfigError, match=message):
        train(config, out=begun.parent / "second")
    assert not (begun.parent / "second").exists()


@pytest.fixture(scope="module")
def begun(one_thread: None, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one class."""
    folder = tmp_path_factory.mktemp("begun")
    label = "fish"
    for split in ("train", "test"):
        shutil.copytree(small_data / split / label, folder / "data" / split / label)
    options = {"lr": 0.02, "method_options": {"temperature": 3.0}}
    train(quick(folder / "data", **options), out=folder / "first")
    return folder / "first"


def test_typed_options_beat_those_of_the_run_before(begun: Path) -> None:
    def options(**typed: object) -> dict[str, object]:
        config = configure({"data": "x", **typed}, continued=begun).config
        return asdict(config.hyperparameters())

    kept = options()
    assert (kept["init_lr"], kept["lr"], kept["epochs"], kept["batch_size"], kept["temperature"]) == (
        0.02,
        0.02,
        2,
        8,
        3.0,
    )
    assert options(lr=0.5) == {**kept, "init_lr": 0.5, "lr": 0.5}
    assert options(batch_size=16) == {**kept, "batch_size": 16}
    longer = options(epochs=170)
    assert (longer["init_epochs"], longer["epochs"]) == (170, 170)
    assert longer["milestones"] == (80, 120)  # the method's, not those of two epochs made longer
    config = configure({"data": "x", "lr": 0.5, "method.init_lr": 0.25}, continued=begun).config
    assert (config.hyperparameters().init_lr, config.hyperparameters().lr) == (0.25, 0.5)


def test_joint_training_cannot_be_continued(small_data: Path, begun: Path, tmp_path: Path) -> None:
    train(quick(begun.parent / "data", method="joint", epochs=1), out=tmp_path / "first")
    with pytest.raises(ConfigError, match="joint needs the images of all classes"):
        train(configure({"data": str(small_data)}, continued=tmp_path / "first").config, out=tmp_path / "second")


def test_prompts_are_made_as_in_the_file_that_is_gone(begun: Path, small_data: Path, tmp_path: Path) -> None:
    settings = EdgeSettings(60, 120)
    made = EncodeOptions(preset="lowres", settings=settings, hint=8, seeds=(3,), coding="rle", workers=1)
    encode_folder(str(begun.parent / "data"), tmp_path / "out.escx", made)
    first = train(
        quick("", prompts_file=str(tmp_path / "out.escx"), seeds=(), epochs=1, budget="90KB"), out=tmp_path / "first"
    )
    assert first.config.canny_low == 60
    (tmp_path / "out.escx").unlink()
    config = configure({"data": str(small_data)}, continued=tmp_path / "first").config
    train(config, out=tmp_path / "second")
    with escort_codec.open(tmp_path / "second" / "memory.escx") as memory:
        assert len(memory.labels) == 5
        assert {exemplar.edge_settings for exemplar in memory} == {settings}
        assert {exemplar.recipe.preset for exemplar in memory} == {"lowres"}
        assert {exemplar.seeds for exemplar in memory} == {(3,)}
        assert {max(exemplar.hint_size or ()) for exemplar in memory if exemplar.hint} == {8}
