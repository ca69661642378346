"""What ``escort train`` shows: on a terminal, where there is none, and of several processes."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from escort_cil.events import CopiesMade, EpochEnded, PhaseBegan, PhaseEnded, Said
from escort_cil.metrics import RunFigures
from escort_cil.run.settings import TrainConfig
from escort_cil.trainer import RunResult
from escort_cli.train_view import print_results, shown

RECORD = {
    **dict.fromkeys(("top1", "top5", "nme_top1", "old", "new", "average_incremental_accuracy", "forgetting"), 50.0),
    "phase": 0,
    "classes": 2,
    "memory_bytes": 1234,
    "memory_real": 1,
    "memory_prompt": 24,
    "memory_units": 2.0,
}
RESULT = RunResult(Path("runs/x"), TrainConfig(), (), ({**RECORD, "views": {"real": RECORD}},), RunFigures())


@pytest.mark.parametrize(("rank", "speaks"), [(None, True), ("0", True), ("1", False)])
def test_of_several_processes_the_first_speaks(
    rank: str | None, speaks: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    with shown() as view:
        view.say("a line")
        view.report(Said("another"))
        view.report(PhaseEnded(RECORD))
    print_results([RESULT])
    printed = capsys.readouterr()
    assert (printed.err.splitlines()[:2] == ["a line", "another"]) == speaks
    assert ("top-1 50.00 %" in printed.err) == speaks
    assert ("icarl, runs/x" in printed.out) == speaks
    assert ("1,234" in printed.out) == speaks
    assert speaks or printed.err + printed.out == ""


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _Terminal()
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stderr", screen)
    with shown() as view:
        view.report(CopiesMade(1, 2))
        view.report(PhaseBegan(1, 5, ("cat", "dog"), 80, 12, 30))
        view.report(EpochEnded(1, 5, 2, 30, 1.5, 40.25, 0.1, 99.0, 61.0))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    for part in ("phase 2/5", "3/30", "loss 1.500", "accuracy 40.2 %", "99 images/s", "1:01 left"):
        assert part in text, part
    assert "phase 2 of 5: 2 classes, 80 images and 12 remembered, 30 epochs" in text


def test_epochs_are_said_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("escort_cli.train_view.monotonic", iter((100.0, 101.0, 110.0)).__next__)
    with shown() as view:
        for epoch in range(3):
            view.report(EpochEnded(0, 1, epoch, 3, 1.5, 40.0, 0.1, 99.0, 61.0))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["phase 1 epoch 1/3", "phase 1 epoch 3/3"]
    assert lines[0].endswith("loss 1.5000, accuracy 40.0 %, lr 0.1, 99 images/s, 1:01 left")
