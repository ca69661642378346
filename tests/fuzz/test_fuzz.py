"""Thirty seconds of coverage-guided fuzzing, and the inputs it begins with."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import corpus, run_targets, targets

SECONDS = int(os.environ.get("ESCORT_FUZZ_SECONDS", "30"))
RUN_FILES = 800  # changed files, in about four seconds


def test_the_initial_inputs_pass_and_reach_every_target() -> None:
    found = list(corpus.inputs())
    assert {data[0] for data in found} == set(range(len(targets.TARGETS)))
    for data in found:
        targets.run(data)


def test_repairing_checksums_changes_no_whole_file() -> None:
    for data in corpus.inputs():
        if data[0] == 0:
            assert targets.repair(data[1:]) == data[1:]


def test_changed_files_of_runs_are_refused_or_whole() -> None:
    """Every file beside .escx files that is read: values in the wrong places, bytes that are changed or cut off."""
    draw = random.Random(1)
    whole = [(number, data) for number, data in run_targets.inputs() if not data.startswith(b"\0")]
    for _ in range(RUN_FILES):
        number, data = draw.choice(whole)
        target = run_targets.TARGETS[number]
        if target is not run_targets.counts and draw.random() < 0.7:
            target(b"\0" + draw.randbytes(3 * draw.randrange(1, 5) + 1))
            continue
        changed = bytearray(data[: draw.randrange(len(data) + 1)] if draw.random() < 0.3 else data)
        for _ in range(draw.randrange(4) if changed else 0):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        target(bytes(changed))


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
