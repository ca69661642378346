from __future__ import annotations

import io
import logging
import sys
import threading

import pytest

from escort_cli import terminal as module
from escort_cli.terminal import format_time, print_facts, print_line, print_table, terminal

log = logging.getLogger("escort_codec.test")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_outside_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 4.0, 8.0, 9.0, 20.0, 30.0])
    monkeypatch.setattr(module, "monotonic", lambda: next(clock))
    with terminal() as progress:
        progress.begin("decode", 40)
        progress.advance(10)  # 4 s: too early for a line
        progress.advance(10, note="half done")  # 8 s
        progress.advance()  # 9 s: too early
        progress.advance(19)  # the last: the closing line says it
    assert capsys.readouterr() == (
        "",
        "decode: 20/40 images, 2.5 images/s, half done, 0:08 left\ndecode: 40/40 images, 1.3 images/s, half done\n",
    )


def test_a_total_that_is_not_known(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 6.0, 10.0])
    monkeypatch.setattr(module, "monotonic", lambda: next(clock))
    with terminal() as progress:
        progress.begin("scan", unit="files")
        progress.advance(3)
    assert capsys.readouterr().err == "scan: 3 files, 0.5 files/s\nscan: 3 files, 0.3 files/s\n"


def test_one_piece_of_work_after_another(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal() as progress:
        progress.begin("phase 1/2", 1, unit="epochs")
        progress.advance()
        progress.begin("phase 2/2", 1, unit="epochs")
        progress.advance()
        progress.end()
        log.info("done")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["phase 1/2: 1/1 epochs", "phase 2/2: 1/1 epochs", "done"]


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen)
    with terminal() as progress:
        progress.begin("encode", 3, unit="maps")
        progress.advance(2, note="two of them")
        log.warning("[bold] one file was skipped")
        progress.advance()
    shown = screen.getvalue()
    for text in ("encode", "3/3", "maps/s", "two of them", "[bold] one file was skipped"):
        assert text in shown


def test_texts_of_others_are_escaped_everywhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "\x1b[2J\u202e\nnext [red]"
    shown = "\\x1b[2J\\u202e\\nnext [red]"
    with terminal() as progress:
        progress.begin(f"task {evil}", 1)
        progress.advance(1, note=f"note {evil}")
        log.warning("log %s", evil)
        progress.end()
    print_line(f"line {evil}")
    print_facts([(f"label {evil}", f"value {evil}")])
    print_table(f"title {evil}", (f"column {evil}", ""), [(f"cell {evil}", "")])
    out, err = capsys.readouterr()
    for text in ("task", "note", "log"):
        assert f"{text} {shown}" in err
    for text in ("line", "label", "value", "title", "column", "cell"):
        assert f"{text} {shown}" in out
    assert not {"\x1b", "\u202e"} & set(out + err)


def test_texts_of_others_in_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen)
    with terminal() as progress:
        progress.begin("task \x1b[5n[/]", 2)
        progress.advance(1, note="note \x1b[5n[/red]")
        log.warning("log \x1b[5n[/]")
        progress.advance()
    shown = screen.getvalue()
    assert "\x1b[5n" not in shown
    for text in ("task \\x1b[5n[/]", "note \\x1b[5n[/red]", "log \\x1b[5n[/]"):
        assert text in shown


def test_quiet_shows_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal(quiet=True) as progress:
        progress.begin("decode", 3)
        progress.advance(3)
        log.info("news")
        log.warning("a/b: failed")
    assert capsys.readouterr() == ("", "a/b: failed\n")


def test_silent_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal(silent=True) as progress:
        progress.begin("decode", 3)
        progress.advance(3)
        log.error("a/b: failed")
    assert capsys.readouterr() == ("", "")


def test_logging_is_as_before_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    package = logging.getLogger("escort_codec")
    before = (package.level, package.propagate, list(package.handlers))
    with pytest.raises(KeyError), terminal():
        raise KeyError
    assert (package.level, package.propagate, list(package.handlers)) == before


def test_many_threads_count_right(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal() as progress:
        progress.begin("decode", 4000)

        def work() -> None:
            for _ in range(1000):
                progress.advance()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "4000/4000" in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3723, "1:02:03")])
def test_times(seconds: float, text: str) -> None:
    assert format_time(seconds) == text
