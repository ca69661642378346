"""The shell blocks of the pages that are no tutorial, and the Python of two, each page in a folder of its own.

The folder has what the pages name: a data folder, a few files, a finished run. Training is shortened to one epoch of a
small network on small pictures; everything else runs as it stands.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from escort_cil.demo.drawings import draw_dataset
from escort_cli.app import app
from tests.helpers import check_page
from tests.pages import DOCTESTED, ROOT, SHELL, SHELL_RUN, blocks, run_block

HERE = "tests/cli/test_docs_commands.py"
SHORT = ["--epochs", "1", "--backbone", "resnet10", "--image-size", "16", "--batch-size", "16", "--device", "cpu"]
TABLE = """[all]
data = "data"
backbone = "resnet10"
image_size = 16
epochs = 1
budget = "4KB"
[grid]
method = ["icarl", "replay"]
"""


def shortened(words: list[str]) -> list[str]:
    """A training command with one epoch of a small network: a later flag beats an earlier one."""
    if words[0] == "bench":
        return [*words, "--images", "4", "--rates", "400", "--ways", "webp", "--no-replay"]
    if words[0] != "train" or "--resume" in words:
        return words
    again = [] if "--out" in words else ["--force"]  # lines of a page that differ in what is shortened are one run
    return [*words, *(SHORT[:2] if "--continue" in words else SHORT), *again]


def escort(*words: str) -> None:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread for torch: small networks are quicker."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted."""
    folder = tmp_path_factory.mktemp("world")
    first, later = draw_dataset(folder / "data", classes=2, train=4, test=2, size=64)
    (folder / "new-photos" / "train").mkdir(parents=True)
    (folder / "new-photos" / "test").mkdir()
    draw_dataset(folder / "more", classes=3, train=4, test=2, size=64)
    for split in ("train", "test"):
        (folder / "data" / split / first).rename(folder / "data" / split / "cat")
        name = sorted(path.name for path in (folder / "more" / split).iterdir() if path.name not in (first, later))[0]
        (folder / "more" / split / name).rename(folder / "new-photos" / split / name)
    shutil.rmtree(folder / "more")
    shutil.copytree(folder / "data" / "test", folder / "photos")
    (folder / "table.toml").write_text(TABLE)
    before = Path.cwd()
    os.chdir(folder)
    try:
        escort("encode", "data", "memory.escx", "--seeds", "0-1")
        escort("train", "data", "--memory", "memory.escx", "--increment", "1", "--out", "runs/NAME", *SHORT)
    finally:
        os.chdir(before)
    return folder


@pytest.mark.skipif(os.name == "nt", reason="the pages are for a POSIX shell")
@pytest.mark.parametrize("page", [page for page, test in SHELL_RUN.items() if test == HERE])
def test_the_commands_of(page: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    shutil.copytree(world / "data", tmp_path / "DATA")
    monkeypatch.chdir(tmp_path)
    for block in blocks(ROOT / page, SHELL, run=True):
        run_block(block, shortened)
    if DOCTESTED.get(page) == HERE:
        check_page(ROOT / page, more_than=1)
    for block in blocks(ROOT / page, ["python"], run=True):
        if not block.text.startswith(">>> "):
            exec(compile(block.text, f"{page}:{block.line}", "exec"), {})
