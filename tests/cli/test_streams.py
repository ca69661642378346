"""Standard output and standard error that are closed or full: one line where there is room for it, and whole files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from escort_cil.demo.drawings import draw_dataset

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full and a shell")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes in ``data``, and ``whole.escx`` made of them."""
    folder = tmp_path_factory.mktemp("streams")
    draw_dataset(folder / "data", classes=2, train=2, test=1, size=32)
    assert escort(folder, "encode data whole.escx")[0] == 0
    return folder


def escort(folder: Path, line: str) -> tuple[int, str]:
    """The exit code of a line of a shell after ``escort``, and what was said where it could be said."""
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -m escort_cli {line}'],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (
            "inspect whole.escx >/dev/full",
            1,
            "escort inspect: standard output cannot be written: No space left on device",
        ),
        ("inspect whole.escx --json >/dev/full", 1, "escort inspect: standard output cannot be written: No space left"),
        ("inspect whole.escx >&-", 1, "escort inspect: standard output cannot be written: Bad file descriptor"),
        ("--help >/dev/full", 1, "escort: standard output cannot be written: No space left on device"),
        ("inspect whole.escx >&- 2>&-", 1, ""),
        ("inspect none.escx 2>/dev/full", 1, ""),
        ("inspect none.escx 2>&-", 1, ""),
        ("inspect --nothing 2>/dev/full", 2, ""),
        ("inspect --nothing <&- 2>&-", 2, ""),
    ],
)
def test_one_line_and_the_right_code(folder: Path, line: str, code: int, said: str) -> None:
    found, output = escort(folder, line)
    assert (found, len(output.splitlines())) == (code, bool(said))
    assert output.startswith(said)


@pytest.mark.parametrize(
    ("streams", "code"), [(">/dev/full", 1), ("2>/dev/full", 0), ("2>&-", 0), (">&- 2>&-", 1), ("<&- >&- 2>&-", 1)]
)
def test_files_are_whole_whatever_becomes_of_the_streams(folder: Path, tmp_path: Path, streams: str, code: int) -> None:
    assert escort(folder, f"encode data {tmp_path / 'a.escx'} {streams}")[0] == code
    assert (tmp_path / "a.escx").read_bytes() == (folder / "whole.escx").read_bytes()
    assert len(list(tmp_path.iterdir())) == 1
