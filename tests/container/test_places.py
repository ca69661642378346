"""Unusual places of files, and changes by other processes meanwhile."""

from __future__ import annotations

import fcntl
import os
import pickle
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from escort_codec import Reader, Writer, pack
from escort_codec.atomic import write_file
from escort_codec.container import reader as reader_module
from escort_codec.container.locked_file import partial_path
from escort_codec.errors import BusyError, EscortError, NotEscxError, OutputError
from tests.helpers import make_exemplars, read_all

STORED = make_exemplars(600, real_bytes=40)
OPTIONS: list[dict[str, Any]] = [{}, {"overwrite": True}, {"append": True}, {"resume": True}]


def test_a_link_stands_for_the_file_that_it_names(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    link = tmp_path / "link.escx"
    link.symlink_to(real / "f.escx")  # not there yet
    with Writer(link) as writer:
        writer.add(STORED[0])
    assert link.is_symlink()
    assert read_all(real / "f.escx") == [STORED[0]]
    with Writer(link, append=True) as writer:
        writer.add(STORED[1])
    with Writer(link, overwrite=True) as writer:
        writer.add(STORED[2])
    assert link.is_symlink()
    assert read_all(link) == read_all(real / "f.escx") == [STORED[2]]
    assert [p.name for p in real.iterdir()] == ["f.escx"]


def test_a_planted_partial_does_not_redirect_the_writing(tmp_path: Path) -> None:
    path, victim = tmp_path / "f.escx", tmp_path / "victim"
    victim.write_bytes(b"precious")
    partial_path(path).symlink_to(victim)
    for resume in (False, True):
        with pytest.raises(OutputError, match="cannot be written"):
            Writer(path, resume=resume)
    partial_path(path).unlink()
    partial_path(path).mkdir()
    with pytest.raises(OutputError):
        Writer(path)
    partial_path(path).rmdir()
    os.mkfifo(partial_path(path))
    with pytest.raises(OutputError):
        Writer(path)
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "nul", "long", "none"])
def test_places_where_no_file_can_be_written_or_read(tmp_path: Path, kind: str) -> None:
    path: Path | str = tmp_path / "f.escx"
    if kind == "folder":
        path = tmp_path
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = "/dev/null"
    elif kind == "nul":
        path = "a\0b"
    elif kind == "long":
        path = tmp_path / ("x" * 300)
    else:
        path = tmp_path / "none" / "f.escx"
    for options in OPTIONS:
        with pytest.raises(OutputError) as caught:
            Writer(path, **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(NotEscxError if kind in ("folder", "fifo", "device") else EscortError):
        Reader(path)
    assert Path("/dev/null").is_char_device()


def test_a_file_created_by_another_process_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "f.escx"
    writer = Writer(path)
    writer.add(STORED[0])
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="created by another process"):
        writer.close()
    assert path.read_bytes() == b"precious"
    assert [p.name for p in tmp_path.iterdir()] == ["f.escx"]


def test_a_file_replaced_or_changed_while_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "f.escx"
    path.write_bytes(pack(STORED[:300]))
    with Reader(path) as reader:
        write_file(path, pack(STORED[300:]))
        assert list(reader) == STORED[:300]  # the old file is there as long as it is open
    with Reader(path) as reader:
        assert reader[0] == STORED[300]
        data = bytearray(path.read_bytes())
        at = reader.state.index.offsets[-1] + 40
        data[at] ^= 1
        path.write_bytes(data)
        with pytest.raises(EscortError, match="checksum"):
            _ = reader[-1]
    path.write_bytes(pack(STORED[:300]))
    with Reader(path) as reader:
        os.truncate(path, 5000)
        with pytest.raises(EscortError, match="ends inside"):
            _ = reader[-1]
        pickled = pickle.dumps(reader)
    with pytest.raises(EscortError, match="was replaced or cut off"):
        pickle.loads(pickled)


def test_closing_while_others_read_is_our_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "CACHE_BYTES", 1)
    (tmp_path / "f.escx").write_bytes(pack(STORED))
    reader = Reader(tmp_path / "f.escx")
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                _ = reader[len(errors) % 600], reader[599]
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    reader.close()
    for thread in threads:
        thread.join(30)
    assert [type(e) for e in errors] == [EscortError] * 4
    assert all("the reader was closed" in str(e) for e in errors)


def test_a_lock_that_the_system_refuses_is_not_called_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OutputError, match="cannot be locked: No locks available") as caught:
        Writer(tmp_path / "f.escx")
    assert not isinstance(caught.value, BusyError)
    assert not (tmp_path / "f.escx").exists()
