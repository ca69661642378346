"""A few seconds of fuzzing whole files chunk by chunk, and the codings against their reference.

Slow on purpose, if less than the longer run of every reader beside it; ten minutes are by hand (see the harnesses).
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.golden_inputs import make_corpus
from tests.helpers import quick_folder

HERE = Path(__file__).parent
SECONDS = 5

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: it has wheels for Linux on x86-64 only",
)


@pytest.mark.parametrize("name", ["container", "codings"])
def test_fuzzing_by_structure_finds_nothing(name: str, tmp_path: Path) -> None:
    make_corpus(tmp_path)
    found = tmp_path / "found"
    found.mkdir()
    command = [
        sys.executable,
        str(HERE / f"fuzz_{name}.py"),
        f"-max_total_time={SECONDS}",
        f"-artifact_prefix={found}/",
        "-max_len=16384",
        str(tmp_path / name),
    ]
    with quick_folder() as scratch:
        run = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(scratch)},
            timeout=SECONDS + 200,
        )
    said = run.stdout + run.stderr
    inputs = "\n".join(f"{path.name}: {path.read_bytes()[:2000].hex()}" for path in found.iterdir())
    assert run.returncode == 0, f"{said[-4000:]}\n{inputs}"
    assert not inputs
    runs = re.search(r"Done (\d+) runs", said)
    assert runs, said[-4000:]
    assert int(runs[1]) > 50, said[-4000:]
