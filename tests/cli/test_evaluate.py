from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from escort_cil.demo.drawings import draw_dataset
from escort_cil.evaluation import Evaluation
from escort_cil.metrics import Counts, PhaseFigures


def _run(*arguments: object) -> Result:
    from escort_cli.app import app

    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw_dataset(folder, classes=3, train=6, test=4, size=48)
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two phases of two classes and one, in about a second."""
    from escort_cli.app import app

    out = tmp_path_factory.mktemp("runs") / "run"
    small = ("--backbone", "resnet10", "--image-size", "16", "--epochs", "1", "--increment", "2", "--seeds", "0")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    result = CliRunner().invoke(
        app, ["train", str(data), "--out", str(out), "--budget", "6KB", "--set", "coding=rle", *small]
    )
    torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    return out


def test_tables(run: Path, data: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result = _run(run, "--data", data)
    assert result.exit_code == 0, result.output
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    (main,) = [text.split() for text in result.stdout.splitlines() if text.split()[:1] == ["real"]]
    keys = ("top1", "top5", "nme_top1", "nme_top5", "old", "new")
    assert main == ["real", "12", *(f"{line[key]:.2f}" for key in keys)]
    order = json.loads((run / "config.json").read_text())["class_order"]
    classes = [text.split()[:3] for text in result.stdout.splitlines() if text.split()[:1] and text.split()[0] in order]
    assert classes == [[order[0], "1", "4"], [order[1], "1", "4"], [order[2], "2", "4"]]
    rows = [text.split() for text in result.stdout.splitlines() if text.split()[1:2] and text.split()[1] in order]
    assert [row[:2] for row in rows] == [["1", order[0]], ["2", order[1]], ["3", order[2]]]
    assert [sum(int(count) for count in row[2:] if count != ".") for row in rows] == [4, 4, 4]
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_json_and_out(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    options = (
        "--eval-views",
        "both",
        "--no-nearest-mean",
        "--workers",
        "1",
        "--cache-memory",
        "1KB",
        "--device",
        "cpu",
    )
    result = _run(run, "--data", data / "test", "--json", "--out", out, *options)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert json.loads(out.read_text()) == found
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]
    assert list(found["views"]) == ["both", "real", "regenerated"]
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert found["views"]["real"]["top1"] == line["top1"]
    assert found["nme_top1"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("{run}",), 2, "Missing option '--data'"),
        (("{data}", "--data", "{data}"), 1, "is not a run folder"),
        (("{run}", "--data", "no/where"), 1, "no/where: there is no such folder"),
        (("{run}", "--data", "{data}", "--eval-views", "all"), 2, "--eval-views all: give real, regenerated or both"),
        (("{run}", "--data", "{data}", "--device", "tpu"), 2, "--device tpu"),
        (("{run}", "--data", "{data}", "--workers", "0"), 2, "--workers 0: give a whole number of at least 1"),
        (("{run}", "--data", "{data}", "--cache-memory", "much"), 2, "--cache-memory much: give bytes"),
        (("{run}", "--data", "{data}", "--out", "no/where/x.json"), 2, "there is no folder no/where"),
    ],
)
def test_errors_are_one_line(run: Path, data: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    result = _run(*(argument.format(run=run, data=data) for argument in arguments))
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_many_classes_show_the_most_frequent_confusions(capsys: pytest.CaptureFixture[str]) -> None:
    from escort_cli.evaluate import _print_confusion

    confusion = 3 * np.eye(13, dtype=np.int64)
    confusion[4, 2], confusion[1, 12] = 7, 9
    figures = PhaseFigures((10, 3), Counts(confusion, None))
    labels = tuple(f"class{number}" for number in range(13))
    _print_confusion(Evaluation(Path("run"), Path("data"), labels, {"real": figures}, {}, ()))
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "predicted" in line]
    assert rows == [["class1,", "predicted", "as", "class12", "9"], ["class4,", "predicted", "as", "class2", "7"]]
