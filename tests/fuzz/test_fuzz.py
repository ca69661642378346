"""Thirty seconds of coverage-guided fuzzing, and the inputs it begins with."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import corpus, targets

SECONDS = int(os.environ.get("ESCORT_FUZZ_SECONDS", "30"))


def test_the_initial_inputs_pass_and_reach_every_target() -> None:
    found = list(corpus.inputs())
    assert {data[0] for data in found} == set(range(len(targets.TARGETS)))
    for data in found:
        targets.run(data)


def test_repairing_checksums_changes_no_whole_file() -> None:
    for data in corpus.inputs():
        if data[0] == 0:
            assert targets.repair(data[1:]) == data[1:]


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: it has wheels for Linux on x86-64 only",
)
def test_fuzzing_finds_nothing(tmp_path: Path) -> None:
    """Half a minute: every byte that a stranger controls, and everything after the checksums."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz.fuzz", str(tmp_path / "corpus"), f"-max_total_time={SECONDS}"),
            *("-timeout=20", "-rss_limit_mb=2048", "-max_len=8192", "-print_final_stats=1", "-seed=1"),
            f"-artifact_prefix={tmp_path}/",
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        check=False,
    )
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, said[-4000:]
    runs = int(said.split("stat::number_of_executed_units:")[1].split()[0])
    assert runs > 500, said[-2000:]
