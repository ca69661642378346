"""Whole files or none."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from escort_codec.atomic import partial_name, remove_leftovers, replacing, write_file
from escort_codec.errors import OutputError


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    seen = []
    write_file(path, b"new", before_rename=lambda: seen.append(path.read_bytes()))
    assert seen == [b"old"]
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def write() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise KeyError("x")

    with pytest.raises(KeyError):
        write()
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written: No space left"), replacing(path):
        raise OSError(28, "No space left on device")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written: No such file"):
        write_file(tmp_path / "none" / "a.txt", b"")


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"theirs")
    (tmp_path / "a.txt").symlink_to("target")
    write_file(tmp_path / "a.txt", b"ours")
    assert (tmp_path / "target").read_bytes() == b"theirs"
    assert not (tmp_path / "a.txt").is_symlink()


def test_threads_that_write_the_same_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    threads = [threading.Thread(target=write_file, args=(path, bytes([n]) * 100_000)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = path.read_bytes()
    assert len(data) == 100_000
    assert len(set(data)) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_only_what_a_dead_process_left_is_removed(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead, mine = int(gone.stdout), os.getpid()
    folder = tmp_path / "cat"
    folder.mkdir()
    here = partial_name().split("-")[1]
    left = folder / f".escort-{here}-{dead}-0123456789abcdef.partial"
    kept = [
        folder / f".escort-{here}-{mine}-0123456789abcdef.partial",
        folder / f".escort-ffffffff-{dead}-0123456789abcdef.partial",  # another container's, whose processes differ
        folder / f".escort-{here}-{dead}-1.partial",
        folder / "a.partial",
    ]
    for path in (left, *kept):
        path.write_bytes(b"x")
    for name in (
        f".escort-{here}-{mine}-fedcba9876543210.partial",
        f".escort-ffffffff-{dead}-0011223344556677.partial",
    ):
        old = folder / name
        old.write_bytes(b"x")
        os.utime(old, (1, 1))
    remove_leftovers(tmp_path)
    assert sorted(folder.iterdir()) == sorted(kept)
