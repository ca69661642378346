"""Several processes on one piece of work."""

from __future__ import annotations

from typing import Any

import pytest

from escort_codec.errors import EscortError, RegenerationError, UsageError
from escort_codec.processes import Processes, launched


def test_one_process_is_told_nothing_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with launched() as processes:
        assert (processes.rank, processes.world, processes.first, processes.several) == (0, 1, True, False)
        assert processes.from_first(lambda: 5) == 5
        assert processes.gather(6) == [6]


@pytest.mark.parametrize(("rank", "world"), [("2", "2"), ("x", "2"), ("0", "two")])
def test_an_environment_that_cannot_be_meant(monkeypatch: pytest.MonkeyPatch, rank: str, world: str) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(UsageError), launched():
        pass


class Line:
    """What two ends of torch.distributed do, for two Processes in one interpreter."""

    def __init__(self) -> None:
        self.box: list[Any] = []

    def broadcast_object_list(self, box: list[Any], src: int) -> None:
        if self.box:
            box[:] = self.box
        else:
            self.box = list(box)


def test_an_error_of_the_first_is_every_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line()
    monkeypatch.setattr(Processes, "_exchange", lambda self, call: call(line))

    def refuse() -> int:
        raise UsageError("no such class")

    for rank in (0, 1):
        with pytest.raises(UsageError, match="no such class"):
            Processes(rank, 2).from_first(refuse)
    broken = Line()
    monkeypatch.setattr(Processes, "_exchange", lambda self, call: call(broken))
    with pytest.raises(ZeroDivisionError):
        Processes(0, 2).from_first(lambda: 1 // 0)
    with pytest.raises(RegenerationError, match="ZeroDivisionError"):
        Processes(1, 2).from_first(lambda: 1 // 0)


def test_a_process_that_died_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.distributed

    def closed(*_: Any, **__: Any) -> None:
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(torch.distributed, "gather_object", closed)
    with pytest.raises(EscortError, match="another process ended early"):
        Processes(0, 2).gather(1)
