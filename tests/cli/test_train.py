"""``escort train`` and ``escort evaluate`` as they are typed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from escort_cil.demo.drawings import draw_dataset
from escort_cil.metrics import RunFigures
from escort_cil.run.settings import TrainConfig
from escort_cil.trainer import RunResult, train
from escort_cli.app import app
from escort_cli.train import print_results
from escort_codec.progress import Progress
from tests.cil import small_runs

QUICK = ["--backbone", "resnet10", "--image-size", "16", "--batch-size", "8", "--epochs", "1", "--device", "cpu"]
QUICK += ["--budget", "6KB", "--set", "coding=rle", "--seeds", "0-1", "--lr", "0.01", "--workers", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw_dataset(folder, classes=4, train=6, test=2, size=40)
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are quicker so where several tests run at once."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def escort(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def test_the_whole_way(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    escort("encode", data, "out.escx", "--coding", "rle", "--seeds", "0-1", "--hint", "12")
    result = escort("train", "--memory", "out.escx", *QUICK, "--increment", 2, "--out", "run", "--eval-views", "both")
    assert "phase 2 of 2" in result.stderr
    assert "synthetic images: by harmonic, shown with probability 0.5" in result.stderr
    assert "regenerated" in result.stdout
    assert "nearest mean" in result.stdout
    assert (tmp_path / "run" / "memory.escx").stat().st_size <= 6000
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["classes"] for record in records] == [2, 4]
    assert "phase 2 finished" in (tmp_path / "run" / "log.txt").read_text()
    figures = json.loads(escort("evaluate", "run", "--data", data, "--device", "cpu", "--json").stdout)
    assert figures["views"]["real"]["top1"] == records[-1]["views"]["real"]["top1"]
    assert "nearest mean" in escort("evaluate", "run", "--data", data, "--device", "cpu").stdout
    # An existing run is kept, resumed, or replaced.
    assert "holds a run already" in escort("train", data, *QUICK, "--out", "run", code=1).stderr
    assert "is finished" in escort("train", "--resume", "run").stderr
    refused = escort("train", "--resume", "run", "--budget", "7KB", code=2).stderr
    assert "budget was '6KB', is '7KB'" in refused
    refused = escort("train", "--resume", "run", "--seed", "1,2", code=2).stderr
    assert "run is one run with one class order" in refused
    assert not list((tmp_path / "run").glob("seed*"))


def test_several_orders(data: Path, tmp_path: Path) -> None:
    options = [*QUICK, "--method", "finetune", "--increment", 2]
    result = escort("train", data, *options, "--seed", "1993,7", "--out", tmp_path / "runs")
    assert "2 class orders" in result.stdout
    assert "average incremental accuracy" in result.stdout
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["seed1993", "seed7"]
    # The mean and the deviation (n - 1) of the two runs' own figures.
    last = [
        json.loads((tmp_path / "runs" / seed / "metrics.jsonl").read_text().splitlines()[-1])
        for seed in ("seed1993", "seed7")
    ]
    one, two = (record["average_incremental_accuracy"] for record in last)
    row = next(line for line in result.stdout.splitlines() if "average incremental accuracy" in line)
    assert row.split()[-2:] == [f"{(one + two) / 2:.2f}", f"{abs(one - two) / 2**0.5:.2f}"]


def test_named_by_its_seeds(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    escort("train", data, *QUICK, "--method", "replay", "--init-cls", 3, "--seed", 5, "--model-seed", 6)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["replay-resnet10-init3-inc3-seed5-model6"]


def test_a_class_order_and_class_folders(data: Path, tmp_path: Path) -> None:
    order = sorted((path.name for path in (data / "train").iterdir()), reverse=True)
    (tmp_path / "order.txt").write_text("\n".join(order))
    result = escort(
        *("train", data / "train", *QUICK, "--method", "finetune", "--increment", 2),
        *("--class-order", tmp_path / "order.txt", "--out", tmp_path / "run"),
    )
    assert "are held out as the test set" in result.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())["class_order"] == order


def test_continue(data: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    draw_dataset(new, classes=5, train=4, test=2, size=40, seed=1)
    escort("train", data, *QUICK, "--increment", 2, "--out", tmp_path / "first")
    result = escort("train", new, "--continue", tmp_path / "first", "--out", tmp_path / "second")
    assert "4 classes are known" in result.stderr
    last = json.loads((tmp_path / "second" / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["classes"], last["groups"]) == (5, [2, 2, 1])


def test_print_config(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"model_name": "wa", "convnet_type": "resnet34", "seed": [1, 2]}))
    result = escort("train", "--config", tmp_path / "c.json", "--print-config", "--backbone", "resnet50")
    values = json.loads(result.stdout)
    assert (values["method"], values["backbone"], values["seed"]) == ("wa", "resnet50", [1, 2])
    (tmp_path / "printed.json").write_text(result.stdout)
    again = json.loads(escort("train", "--config", tmp_path / "printed.json", "--print-config").stdout)
    sources = values.pop("from")
    assert again.pop("from")["method"] == f"{tmp_path / 'printed.json'}: method"
    assert again == values
    assert (sources["backbone"], sources["lr"]) == ("flag", "default")
    assert sources["method"] == f"{tmp_path / 'c.json'}: model_name"
    options = {f"method.{name}" for name in values["method_options"]}
    assert set(sources) == set(values) - {"method_options", "regenerator_options"} | options
    assert values["method_options"]["milestones"] == [60, 100, 140]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "no data: give DATA, or a --memory that records it"),
        (["nowhere"], 1, "nowhere: there is no such folder"),
        (["--memory", "none.escx"], 1, "none.escx"),
        (["--budget", "many"], 2, "--budget many: write 200KB, 20KB/class, 20units/class or 2000units"),
        (["--keep", "30% original"], 2, "shares must add up to 100%"),
        (["--epochs", "0"], 2, "--epochs 0: give a whole number of at least 1"),
        (["--set", "blur=-1"], 2, "--blur -1: give a number from 0 to 655.35"),
        (["--set", "method.epochs=0"], 2, "method.epochs"),
        (["--set", "blur"], 2, "write KEY=VALUE"),
        (["--resume", "run", "--continue", "run"], 2, "give either --resume, for a stopped run, or --continue"),
        (["--method", "icrl"], 2, "did you mean 'icarl'"),
        (["--set", "method.temprature=3"], 2, "did you mean 'temperature'"),
        (["--resume", "run", "--force"], 2, "--resume names the run folder"),
        (["--resume", "run"], 1, "is not a run folder"),
        (["--seed", "x"], 2, "is not a seed"),
        (["--backbone", "resnet19", "."], 2, "no backbone is called"),
    ],
)
def test_one_line_for_what_cannot_be_done(
    arguments: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw_dataset(tmp_path, classes=2, train=2, test=1, size=24)
    result = escort("train", *arguments, code=code)
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("runs/*"))


class _Recorded(Progress):
    """What is shown of a run."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int | None, str]] = []
        self.notes: list[str] = []

    def begin(self, what: str, total: int | None = None, *, unit: str = "images") -> None:
        self.begun.append((what, total, unit))

    def advance(self, count: int = 1, note: str = "") -> None:
        self.notes += [note] * bool(note)


def test_epochs_and_synthetic_images_are_shown(data: Path, tmp_path: Path) -> None:
    shown = _Recorded()
    train(small_runs.quick(data), out=tmp_path / "run", progress=shown)
    assert [each for each in shown.begun if each[2] == "epochs"] == [(f"phase {n}/2", 2, "epochs") for n in (1, 2)]
    assert any(what == "synthetic images" and total for what, total, _ in shown.begun)
    assert len(shown.notes) == 4
    for note in shown.notes:
        assert re.fullmatch(r"loss \d+\.\d{4}, accuracy \d+\.\d %, lr [0-9.e-]+, \d+ images/s", note)


def test_results_are_two_tables(capsys: pytest.CaptureFixture[str]) -> None:
    keys = ("top1", "top5", "nme_top1", "old", "new", "average_incremental_accuracy", "forgetting")
    sizes = {"memory_bytes": 1234, "memory_real": 1, "memory_prompt": 24, "memory_units": 2.0, "model_bytes": 5678}
    record = {**dict.fromkeys(keys, 50.0), "phase": 0, "classes": 2, **sizes}
    result = RunResult(Path("runs/x"), TrainConfig(), (), ({**record, "views": {"real": record}},), RunFigures())
    print_results([result])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["icarl,", "runs/x:", "accuracy", "in", "%"] in rows
    assert ["1", "2", *["50.00"] * 7] in rows
    assert ["1", "1,234", "1", "24", "2.0", "5,678"] in rows


@pytest.mark.parametrize(
    ("environment", "lines"),
    [
        ({}, True),
        ({"RANK": "1"}, True),
        ({"RANK": "0", "WORLD_SIZE": "2"}, True),
        ({"RANK": "1", "WORLD_SIZE": "2"}, False),
    ],
)
def test_the_first_of_several_processes_prints(
    environment: dict[str, str], lines: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is finished: nothing is trained, so no process waits for another. RANK alone is one process."""
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    escort("train", data, *QUICK, "--method", "finetune", "--increment", 4, "--out", tmp_path / "run")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = escort("train", "--resume", tmp_path / "run")
    assert ("is finished" in result.stderr) == lines
    assert ("finetune" in result.stdout) == lines
    assert lines or result.output == ""
