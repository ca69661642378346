"""Many threads and processes on one reader, and two writers on one file."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from escort_codec import Exemplar, Reader, Writer
from escort_codec.container import reader as reader_module
from escort_codec.container.locked_file import partial_path
from escort_codec.errors import BusyError, EscortError, OutputError
from tests.container.apart import Memory, read_round
from tests.container.test_roundtrip import write
from tests.helpers import assert_whole, in_child, make_exemplars, read_all

STORED = make_exemplars(700)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("concurrent") / "f.escx", STORED)


@pytest.fixture
def _no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of one block: every change of block reads and evicts."""
    monkeypatch.setattr(reader_module, "CACHE_BYTES", 0)


def read_some(reader: Reader, seed: int, count: int = 120) -> None:
    """Reads by number, by name, by class and decodes, in an order that depends on ``seed``, and checks the result."""
    draw = random.Random(seed)
    for _ in range(count):
        i = draw.randrange(len(STORED))
        way = draw.randrange(4)
        if way == 0:
            assert reader.find(STORED[i].key) == i
        elif way == 1:
            assert reader[STORED[i].key] == STORED[i]
        else:
            assert reader[i] == STORED[i]
        if STORED[i].kind == "prompt":
            assert (reader[i].edges == STORED[i].edges).all()
    label = STORED[draw.randrange(len(STORED))].label
    assert [STORED[i].label == label for i in reader.of_label(label)] == [True] * reader.labels[label]


@contextmanager
def readers_at_work(reader: Reader, threads: int) -> Iterator[None]:
    """Threads that read until the body is done; raises their exceptions."""
    done = threading.Event()

    def work(seed: int) -> None:
        while not done.is_set():
            read_some(reader, seed, 10)

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, seed) for seed in range(threads)]
        try:
            yield
        finally:
            done.set()
    for future in futures:
        future.result()


@pytest.mark.parametrize("room", [True, False], ids=["all in the cache", "a cache of one block"])
def test_many_threads_read_one_reader(path: Path, room: bool, request: pytest.FixtureRequest) -> None:
    if not room:
        request.getfixturevalue("_no_room")
    with Reader(path) as reader, ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(read_some, reader, seed, 40) for seed in range(24)]:
            future.result()


@pytest.mark.usefixtures("_no_room")
def test_iterations_in_many_threads_each_see_all(path: Path) -> None:
    with Reader(path) as reader, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: list(reader) == STORED, range(16)))


@forks
@pytest.mark.usefixtures("_no_room")
def test_children_forked_while_threads_read_do_not_hang_and_read_right(path: Path) -> None:
    """A thread of the parent may hold the cache's lock, or have half changed the cache, when the child is made."""

    def child() -> None:
        with ThreadPoolExecutor(4) as pool:  # and threads in the child: they must agree on one lock
            for future in [pool.submit(read_some, reader, seed, 15) for seed in range(8)]:
                future.result()

    with Reader(path) as reader, readers_at_work(reader, 2):
        assert [in_child(child) for _ in range(4)] == [0] * 4


@forks
def test_a_child_forked_while_the_lock_is_held_reads_on(path: Path) -> None:
    with Reader(path) as reader:
        with reader._guard():
            assert in_child(lambda: read_some(reader, 1, 5)) == 0
        read_some(reader, 2, 5)


@forks
def test_a_forked_child_that_closes_its_reader_leaves_the_parents(path: Path) -> None:
    with Reader(path) as reader:
        assert in_child(reader.close) == 0
        assert list(reader) == STORED


def test_spawned_processes_read_a_pickled_reader(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    with Reader(path) as reader, ProcessPoolExecutor(2, mp_context=spawn) as pool:
        for future in [pool.submit(read_round, reader, i) for i in range(6)]:
            assert future.result() == [e.key for e in STORED]


def test_a_pickled_reader_sees_the_file_as_it_was_or_reports_that_it_is_gone(path: Path, tmp_path: Path) -> None:
    mine = tmp_path / "f.escx"
    mine.write_bytes(path.read_bytes())
    with Reader(mine) as reader:
        parcel = pickle.dumps(reader)
    append(mine, make_exemplars(3, start=5000))
    with pickle.loads(parcel) as again:
        assert list(again) == STORED
    write(mine, make_exemplars(720, start=3))
    with pytest.raises(EscortError, match="replaced"):
        pickle.loads(parcel)


# Newer Pythons warn where a process with threads forks; what is tested is that it does no harm.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
# torch warns on machines of fewer than 4 cores.
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes in total:UserWarning")
@pytest.mark.parametrize(
    ("workers", "start"),
    [(0, None), pytest.param(2, "fork", marks=forks), pytest.param(4, "fork", marks=forks), (1, "spawn")],
)
def test_a_reader_in_a_data_loader(path: Path, workers: int, start: str | None) -> None:
    """Two epochs, shuffled; the reader has been used before, so that the workers get a warm one.

    A spawned worker imports torch, which takes most of this test's time: macOS and Windows start no others.
    """
    from torch.utils.data import DataLoader, Dataset

    memory = Memory(Reader(path))
    _ = memory[3], memory[500]
    loader = DataLoader(
        cast(Dataset[tuple[int, bytes, Any]], memory),
        batch_size=50,
        shuffle=True,
        num_workers=workers,
        multiprocessing_context=start,
        collate_fn=list,
        persistent_workers=workers > 0,
        timeout=120 if workers else 0,
    )
    wanted = [(i, e.payload, e.edges.sum() if e.kind == "prompt" else -1) for i, e in enumerate(STORED)]
    for _ in range(2):
        assert sorted(itertools.chain.from_iterable(loader)) == wanted
    memory.reader.close()


def append(path: Path, exemplars: list[Exemplar]) -> None:
    with Writer(path, append=True) as writer:
        for exemplar in exemplars:
            writer.add(exemplar)


OLD, NEW, OTHER = make_exemplars(5), make_exemplars(6, start=20), make_exemplars(7, start=40)
MODES: dict[str, dict[str, Any]] = {
    "new": {},
    "resume": {"resume": True},
    "overwrite": {"overwrite": True},
    "append": {"append": True},
}
AFTER = {"new": NEW, "resume": NEW, "overwrite": NEW, "append": OLD + NEW}
PAIRS = [
    *itertools.product(["new", "resume"], repeat=2),
    *itertools.product(["overwrite", "append"], repeat=2),
]
"""Modes of the first and the second writer: on a new path and on an existing file."""


def here(work: Callable[[], None]) -> None:
    work()


def elsewhere(work: Callable[[], None]) -> None:
    assert in_child(work) == 0


@pytest.mark.parametrize("where", [here, pytest.param(elsewhere, marks=forks)])
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_second_writer_gets_an_error_and_the_first_one_finishes(
    tmp_path: Path, first: str, second: str, where: Callable[[Callable[[], None]], None]
) -> None:
    mine = tmp_path / "f.escx"
    if first in ("overwrite", "append"):
        write(mine, OLD)

    def be_second() -> None:
        before = writer.partial.read_bytes()
        with pytest.raises(BusyError, match=r"f\.escx"):
            Writer(mine, **MODES[second])
        assert writer.partial.read_bytes() == before

    with Writer(mine, **MODES[first]) as writer:
        where(be_second)  # with nothing written, with some, and after a commit
        for exemplar in NEW[:3]:
            writer.add(exemplar)
        writer.commit()
        where(be_second)
        for exemplar in NEW[3:]:
            writer.add(exemplar)
        where(be_second)
    assert read_all(mine) == AFTER[first]
    assert_whole(mine)
    append(mine, OTHER)  # the lock is gone
    assert read_all(mine) == AFTER[first] + OTHER
    assert [p.name for p in tmp_path.iterdir()] == ["f.escx"]


@pytest.mark.parametrize("end", ["abort", "forget"])
def test_a_writer_that_gave_up_leaves_no_lock(tmp_path: Path, end: str) -> None:
    mine = write(tmp_path / "f.escx", OLD)
    for mode in ("append", "overwrite"):
        writer = Writer(mine, **MODES[mode])
        writer.add(NEW[0])
        if end == "abort":
            writer.abort()
        del writer
        append(mine, [])
        assert read_all(mine) == OLD


@forks
def test_a_killed_writer_loses_its_lock_although_its_child_lives_on(tmp_path: Path) -> None:
    mine = write(tmp_path / "f.escx", OLD)
    reached, leave = os.pipe(), os.pipe()

    def die() -> None:
        writer = Writer(mine, append=True)
        writer.close()  # gives the lock back by itself: the child's copy of the descriptor would hold it
        writer = Writer(mine, append=True)
        if os.fork() == 0:
            os.close(leave[1])
            os.read(leave[0], 1)
            os._exit(0)
        writer.close()
        os.write(reached[1], b"x")

    assert in_child(die) == 0
    os.read(reached[0], 1)
    append(mine, NEW)
    os.close(leave[1])
    assert read_all(mine) == OLD + NEW
    for fd in (*reached, leave[0]):
        os.close(fd)


@forks
def test_a_forked_child_cannot_write_with_its_parents_writer(tmp_path: Path) -> None:
    mine = write(tmp_path / "f.escx", OLD)

    def child() -> None:
        writer.add(OTHER[0])  # only remembered: the block is not full
        with pytest.raises(OutputError, match="forked"):
            writer.commit()
        writer.abort()  # neither cuts the file nor unlocks it
        with pytest.raises(BusyError):
            Writer(mine, append=True)

    with Writer(mine, append=True) as writer:
        for exemplar in NEW:
            assert in_child(child) == 0
            writer.add(exemplar)
    assert read_all(mine) == OLD + NEW
    assert_whole(mine)


def _append_one_by_one(path: Path, start: int) -> None:
    """Runs in many processes at once: six appends, each tried until it succeeds."""
    for exemplar in make_exemplars(6, start=start):
        while True:
            try:
                append(path, [exemplar])
                break
            except BusyError:
                time.sleep(0.001)


@forks
def test_processes_that_append_to_one_file_lose_nothing(tmp_path: Path) -> None:
    mine = write(tmp_path / "f.escx", OLD)
    work = [partial(_append_one_by_one, mine, start) for start in (100, 200, 300)]

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(in_child, work)) == [0] * 3
    found = read_all(mine)
    assert found[: len(OLD)] == OLD
    added = [e for start in (100, 200, 300) for e in make_exemplars(6, start=start)]
    assert sorted(found[len(OLD) :], key=lambda e: e.name) == added
    assert_whole(mine)


@forks
@pytest.mark.parametrize("mode", ["new", "overwrite"])
def test_of_processes_that_write_one_file_each_gets_an_error_or_writes_it_whole(tmp_path: Path, mode: str) -> None:
    """Ten races of four processes: every file is that of one of them, and whole."""
    contents = [make_exemplars(30, start=1000 * i) for i in range(4)]
    for race in range(10):
        mine = tmp_path / f"{race}.escx"
        gate = os.pipe()

        def run(i: int, mine: Path = mine, gate: tuple[int, int] = gate) -> None:
            os.read(gate[0], 1)
            try:
                with Writer(mine, **MODES[mode]) as writer:
                    for exemplar in contents[i]:
                        writer.add(exemplar)
            except BusyError:
                os._exit(10)
            except OutputError as exc:
                os._exit(11 if mode == "new" and ("exists" in str(exc) or "another process" in str(exc)) else 12)

        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(in_child, partial(run, i)) for i in range(4)]
            os.write(gate[1], bytes(4))
            codes = [future.result() for future in futures]
        for fd in gate:
            os.close(fd)
        assert set(codes) <= {0, 10, 11}
        assert codes.count(0) >= 1
        if mode == "new":
            assert codes.count(0) == 1
        winners = [content for code, content in zip(codes, contents, strict=True) if code == 0]
        assert read_all(mine) in winners
        assert not partial_path(mine).exists()


def test_threads_that_write_files_of_their_own_do_not_mix(tmp_path: Path) -> None:
    def work(i: int) -> None:
        mine = write(tmp_path / f"{i}.escx", make_exemplars(40, start=100 * i))
        append(mine, make_exemplars(40, start=100 * i + 50))
        assert read_all(mine) == make_exemplars(40, start=100 * i) + make_exemplars(40, start=100 * i + 50)
        assert_whole(mine)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
