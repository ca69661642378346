"""Training end to end on drawn pictures: every learner, the memory's file, determinism, and what may not be opened.

Each run is of a second or two: three phases, two epochs, pictures of 16 pixels. What is tested is that the parts fit
together; accuracies mean nothing here.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import escort_codec
from escort_cil.evaluation import EvaluationOptions, evaluate_run
from escort_cil.learners import learners
from escort_cil.report import write_report
from escort_cil.run.checkpoint import load_tensors
from escort_cil.run.figures import load_figures
from escort_cil.trainer import train
from escort_cli.train import accuracy_table
from escort_codec.encode.folder import encode_folder
from escort_codec.errors import ConfigError, OutputError, SourceError, TrainingError
from escort_codec.recipe import EdgeSettings, EncodeOptions
from escort_codec.regenerate.harmonic import Harmonic, HarmonicOptions
from tests.cil.small_runs import is_event, logged, quick

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Copies that all runs share, so that each is made once."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("method", learners.names())
def test_every_learner_runs_to_the_end(method: str, small_data: Path, tmp_path: Path, cache: str) -> None:
    out = tmp_path / "run"
    result = train(quick(small_data, method=method, cache=cache), out=out)
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert records == list(result.records)
    assert [record["classes"] for record in records] == [2, 4, 5]
    assert [record["images"] for record in records] == [6, 12, 15]
    remembers = learners.get(method).uses_memory
    for record in records:
        assert (record["memory_bytes"] > 0) == remembers
        assert record["memory_bytes"] <= 8000
        assert record["model_bytes"] > 0
        assert (record["nme_top1"] is None) == (not remembers and method != "joint")
        assert 0 <= record["top1"] <= 100
    assert (out / "memory.escx").exists() == remembers
    if remembers:
        assert (out / "memory.escx").stat().st_size == records[-1]["memory_bytes"]
        with escort_codec.open(out / "memory.escx") as memory:
            assert list(memory.labels) == list(result.class_order)
            assert len(memory) == records[-1]["memory_prompt"]
    tensors = load_tensors(out / "model.safetensors").values()
    assert records[-1]["model_bytes"] == sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    assert (records[-1]["model_bytes"] > 2 * records[0]["model_bytes"]) == (method in ("der", "memo", "foster"))
    assert not (out / "checkpoint").exists()
    config = json.loads((out / "config.json").read_text())
    assert config["class_order"] == list(result.class_order)
    assert config["method_options"]["init_epochs"] == 2
    assert load_figures(out / "confusion.npz").to_record()["top1"] == records[-1]["top1"]


def test_a_first_phase_without_test_images(small_data: Path, tmp_path: Path, cache: str) -> None:
    data, order = tmp_path / "data", sorted(path.name for path in (small_data / "train").iterdir())
    shutil.copytree(small_data, data)
    for label in order[:2]:
        shutil.rmtree(data / "test" / label)
    lines: list[str] = []
    with logged(lines.append):
        result = train(quick(data, cache=cache, shuffle=False, eval_views="both"), out=tmp_path / "run")
    ended = [line for line in lines if is_event(line) and "finished" in line]
    assert re.fullmatch(r"phase 1 finished: no test images yet, memory [\d,]+ bytes", ended[0])
    assert re.fullmatch(
        r"phase 2 finished: top-1 .* %, nearest mean .* %, average incremental .* %, memory .*", ended[1]
    )
    assert [record["images"] for record in result.records] == [0, 6, 9]
    assert result.records[0]["average_incremental_accuracy"] is None
    assert result.records[1]["average_incremental_accuracy"] == result.records[1]["top1"]
    columns, rows = accuracy_table(result.records)
    assert rows[0][columns.index("top-1")] == "-"
    write_report([tmp_path / "run"], tmp_path / "report.html", pictures=0)
    assert "nan" not in re.sub(r"data:[^\"]*", "", (tmp_path / "report.html").read_text("utf-8")).lower().split()


def test_the_same_twice_and_another_seed(small_data: Path, tmp_path: Path, cache: str) -> None:
    config = quick(small_data, cache=cache, eval_views="both")
    train(config, out=tmp_path / "one")
    train(config, out=tmp_path / "two")
    first = (tmp_path / "one" / "metrics.jsonl").read_bytes()
    assert first == (tmp_path / "two" / "metrics.jsonl").read_bytes()
    assert (tmp_path / "one" / "memory.escx").read_bytes() == (tmp_path / "two" / "memory.escx").read_bytes()
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (
        tmp_path / "two" / "model.safetensors"
    ).read_bytes()
    other = train(replace(config, seed=7), out=tmp_path / "three")
    assert other.class_order != train(config, out=tmp_path / "one", resume=True).class_order
    record = json.loads(first.splitlines()[-1])
    assert list(record["views"]) == ["both", "real", "regenerated"]
    assert record["top1"] == record["views"]["both"]["top1"]


def deleting(data: Path, order: tuple[str, ...], sizes: tuple[int, ...]) -> Callable[[str], None]:
    """Deletes a phase's training images once it is over."""

    def report(line: str) -> None:
        if match := re.match(r"phase (\d+) finished", line):
            phase = int(match[1]) - 1
            for label in order[sum(sizes[:phase]) : sum(sizes[: phase + 1])]:
                for path in (data / "train" / label).iterdir():
                    path.unlink()

    return report


@pytest.mark.parametrize(
    "policy", [{"keep": "50% original + 50% prompt"}, {"keep": "webp:16:20"}, {"keep": "latent:16:40"}]
)
def test_images_of_earlier_phases_are_never_opened_again(
    policy: dict[str, str], small_data: Path, tmp_path: Path
) -> None:
    # Without a shared cache: regenerated copies of the old exemplars come from the memory's file as well.
    config = quick(small_data, augmentation_prob=0.5, **policy)
    kept = train(config, out=tmp_path / "kept")
    data = tmp_path / "data"
    shutil.copytree(small_data, data)
    with logged(deleting(data, kept.class_order, (2, 2, 1))):
        gone = train(quick(data, augmentation_prob=0.5, **policy), out=tmp_path / "gone")
    assert gone.records == kept.records
    assert not list((data / "train").rglob("*.jpg"))


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({"budget": "", "keep": "2 original + 4 prompt"}, {"real": 10, "prompt": 20}),
        ({"budget": "3units/class", "keep": "original"}, {"real": 15, "prompt": 0}),
        ({"budget": "10units", "keep": "original"}, {"real": 10, "prompt": 0}),
        ({"budget": "6000", "keep": "2 original + 3 prompt"}, None),
        ({"budget": "1500/class", "keep": "webp:16:5"}, None),
        ({"keep": "40% webp:16 + 60% prompt", "hint": 0}, None),
        ({"budget": "", "keep": "2 original + 2 latent:16 + 1 prompt"}, {"real": 20, "prompt": 5}),
        ({"selection": "random", "augmentation_prob": 0.0, "hint": 8}, None),
    ],
)
def test_what_is_kept(
    options: dict[str, object], kinds: dict[str, int] | None, small_data: Path, tmp_path: Path, cache: str
) -> None:
    result = train(quick(small_data, cache=cache, epochs=1, **options), out=tmp_path / "run")
    last = result.records[-1]
    if kinds is not None:
        assert {kind: last[f"memory_{kind}"] for kind in kinds} == kinds
        assert last["memory_units"] == pytest.approx(kinds["real"] + kinds["prompt"] / 24, abs=1e-3)
    for record in result.records:
        limit = result.config.memory.limit(record["classes"])
        assert limit is None or record["memory_bytes"] <= limit
    with escort_codec.open(tmp_path / "run" / "memory.escx") as memory:
        for exemplar in memory:
            if exemplar.kind == "prompt":
                assert (exemplar.hint is None) == (options.get("hint") == 0)
            elif "webp" in str(options.get("keep")):
                assert exemplar.image[:4] == b"RIFF"
                assert max(exemplar.size) == 16


def test_memory_alone(small_data: Path, tmp_path: Path, cache: str) -> None:
    result = train(quick(small_data, cache=cache, memory_only=True, increment=0), out=tmp_path / "run")
    assert len(result.records) == 1
    assert result.config.selection == "random"
    with pytest.raises(ConfigError, match="keeps no memory"):
        train(quick(small_data, memory_only=True, method="joint"), out=tmp_path / "other")


def test_prompts_come_from_the_file_of_encode(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_data, tmp_path / "pictures")
    encode_folder("./pictures", "out.escx", EncodeOptions(seeds=(3, 4), hint=12, coding="rle", workers=1))
    result = train(quick("", prompts_file="out.escx", seeds=()), out=tmp_path / "run")
    assert result.config.seeds == (3, 4)
    assert result.config.data == "./pictures"
    with escort_codec.open("out.escx") as given, escort_codec.open(tmp_path / "run" / "memory.escx") as memory:
        assert all(exemplar == given[exemplar.key] for exemplar in memory)
    (tmp_path / "pictures").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"'./pictures', which is not here"):
        train(quick("", prompts_file="out.escx"), out=tmp_path / "run2")
    moved = train(quick("elsewhere", prompts_file="out.escx", seeds=()), out=tmp_path / "run3")
    assert moved.records == result.records


def test_what_the_file_of_encode_cannot_give_is_refused(small_data: Path, tmp_path: Path) -> None:
    made = EncodeOptions(settings=EdgeSettings(60, 120), seeds=(3,), hint=12, coding="rle", workers=1)
    encode_folder(str(small_data), tmp_path / "out.escx", made)
    encode_folder(str(small_data), tmp_path / "bare.escx", EncodeOptions(seeds=(3,), hint=0, coding="rle", workers=1))
    for file, options, message in (
        ("out", {"hint": 16}, r"hint = 16: the prompts of .*out.escx have hints of 12 pixels"),
        ("bare", {"hint": 16}, r"hint = 16: the prompts of .*bare.escx have no hints"),
        ("out", {"canny_low": 50}, r"canny_low = 50: the prompts of .*out.escx were made with 60"),
        ("out", {"preset": "lowres"}, r"preset = 'lowres': .* made with hires"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(quick("", prompts_file=str(tmp_path / f"{file}.escx"), **options), out=tmp_path / "run")
    same = quick("", prompts_file=str(tmp_path / "out.escx"), hint=12, canny_low=60, method="finetune", increment=5)
    assert train(same, out=tmp_path / "run").config.canny_high == 120


@pytest.mark.parametrize(("device", "expected"), [("cpu", "cpu"), ("auto", None)])
def test_copies_are_made_where_the_network_is(
    device: str, expected: str | None, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []
    make = Harmonic.__init__

    def recorded(self: Harmonic, options: HarmonicOptions, near: str | None = None) -> None:
        asked.append(near)
        make(self, options, near)

    monkeypatch.setattr(Harmonic, "__init__", recorded)
    train(quick(small_data, device=device, epochs=1, increment=5), out=tmp_path / "run")
    evaluate_run(tmp_path / "run", small_data, EvaluationOptions(device=device))
    assert asked == [expected, expected]


def test_a_run_is_not_overwritten(small_data: Path, tmp_path: Path, cache: str) -> None:
    config = quick(small_data, cache=cache, method="finetune", epochs=1)
    train(config, out=tmp_path / "run")
    with pytest.raises(OutputError, match="holds a run already"):
        train(config, out=tmp_path / "run")
    train(config, out=tmp_path / "run", force=True)


def test_errors_name_what_to_do(small_data: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        train(quick(tmp_path / "none"), out=tmp_path / "run")
    with pytest.raises(ConfigError, match="no data"):
        train(quick(""), out=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"cannot hold one exemplar of each of 5 classes: give at least \d+B"):
        train(quick(small_data, budget="300", augmentation_prob=0.0), out=tmp_path / "run")
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train(quick(small_data, lr=1e30, method="finetune"), out=tmp_path / "run2")
    small = {"backbone": "resnet10", "batch_size": 3, "gradient_accumulation": 3}  # its last maps are one pixel
    parts = quick(small_data, method="finetune", **small)
    with pytest.raises(ConfigError, match="at least 6: batch normalisation needs two images"):
        train(parts, out=tmp_path / "run4")
    with pytest.raises(TrainingError, match=r"phase 1: a batch of one image cannot be used.*`increment`"):
        train(replace(parts, check=False), out=tmp_path / "run4")
    with pytest.raises(ConfigError, match=r"no GPU|no such GPU"):
        train(quick(small_data, device="cuda:99"), out=tmp_path / "run3")
