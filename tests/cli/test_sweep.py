"""Several runs in one command: ``escort sweep``, and several seeds and kinds of ``escort train``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from escort_cil.demo.drawings import draw_dataset
from escort_cil.sweep import read_sweep
from escort_cli.app import app
from escort_codec.errors import ConfigError

QUICK = {
    "backbone": "resnet10",
    "image_size": 16,
    "batch_size": 8,
    "epochs": 1,
    "device": "cpu",
    "increment": 2,
    "budget": "6KB",
    "coding": "rle",
    "seeds": "0-1",
    "lr": 0.01,
    "workers": 1,
    "augmentation_prob": 0,
}
TOML = """
[all]
data = "{data}"
config = "quick.json"
seed = [1993, 7]

[[runs]]
name = "small"
budget = "3KB"

[[runs]]
keep = "webp:16:20"
"method.momentum" = 0.8
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw_dataset(folder, classes=4, train=6, test=2, size=40)
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of the test's own with quick.json, and one thread."""
    monkeypatch.chdir(tmp_path)
    Path("quick.json").write_text(json.dumps(QUICK))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def escort(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def test_a_sweep_from_its_file_to_its_report(data: Path) -> None:
    Path("table.toml").write_text(TOML.format(data=data))
    dry = escort("sweep", "table.toml", "--dry-run").stdout.splitlines()
    names = ["small/seed1993", "small/seed7"]
    webp = "budget-3KB"  # what the first row has and the second has not is no part of the second's name
    assert [line.partition(":")[0] for line in dry][:2] == [f"runs/table/{name}" for name in names]
    assert webp not in dry[2]
    assert not Path("runs").exists()
    result = escort("sweep", "table.toml")
    assert "run 1 of 4: runs/table/small/seed1993" in result.stderr
    assert "runs/table/report.html: 4 runs" in result.stdout
    page = Path("runs/table/report.html").read_text()
    assert "webp:16:20" in page
    found = sorted(path.parent for path in Path("runs/table").rglob("metrics.jsonl"))
    assert len(found) == 4
    configs = [json.loads((path / "config.json").read_text()) for path in found]
    assert sorted(each["method_options"]["momentum"] for each in configs) == [0.8, 0.8, 0.9, 0.9]
    assert {each["budget"] for each in configs} == {"3KB", "6KB"}
    # Once more: nothing is trained. And after a stop, the rest.
    again = escort("sweep", "table.toml")
    assert again.stderr.count("is finished") == 4
    for path in found[0].iterdir():
        if path.is_file():
            path.unlink()
    once = escort("sweep", "table.toml")
    assert once.stderr.count("is finished") == 3
    # A row that was changed is refused before anything is trained.
    Path("table.toml").write_text(TOML.format(data=data).replace("3KB", "4KB"))
    refused = escort("sweep", "table.toml", code=2)
    assert "has another configuration: budget was '3KB', is '4KB'" in refused.stderr


def test_a_run_that_fails_does_not_end_the_others(data: Path) -> None:
    values: dict[str, Any] = {
        "all": {"data": str(data), "config": "quick.json", "increment": 4},
        "grid": {"lr": [1e25, 0.01]},
    }
    Path("sweep.json").write_text(json.dumps(values))
    result = escort("sweep", "sweep.json", "--out", "out", code=1)
    assert "escort sweep: out/lr-1e-25: phase 1, epoch 1: the loss is" in result.stderr
    assert "out/report.html: 1 run" in result.stdout
    assert Path("out/lr-0.01/metrics.jsonl").exists()


def test_several_kinds_train_their_first_phase_once(data: Path) -> None:
    options = ["train", data, "--config", "quick.json", "--seed", "1993,7", "--keep", "original,prompt"]
    refused = escort(*options, code=2)
    assert "--keep: several kinds need several runs: give a folder for them with --out" in refused.stderr
    result = escort(*options, "--out", "both", "--budget", "8KB")
    assert result.stderr.count("the first phase is reused from") == 2
    assert "the first phase is reused from both/original/seed1993" in result.stderr
    assert "the first phase is reused from both/original/seed7" in result.stderr
    escort("train", data, "--config", "quick.json", "--keep", "prompt", "--budget", "8KB", "--out", "alone")
    for name in ("metrics.jsonl", "memory.escx", "model.safetensors"):
        assert (Path("both/prompt/seed1993") / name).read_bytes() == (Path("alone") / name).read_bytes()
    # By hand, and where it does not fit.
    took = escort("train", data, "--config", "quick.json", "--out", "third", "--first-phase-from", "alone")
    assert "the first phase is reused from alone" in took.stderr
    other = [*options[:4], "--model-seed", "5", "--out", "fourth", "--first-phase-from", "alone"]
    assert "alone: its first phase differs: model_seed was 1, is 5" in escort(*other, code=2).stderr
    assert not Path("fourth").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "[all", "is not TOML"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "[1]", "is no sweep"),
        ("a.json", '{"runs": [], "all": {"lr": 1}}', "names no run"),
        ("a.json", '{"rows": []}', "is no sweep"),
        ("a.json", '{"runs": {"lr": 1}}', "runs is a list of tables"),
        ("a.json", '{"grid": {"lr": 1}}', "grid is a table of lists"),
        ("a.json", '{"all": {"data": "x"}}', "there is no such folder"),
        ("a.json", '{"runs": [{"lrr": 1}]}', "a.json: run 'run': there is no setting 'lrr'; did you mean 'lr'?"),
        ("a.json", '{"runs": [{"lr": -1}]}', "a.json: run 'run': lr = -1: give a number from 0 to"),
        ("a.json", '{"runs": [{"name": "x", "lr": 1}, {"name": "x", "lr": 1}]}', "two runs are called 'x'"),
        ("a.json", '{"runs": [{"config": 3}]}', "config = 3: give the name of a configuration file"),
        ("a.json", '{"runs": [{"seed": "many"}]}', "is not a seed"),
    ],
)
def test_one_line_for_a_file_that_is_no_sweep(name: str, text: str, message: str) -> None:
    Path(name).write_text(text)
    result = CliRunner().invoke(app, ["sweep", name])
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not Path("runs").exists()


def test_a_grid_is_every_combination_for_every_run() -> None:
    values = {
        "all": {"lr": 1},
        "runs": [{"method": "wa"}, {"method": "der", "lr": 2}],
        "grid": {"keep": ["a", "b"], "seed": [[1], [2]]},
    }
    Path("a.json").write_text(json.dumps(values))
    rows = read_sweep(Path("a.json"))
    assert len(rows) == 8
    assert rows[0] == {"lr": 1, "method": "wa", "keep": "a", "seed": [1]}
    assert rows[7] == {"lr": 2, "method": "der", "keep": "b", "seed": [2]}
    with pytest.raises(ConfigError, match="No such file"):
        read_sweep(Path("none.toml"))
