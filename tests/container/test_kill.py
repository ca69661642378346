"""A writer that is killed at any point, a disk that fills up, and writes that are short.

Hundreds of real SIGKILLs of forked writers, each within or between system calls, at points drawn from a fixed seed.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from escort_codec import Reader, Writer, pack
from escort_codec.atomic import write_file
from escort_codec.container import assembler
from escort_codec.container import writer as writer_module
from escort_codec.container.locked_file import partial_path
from escort_codec.errors import OutputError
from tests.container.failing import Disk, count_points
from tests.container.reference_reader import chunks
from tests.helpers import assert_whole, in_child, make_exemplars, quick_folder, read_all

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")

OLD = make_exemplars(6)
NEW = make_exemplars(12, start=100)
BLOCK = 3
OLD_FILE = pack(OLD)  # one block: before blocks are made small


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks of few exemplars, each synced: many kinds of points in few bytes."""
    monkeypatch.setattr(assembler, "BLOCK_EXEMPLARS", BLOCK)
    monkeypatch.setattr(writer_module, "_SYNC_BYTES", 400)


def write_new(path: Path) -> None:
    with Writer(path, source="DATA", overwrite=True) as writer:
        for exemplar in NEW:
            writer.add(exemplar)


def write_more(path: Path) -> None:
    """Appends two commits."""
    with Writer(path, append=True) as writer:
        for exemplar in NEW[:6]:
            writer.add(exemplar)
        writer.commit()
        for exemplar in NEW[6:]:
            writer.add(exemplar)


def rewrite(path: Path) -> None:
    """What a memory does after each phase."""
    write_file(path, pack(NEW))


def points_of(work: Callable[[], None], folder: Path, count: int, seed: int) -> list[int]:
    """``count`` points of ``work`` at random, and the first and last ones."""
    assert in_child(lambda: count_points(work, folder / "points")) == 0
    total = int((folder / "points").read_text())
    edges = {0, 1, 2, total - 1, total - 2, total - 3, total - 4}
    return sorted(edges | set(random.Random(seed).sample(range(total), min(count, total))))


def killed_at(point: int, work: Callable[[], None]) -> None:
    def run() -> None:
        Disk(point).install()
        work()

    assert in_child(run) == -signal.SIGKILL


def blocks_in(data: bytes, blocks: list[tuple[int, int]]) -> int:
    """The number of exemplars in blocks that end within ``data``, by (end, exemplars so far)."""
    return max((n for end, n in blocks if end <= len(data)), default=0)


def block_ends(data: bytes) -> list[tuple[int, int]]:
    with quick_folder() as folder:
        (folder / "f").write_bytes(data)
        with Reader(folder / "f") as reader:
            starts = reader.state.index.starts
    ends = [at + 12 + len(payload) for at, kind, payload in chunks(data) if kind == "BLCK"]
    return list(zip(ends, starts[1:], strict=True))


@pytest.mark.parametrize("old", [True, False], ids=["in place of an old file", "new"])
def test_a_writer_killed_anywhere_leaves_the_old_file_or_the_new_one_and_resumes_to_the_same_bytes(old: bool) -> None:
    whole = pack(NEW, source="DATA")
    ends = block_ends(whole)
    with quick_folder() as folder:
        path = folder / "f.escx"
        reset = (lambda: path.write_bytes(OLD_FILE)) if old else (lambda: path.unlink(missing_ok=True))
        reset()
        resumed = 0
        for point in points_of(lambda: write_new(path), folder, 90, seed=1):
            reset()
            partial_path(path).unlink(missing_ok=True)
            killed_at(point, lambda: write_new(path))
            if not partial_path(path).exists():  # killed before it was made, or after it was put in place
                assert path.exists() == old or path.read_bytes() == whole
                if path.exists():
                    assert path.read_bytes() in (OLD_FILE, whole)
                continue
            assert path.exists() == old
            if old:
                assert read_all(path) == OLD
            data = partial_path(path).read_bytes()
            assert whole.startswith(data)
            kept = blocks_in(data, ends)
            with Writer(path, source="DATA", overwrite=True, resume=True) as writer:
                assert len(writer) == kept
                resumed += kept > 0
                for exemplar in NEW[kept:]:
                    writer.add(exemplar)
            assert path.read_bytes() == whole
            assert not partial_path(path).exists()
        assert resumed > 50


def test_a_new_writer_after_a_killed_one_begins_again() -> None:
    with quick_folder() as folder:
        path = folder / "f.escx"
        for point in points_of(lambda: write_new(path), folder, 15, seed=2):
            path.unlink(missing_ok=True)
            killed_at(point, lambda: write_new(path))
            write_new(path)
            assert path.read_bytes() == pack(NEW, source="DATA")
            assert sorted(p.name for p in folder.iterdir()) == ["f.escx", "points"]


def test_an_appending_writer_killed_anywhere_loses_at_most_the_block_that_it_was_writing() -> None:
    with quick_folder() as folder:
        path = folder / "f.escx"
        path.write_bytes(OLD_FILE)
        assert in_child(lambda: write_more(path)) == 0
        whole = path.read_bytes()
        ends = block_ends(whole)
        path.write_bytes(OLD_FILE)
        for point in points_of(lambda: write_more(path), folder, 110, seed=3):
            path.write_bytes(OLD_FILE)
            killed_at(point, lambda: write_more(path))
            data = path.read_bytes()
            assert whole.startswith(data)
            kept = blocks_in(data, ends)
            assert kept >= len(OLD)
            assert read_all(path, recover=True) == [*OLD, *NEW][:kept]
            with Writer(path, append=True) as writer:
                assert len(writer) == kept
                for exemplar in NEW[kept - len(OLD) :]:
                    writer.add(exemplar)
            assert read_all(path) == [*OLD, *NEW]
            assert_whole(path)


def test_a_memory_rewritten_by_a_killed_process_is_the_old_one_or_the_new_one() -> None:
    with quick_folder() as folder:
        path = folder / "memory.escx"
        path.write_bytes(OLD_FILE)
        found = set()
        for point in points_of(lambda: rewrite(path), folder, 30, seed=4):
            path.write_bytes(OLD_FILE)
            killed_at(point, lambda: rewrite(path))
            found.add(path.read_bytes())
            rewrite(path)
            assert read_all(path) == NEW
        assert found == {OLD_FILE, pack(NEW)}


def test_writers_killed_at_any_time_by_somebody_else(tmp_path: Path) -> None:
    """Not at a point of ours: another process kills, while an endless row of appends runs."""
    path = tmp_path / "f.escx"
    path.write_bytes(OLD_FILE)
    code = """if True:
        import sys
        from pathlib import Path
        from escort_codec import Writer
        from tests.helpers import make_exemplars
        path, start = Path(sys.argv[1]), int(sys.argv[2])
        print("begun", flush=True)
        while True:
            with Writer(path, append=True) as writer:
                for exemplar in make_exemplars(300, start=start, real_bytes=2000):
                    writer.add(exemplar)
            start += 300
            print(start, flush=True)
    """
    draw = random.Random(5)
    start, committed = 1000, len(OLD)
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(path), str(start)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(draw.uniform(0.02, 0.5))
        child.kill()
        lines = child.stdout.read().split()
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
        committed += 300 * len(lines)
        found = read_all(path, recover=True)
        assert len(found) >= committed
        assert found[: len(OLD)] == OLD
        assert [e.name for e in found[len(OLD) :]] == sorted(e.name for e in found[len(OLD) :])
        Writer(path, append=True).close()
        assert read_all(path) == found
        committed = assert_whole(path)
        start = max([start, *(int(Path(e.name).stem[-6:]) + 1 for e in found[len(OLD) :])])  # no name twice


@pytest.mark.parametrize("seed", range(4))
def test_short_writes_change_nothing(seed: int) -> None:
    with quick_folder() as folder:
        path, other = folder / "f.escx", folder / "g.escx"

        def work() -> None:
            Disk(short=random.Random(seed)).install()
            write_new(path)
            with Writer(path, append=True) as writer:
                for exemplar in OLD:
                    writer.add(exemplar)
            rewrite(other)

        assert in_child(work) == 0
        assert path.read_bytes().startswith(pack(NEW, source="DATA"))
        assert read_all(path) == [*NEW, *OLD]
        assert other.read_bytes() == pack(NEW)
        assert_whole(path)


def _full_disk(work: Callable[[], None], point: int) -> Callable[[], None]:
    def run() -> None:
        Disk(point, full=True).install()
        with pytest.raises(OutputError, match="No space left on device"):
            work()

    return run


def test_a_full_disk_leaves_no_new_file_and_an_appended_one_as_it_was() -> None:
    with quick_folder() as folder:
        path = folder / "f.escx"
        total = len(pack(NEW))
        assert total > 1400
        for point in [0, 1, 12, total - 1, *random.Random(6).sample(range(total), 20)]:
            path.unlink(missing_ok=True)
            assert in_child(_full_disk(lambda: write_new(path), point)) == 0
            assert list(folder.iterdir()) == []
            path.write_bytes(OLD_FILE)
            assert in_child(_full_disk(lambda: rewrite(path), point)) == 0
            assert [p.name for p in folder.iterdir()] == ["f.escx"]
            assert read_all(path) == OLD
            assert in_child(_full_disk(lambda: write_more(path), point)) == 0
            held = read_all(path)
            assert held in (OLD, [*OLD, *NEW[:6]])  # what was committed before the disk was full
            assert_whole(path)
            write_rest = [e for e in NEW if e not in held]
            with Writer(path, append=True) as writer:
                for exemplar in write_rest:
                    writer.add(exemplar)
            assert read_all(path) == [*OLD, *NEW]


@pytest.mark.parametrize("limit", [1, 11, 500, 1000, 1400])
def test_a_limit_of_the_system_on_the_files_size_is_met_the_same_way(limit: int) -> None:
    """RLIMIT_FSIZE: the kernel itself cuts a write short, and refuses the next one."""
    with quick_folder() as folder:
        path = folder / "f.escx"

        def work() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            with pytest.raises(OutputError, match="File too large"):
                write_new(path)

        assert in_child(work) == 0
        assert list(folder.iterdir()) == []
        path.write_bytes(OLD_FILE)
        size = path.stat().st_size

        def more() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + limit, resource.RLIM_INFINITY))
            with pytest.raises(OutputError, match="File too large"):
                write_more(path)

        assert in_child(more) == 0
        assert read_all(path)[: len(OLD)] == OLD
        assert_whole(path)


def test_after_a_failed_write_nothing_more_is_written_even_if_the_error_is_caught() -> None:
    with quick_folder() as folder:
        path = folder / "f.escx"
        path.write_bytes(OLD_FILE)
        before = path.read_bytes()

        def work() -> None:
            disk = Disk(400, full=True)
            disk.install()
            writer = Writer(path, append=True)
            failed = 0
            for exemplar in NEW:
                try:
                    writer.add(exemplar)
                except OutputError:
                    failed += 1
                    disk.points = 1 << 60  # there is room again
            assert failed > 4
            with pytest.raises(OutputError, match="an earlier write failed"):
                writer.commit()
            with pytest.raises(OutputError, match="an earlier write failed"):
                writer.close()
            writer.close()

        assert in_child(work) == 0
        assert path.read_bytes() == before


def test_a_sync_that_fails_is_an_error_and_commits_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.escx"
    path.write_bytes(OLD_FILE)
    before = path.read_bytes()

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    writer = Writer(path, append=True)
    writer.add(NEW[0])
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        writer.close()
    assert path.read_bytes() == before
    with pytest.raises(OutputError, match="Input/output error"), Writer(tmp_path / "g.escx") as writer:
        writer.add(NEW[0])
    assert not (tmp_path / "g.escx").exists()
