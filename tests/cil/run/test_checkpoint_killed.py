"""The end of a phase, killed at any point or on a full disk: the memory is the old one or the new one, and goes on."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
import torch

from escort_cil.memory.contents import ClassMemory, packed
from escort_cil.run.checkpoint import Checkpoints, CheckpointState
from escort_cil.run.folder import MEMORY
from escort_codec.atomic import write_file
from escort_codec.errors import OutputError
from tests.cil.run_folders import records_of
from tests.container.failing import Disk, count_points
from tests.helpers import assert_whole, in_child, make_exemplars, quick_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")

OLD = packed([ClassMemory("class-0", {"prompt": tuple(make_exemplars(5, labels=1))})])
NEW = packed([ClassMemory("class-0", {"prompt": tuple(make_exemplars(8, start=20, labels=1))})])
WEIGHTS = {"network.w": torch.arange(20.0)}


def begin(run: Path) -> None:
    """A run whose first phase has ended."""
    for path in sorted(run.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    end_phase(run, 0, OLD)


def end_phase(run: Path, phase: int, memory: bytes) -> None:
    """What ``Recorder`` does with the memory, in its order: written aside, made to count, put in place."""
    checkpoints = Checkpoints(run)
    write_file(checkpoints.pending(MEMORY, phase), memory)
    checkpoints.save(CheckpointState(phase + 1, 0, records=tuple(records_of((2, 3)[: phase + 1]))), WEIGHTS)
    checkpoints.publish(phase)


def resume(run: Path) -> bytes:
    """Takes the run up as ``escort train --resume`` does, and ends the second phase; the memory that it found."""
    state = Checkpoints(run).load()
    assert state is not None
    assert Checkpoints(run).tensors(state)["network.w"].tolist() == WEIGHTS["network.w"].tolist()
    Checkpoints(run).publish(state.phase - 1)
    found = (run / MEMORY).read_bytes()
    assert found == (OLD, NEW)[state.phase - 1]
    if state.phase == 1:
        end_phase(run, 1, NEW)
    assert (run / MEMORY).read_bytes() == NEW
    assert not list(run.rglob("*after*"))
    return found


def test_killed_at_any_point_the_memory_is_whole_and_the_run_goes_on() -> None:
    with quick_folder() as folder:
        run = folder / "run"
        run.mkdir()
        begin(run)
        assert in_child(lambda: count_points(lambda: end_phase(run, 1, NEW), folder / "points")) == 0
        total = int((folder / "points").read_text())
        points = {*range(4), *range(total - 6, total), *random.Random(11).sample(range(total), 60)}
        found = []
        for point in sorted(points):
            begin(run)

            def work(point: int = point) -> None:
                Disk(point).install()
                end_phase(run, 1, NEW)

            assert in_child(work) == -signal.SIGKILL
            assert (run / MEMORY).read_bytes() in (OLD, NEW)
            assert_whole(run / MEMORY)
            found.append(resume(run))
        assert found == sorted(found, key=lambda memory: memory == NEW)  # from some point on it is the new one
        assert {OLD, NEW} == set(found)


def test_on_a_full_disk_the_memory_is_the_one_before() -> None:
    with quick_folder() as folder:
        run = folder / "run"
        run.mkdir()
        for point in [0, len(NEW) - 1, len(NEW), *random.Random(12).sample(range(len(NEW) + 200), 12)]:
            begin(run)

            def work(point: int = point) -> None:
                Disk(point, full=True).install()
                with pytest.raises(OutputError, match="No space left on device"):
                    end_phase(run, 1, NEW)

            assert in_child(work) == 0
            assert (run / MEMORY).read_bytes() == OLD
            assert resume(run) == OLD
