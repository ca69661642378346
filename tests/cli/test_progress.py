from __future__ import annotations

import io
import sys
import threading

import pytest

from escort_cli import progress as module
from escort_cli.progress import format_time, progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 4.0, 8.0, 9.0, 20.0, 30.0])
    monkeypatch.setattr(module, "monotonic", lambda: next(clock))
    with progress("decode", 40) as p:
        p.advance(10)  # 4 s: too early for a line
        p.advance(10)  # 8 s
        p.advance()  # 9 s: too early
        p.advance(19)  # the last: the closing line says it
    assert capsys.readouterr() == (
        "",
        "decode: 20/40 images, 2.5 images/s, 0:08 left\ndecode: 40/40 images, 1.3 images/s\n",
    )


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen)
    with progress("encode", 3, unit="maps") as p:
        p.advance(2)
        p.say("[bold] one file was passed over")
        p.advance()
    shown = screen.getvalue()
    assert "encode" in shown
    assert "3/3" in shown
    assert "maps/s" in shown
    assert "[bold] one file was passed over" in shown


def test_quiet_shows_nothing_but_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("decode", 3, quiet=True) as p:
        p.advance(3)
        p.say("a/b: could not be made")
    assert capsys.readouterr() == ("", "a/b: could not be made\n")


def test_many_threads_count_right(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("decode", 4000) as p:

        def work() -> None:
            for _ in range(1000):
                p.advance()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "4000/4000" in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3723, "1:02:03")])
def test_times(seconds: float, text: str) -> None:
    assert format_time(seconds) == text
