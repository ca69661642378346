"""``escort demo`` as it is typed: on few pictures, bad ones, and classes that the budget cannot hold as originals."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from escort_cil.demo.comparison import DemoOptions, plan_demo
from escort_cil.demo.drawings import draw_dataset
from escort_cil.run.folder import RunFolder
from escort_cli.app import app
from escort_codec.errors import UsageError

ROOT = Path(__file__).parents[2]
QUICK = ("--image-size", "16", "--epochs", "1", "--device", "cpu")
KINDS = ("Originals", "WebP copies", "Learned pictures", "Prompts", "Sketches")


def escort(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drawn ``data``, one image of it damaged, what the demo made of it in ``out``, and what it printed.

    The browser is a program that writes down what it is given.
    """
    folder = tmp_path_factory.mktemp("demo")
    draw_dataset(folder / "data", classes=4, train=6, test=2, size=96)
    for split, number in (("train", "003"), ("test", "001")):
        (folder / "data" / split / "cactus" / f"{number}.jpg").write_bytes(b"no image")
    browser = folder / "browser"
    browser.write_text(f'#!{sys.executable}\nimport sys\nopen("{folder}/opened", "w").write(" ".join(sys.argv[1:]))\n')
    browser.chmod(0o755)
    command = (sys.executable, "-m", "escort_cli", "demo", "--data", "data", "--out", "out", *QUICK, "--open")
    environment = {**os.environ, "BROWSER": str(browser), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


def records(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_each_kind_is_trained_at_the_same_bytes_and_gets_a_true_sentence(work: Path) -> None:
    plan = plan_demo(str(work / "data"), DemoOptions())
    lines = (work / "stdout").read_text().splitlines()
    averages = {}
    for kind, memory in zip(KINDS, plan.memories, strict=True):
        run = work / "out" / "runs" / memory.folder
        assert (run / "memory.escx").stat().st_size <= plan.budget
        last = records(run)[-1]
        (sentence,) = [line for line in lines if line.startswith(f"{kind} are ")]
        count = last["memory_real"] + last["memory_prompt"]
        assert re.search(
            rf": (all|{count:.0f} of) 24 images fit, {last['memory_bytes'] / count:,.0f} bytes each", sentence
        )
        assert f"average incremental accuracy {last['average_incremental_accuracy']:.1f} %" in sentence
        assert f"{last['old']:.1f} % on old classes" in sentence
        averages[kind] = last["average_incremental_accuracy"], sentence
    best = max(average for average, _ in averages.values())
    assert {average == best for average, sentence in averages.values() if "the best of 5" in sentence} == {True}
    assert any(line.startswith("One of the 8 test images is 12.5 points") for line in lines)
    assert "Traceback" not in (work / "stderr").read_text()


def test_the_last_lines_say_where_everything_is_and_the_page_was_opened(work: Path) -> None:
    last = (work / "stdout").read_text().splitlines()[-4:]
    assert [re.split(r"\s{2,}", line) for line in last] == [
        ["contact sheet", "out/contact-sheet.png"],
        ["images", "out/images"],
        ["runs", "out/runs"],
        ["report", "out/report.html"],
    ]
    for line in last:
        assert (work / line.split()[-1]).exists()
    assert (work / "opened").read_text() == (work / "out" / "report.html").resolve().as_uri()


def test_the_report_shows_the_kinds_and_leads_to_each_memory(work: Path) -> None:
    page = (work / "out" / "report.html").read_text("utf-8")
    for memory in plan_demo(str(work / "data"), DemoOptions()).memories:
        assert f"keep {memory.keep}" in page
        assert f'href="runs/{memory.folder}/memory.html"' in page
        assert (work / "out" / "runs" / memory.folder / "memory.html").is_file()


def test_the_sheet_has_a_row_for_each_class(work: Path) -> None:
    with Image.open(work / "out" / "contact-sheet.png") as sheet:
        pixels = np.asarray(sheet)
    # From the middle of the third column of pictures: rows of colour between rows of paper.
    paper = (pixels == pixels[0, 0]).all(axis=2)
    column = paper[:, pixels.shape[1] - int(5.5 * 168)]
    starts = np.flatnonzero(column[:-1] & ~column[1:])
    assert sum(bool((~column[start + 1 : start + 60]).all()) for start in starts) == 4


def test_a_recorded_command_asks_for_the_same_run(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    recorded = RunFolder(Path("out/runs/original")).read_config()
    command = recorded["command"]
    assert command[:2] == ["escort", "train"]
    printed = json.loads(escort(*command[1:], "--print-config").stdout)
    assert printed["data"] == recorded["data"]
    flags = {
        flag.removeprefix("--").replace("-", "_"): value
        for flag, value in zip(command[3::2], command[4::2], strict=True)
    }
    assert (flags.pop("memory"), flags.pop("out")) == (recorded["prompts_file"], "out/runs/original")
    assert {"init_cls", "increment", "backbone", "image_size", "epochs", "budget", "keep"} <= set(flags)
    for key, value in flags.items():
        assert str(printed[key]) == str(recorded[key]) == value


def test_a_kind_that_the_budget_cannot_hold_is_named_and_left_out(tmp_path: Path) -> None:
    draw_dataset(tmp_path / "data", classes=3, train=5, test=2, size=32)
    noise = np.random.default_rng(0).integers(0, 256, (150, 150, 3), np.uint8)
    for number in range(3, 5):
        (tmp_path / "data" / "train" / "cactus" / f"{number:03d}.jpg").unlink()
    for path in (tmp_path / "data" / "train" / "cactus").iterdir():
        Image.fromarray(noise).save(path, quality=95)
    output = escort("demo", "--data", tmp_path / "data", "--out", tmp_path / "out", *QUICK).stdout
    budget = plan_demo(str(tmp_path / "data"), DemoOptions()).budget
    assert f"Originals are the image files as they are: {budget:,} bytes cannot hold one of each class." in output
    assert output.count("phase 3 finished") == 4
    assert "of 4" in output
    assert not (tmp_path / "out" / "runs" / "original").exists()


def test_the_rate_is_what_every_image_can_have(tmp_path: Path) -> None:
    def plan(size: int, images: int) -> tuple[int, int]:
        for label in "abc":
            for split in ("train", "test"):
                (tmp_path / split / label).mkdir(parents=True, exist_ok=True)
                for number in range(images):
                    (tmp_path / split / label / f"{number}.jpg").write_bytes(bytes(size))
        made = plan_demo(str(tmp_path), DemoOptions())
        return made.budget, made.rate

    assert plan(3000, 4) == (9000, 730)  # 9000 / 12 - 12 = 738
    assert plan(1000, 4) == (3000, 230)
    assert plan(9000, 4) == (27000, 1000)
    assert plan(400, 4) == (1200, 100)


def test_two_classes_are_too_few(tmp_path: Path) -> None:
    draw_dataset(tmp_path, classes=2, train=1, test=1, size=16)
    with pytest.raises(UsageError, match="at least 3"):
        plan_demo(str(tmp_path), DemoOptions())


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--data", "nowhere"), 1, "nowhere"),
        (("--epochs", "0"), 2, "--epochs 0"),
        (("--image-size", "3"), 2, "--image-size 3"),
        (("--regenerator", "magic"), 2, "magic"),
        (("--layout", "odd"), 2, "--layout odd"),
        (("--out", "file"), 1, "file: cannot be made"),
        (("--out", "taken"), 1, "report.html is a folder"),
    ],
)
def test_bad_input_is_one_line(
    options: tuple[str, ...], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("taken/report.html").mkdir(parents=True)
    result = escort("demo", *options, code=code)
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not Path("demo-out/demo.escx").exists()


def test_no_browser_is_said(tmp_path: Path) -> None:
    code = "from pathlib import Path; from escort_cli.demo import open_page; open_page(Path('report.html'))"
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    command = (sys.executable, "-c", code)
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "no browser was found: open report.html in one\n"
