"""Without the extras: what needs none works, and the rest says in a line what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from escort_cil.demo.drawings import draw_dataset

WITHOUT = """
import sys
for name in ("torch", "accelerate", "safetensors", "diffusers", "transformers", "matplotlib", "jinja2"):
    sys.modules[name] = None
from escort_cli.app import main
main()
"""


def escort(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("plain")
    draw_dataset(place / "data", classes=2, train=2, test=1, size=48)
    return place


def test_the_codec_needs_no_extra(folder: Path) -> None:
    for arguments in (
        ("encode", "./data", "out.escx"),
        ("inspect", "out.escx"),
        ("verify", "out.escx"),
        ("decode", "out.escx", "--seeds", "0-1", "--edges", "--out", "images"),
    ):
        done = escort(folder, *arguments)
        assert done.returncode == 0, done.stderr
    assert len(list((folder / "images").rglob("*_seed0?.jpg"))) == 8


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("train", "./data"), "train"),
        (("evaluate", "run", "--data", "./data"), "train"),
        (("demo",), "train"),
        (("report", "run"), "report"),
        (("decode", "out.escx", "--regenerator", "controlnet", "--out", "others"), "diffusion"),
    ],
)
def test_what_an_extra_is_needed_for_says_so(arguments: tuple[str, ...], extra: str, folder: Path) -> None:
    assert escort(folder, "encode", "./data", "out.escx", "--force").returncode == 0
    done = escort(folder, *arguments)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"escort {arguments[0]}: ")
    assert last.endswith(f"pip install 'escort[{extra}]'")
    assert "Traceback" not in done.stderr
