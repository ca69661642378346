"""``escort decode --regenerator controlnet`` from end to end: resumed, ended by a signal, and by two processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from escort_cli.app import app
from escort_codec.container import Reader, Writer
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import Recipe
from escort_codec.regenerate import image_digest

ROOT = Path(__file__).parents[2]


def exemplar(number: int, recipe: Recipe | None = None) -> Exemplar:
    size = (80, 50) if number % 2 else (60, 80)
    edges = np.random.default_rng(number).random(size) < 0.1
    return Exemplar.from_edges(edges, label="cat", name=f"{number}.jpg", recipe=recipe, coding="packed")


def write(path: Path, exemplars: list[Exemplar]) -> Path:
    with Writer(path) as writer:
        for one in exemplars:
            writer.add(one)
    return path


def arguments(tiny: Path, file: Path, out: Path, *more: str) -> list[str]:
    models = ["--model", str(tiny / "model"), "--controlnet", str(tiny / "controlnet")]
    small = ["--steps", "1", "--resolution", "64", "--device", "cpu", "--dtype", "fp32", "--format", "png"]
    return [str(file), "--out", str(out), "--json", *models, *small, *more]


def decode(*given: str) -> tuple[int, dict[str, Any], str]:
    """(exit code, summary, stderr) of the command in this process."""
    result = CliRunner().invoke(app, ["decode", "--regenerator", "controlnet", *given])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.stdout) if result.stdout else {}, result.stderr


def images(out: Path) -> dict[str, Any]:
    return {str(path.relative_to(out)): np.asarray(Image.open(path)).astype(int) for path in out.rglob("*.png")}


def manifest(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def test_what_is_there_is_skipped_before_anything_is_loaded(tiny_sd: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "a.escx", [exemplar(0), exemplar(1)])
    out = tmp_path / "out"
    code, summary, _ = decode(*arguments(tiny_sd, file, out, "--seeds", "0", "--batch-size", "2"))
    assert (code, summary["images"], summary["failed"]) == (0, 2, 0)
    assert summary["load_s"] > 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    code, summary, _ = decode(*arguments(tiny_sd, file, out, "--seeds", "0-1", "--limit", "1"))
    assert (code, summary["images"], summary["skipped"]) == (0, 1, 1)
    code, summary, _ = decode(*arguments(tiny_sd, file, out, "--seeds", "0"))
    assert (code, summary["images"], summary["skipped"]) == (0, 0, 2)
    assert "load_s" not in summary  # nothing was
    assert {path: path.stat().st_mtime_ns for path in before} == before
    lines = manifest(out)
    assert [line["regenerator"] for line in lines] == ["controlnet"] * 3
    assert {line["recipe"]["scheduler"] for line in lines} == {"ddim"}
    with Reader(file) as reader:
        for line in lines:
            assert line["digest"] == image_digest(reader[line["number"]], line["seed"], "controlnet", line["recipe"])


def test_a_missing_model_is_one_line_and_nothing_is_written(tiny_sd: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "a.escx", [exemplar(0)])
    out = tmp_path / "out"
    given = [str(file), "--out", str(out), "--seeds", "0", "--quiet", "--device", "cpu", "--model", "nobody/nothing"]
    code, _, said = decode(*given)
    assert code == 1
    (line,) = said.splitlines()
    assert line.startswith("escort decode: the model nobody/nothing was not found")
    assert "hf download nobody/nothing" in line
    assert "huggingface-cli" in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--device", "cuda:9"], 2, "--device cuda:9: no such device: PyTorch sees "),
        (["--steps", "700"], 2, "--steps 700: ddim makes 1 to 500 steps"),
        (["--steps", "1000"], 2, "--steps 1000: give a whole number from 1 to 999"),
        (["--scheduler", "unipc", "--steps", "1000"], 2, "--steps 1000: "),
        (["--guidance", "0.5"], 2, "--guidance 0.5: give a number of at least 1"),
    ],
)
def test_what_stops_every_image_is_one_line_before_the_first(
    more: list[str], code: int, said: str, tiny_sd: Path, tmp_path: Path
) -> None:
    file = write(tmp_path / "a.escx", [exemplar(number) for number in range(3)])
    models = ["--model", str(tiny_sd / "model"), "--controlnet", str(tiny_sd / "controlnet")]
    result = decode(str(file), "--out", str(tmp_path / "out"), "--seeds", "0-9", *models, *more)
    assert result[0] == code
    assert result[2].startswith(f"escort decode: {said}")
    assert result[2].count("\n") == 1
    assert not (tmp_path / "out").exists()


THEIRS = Recipe(model="evil/model")


def test_a_files_model_is_refused_where_nobody_can_be_asked(tiny_sd: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "a.escx", [exemplar(number, THEIRS) for number in range(3)])
    given = [str(file), "--out", str(tmp_path / "out"), "--seeds", "0", "--device", "cpu"]
    code, _, said = decode(*given)
    assert (code, said) == (
        1,
        "escort decode: the file's recipe names the model evil/model, which anybody may have made: agree with "
        "--trust-recipe, or choose with --model and --controlnet\n",
    )
    assert not (tmp_path / "out").exists()
    code, _, said = decode(*given, "--trust-recipe")
    assert (code, said.splitlines()[-1].partition(":")[0]) == (1, "escort decode")
    assert "the model evil/model was not found" in said
    code, summary, _ = decode(*arguments(tiny_sd, file, tmp_path / "out", "--seeds", "0"))
    assert (code, summary["images"]) == (0, 3)


@pytest.mark.parametrize(
    ("answer", "said"), [("y\n", "the model evil/model was not found"), ("\n", "nothing was loaded")]
)
def test_at_a_terminal_a_files_model_is_asked_for(answer: str, said: str, tmp_path: Path) -> None:
    """In a pseudo-terminal, as a user sits at one."""
    pty = pytest.importorskip("pty")
    file = write(tmp_path / "a.escx", [exemplar(0, THEIRS)])
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "escort_cli", "decode", str(file), "--regenerator", "controlnet", "--seeds", "0"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "400", "TERM": "dumb"}
    with subprocess.Popen(
        [*command, "--out", str(tmp_path / "out"), "--device", "cpu"],
        cwd=ROOT,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        os.write(ours, answer.encode())
        shown = b""
        with suppress(OSError):  # Linux ends a pseudo-terminal with an error
            while part := os.read(ours, 4096):
                shown += part
    os.close(ours)
    assert process.returncode == 1
    assert "names the model evil/model, which anybody may have made. Load it? [y/N]" in shown.decode()
    assert said in shown.decode()
    assert not (tmp_path / "out").exists()


def test_a_signal_ends_after_the_images_in_flight_and_the_same_command_goes_on(tiny_sd: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "a.escx", [exemplar(0)])
    out = tmp_path / "out"
    given = arguments(tiny_sd, file, out, "--seeds", "0-11", "--batch-size", "2")
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            if any(out.rglob("*.png")):
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.002)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        code, summary, said = decode(*given)
    finally:
        over.set()
        asking.join()
    assert code == 130
    assert summary["ended_early"]
    assert 2 <= summary["images"] < 12
    assert "ending after the images in flight" in said
    assert len(images(out)) == len(manifest(out)) == summary["images"]
    code, rest, _ = decode(*given)
    assert (code, rest["skipped"], rest["images"]) == (0, summary["images"], 12 - summary["images"])
    assert len(images(out)) == 12


def test_two_processes_make_every_missing_image_once(tiny_sd: Path, tmp_path: Path) -> None:
    """Two real processes as torchrun starts them, against one: the same images, no doubles, none left out, one
    summary; what fails in one of them is counted. (Slow: two more interpreters import diffusers. No other test shows
    that processes agree.)"""
    exemplars = [exemplar(number) for number in range(5)]
    exemplars[3] = replace(exemplars[3], recipe=Recipe(scheduler="none"))
    file = write(tmp_path / "a.escx", exemplars)
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    code, summary, _ = decode(*arguments(tiny_sd, file, alone, "--seeds", "0,7", "--batch-size", "4"))
    assert (code, summary["images"], summary["failed"]) == (1, 8, 2)
    code, summary, _ = decode(*arguments(tiny_sd, file, shared, "--seeds", "7", "--limit", "2"))
    assert (code, summary["images"]) == (0, 2)
    there = {path: path.stat().st_mtime_ns for path in shared.rglob("*.png")}

    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    program = [
        "-m",
        "escort_cli",
        "decode",
        "--regenerator",
        "controlnet",
        *arguments(tiny_sd, file, shared, "--seeds", "0,7", "--batch-size", "3"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [*launcher, *program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 1, ran.stderr  # two images failed
    summary = json.loads(ran.stdout)  # one summary, and nothing else
    assert (summary["images"], summary["skipped"], summary["failed"]) == (6, 2, 2)
    assert "decode 1/2: 4/4" in ran.stderr
    assert "decode 2/2: 4/4" in ran.stderr
    assert ran.stderr.count("scheduler = 'none': write ddim, unipc or dpm++") == 2
    assert {path: path.stat().st_mtime_ns for path in there} == there
    ours, expected = images(shared), images(alone)
    assert ours.keys() == expected.keys()
    assert all(np.abs(ours[name] - expected[name]).max() <= 1 for name in ours)
    counts = Counter(line["image"] for line in manifest(shared))
    assert counts == dict.fromkeys(ours, 1)
    assert not list(shared.glob("manifest.*.jsonl"))
