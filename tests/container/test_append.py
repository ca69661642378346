"""Appending: old bytes stay, new exemplars follow, and the torn end of a killed writer is cut off."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escort_codec import Exemplar, Reader, Recipe, Writer, pack
from escort_codec.container import assembler
from escort_codec.container.layout import PREAMBLE, TAIL_SIZE, make_chunk
from escort_codec.errors import DamagedError, EscortError, IncompleteError, LimitError, OutputError
from tests.container.reference_reader import chunks
from tests.container.strategies import contents
from tests.container.test_roundtrip import assert_holds, write
from tests.helpers import assert_whole, draw_edges, make_exemplars, quick_folder, read_all


def append(path: Path, exemplars: list[Exemplar]) -> None:
    with Writer(path, append=True) as writer:
        for exemplar in exemplars:
            writer.add(exemplar)


@settings(max_examples=25, deadline=None)
@given(stored=contents, cuts=st.lists(st.integers(0, 12), max_size=4).map(sorted), block=st.sampled_from([1, 3, 256]))
def test_batches_appended_are_read_in_order_and_old_bytes_are_never_touched(
    stored: list[Exemplar], cuts: list[int], block: int
) -> None:
    with quick_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembler, "BLOCK_EXEMPLARS", block)
        bounds = [0, *cuts, len(stored)]
        path = write(folder / "f.escx", stored[: bounds[1]])
        for first, last in itertools.pairwise(bounds[1:]):
            before = path.read_bytes()
            append(path, stored[first:last])
            after = path.read_bytes()
            assert after.startswith(before)
            assert (after == before) == (not stored[first:last])
            assert_holds(path, stored[: max(last, bounds[1])])
            assert_whole(path)


def test_appending_gives_the_same_bytes_each_time(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        path = write(tmp_path / name, make_exemplars(300))
        append(path, make_exemplars(300, start=300))
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_existing_recipes_are_reused(tmp_path: Path) -> None:
    path = write(tmp_path / "f.escx", make_exemplars(4))
    new = Exemplar.from_edges(draw_edges(5, 5), label="x", name="n", recipe=Recipe(steps=3))
    append(path, make_exemplars(4, start=4))
    append(path, [new])
    with Reader(path) as reader:
        assert list(reader.recipes) == [Recipe(), Recipe(steps=3)]
        assert reader["x/n"].recipe == Recipe(steps=3)
    assert_whole(path)


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "f.escx", make_exemplars(4))
    with Writer(path, append=True) as writer, pytest.raises(LimitError, match="already"):
        writer.add(make_exemplars(4)[2])
    assert read_all(path) == make_exemplars(4)


def test_after_an_exception_only_what_is_committed_stays(tmp_path: Path) -> None:
    path = write(tmp_path / "f.escx", make_exemplars(4))
    original = path.read_bytes()
    writer = Writer(path, append=True)
    for exemplar in make_exemplars(600, start=4, real_bytes=3000):  # more than one block, so that bytes were written
        writer.add(exemplar)
    assert path.stat().st_size > len(original)
    writer.abort()
    assert path.read_bytes() == original
    writer = Writer(path, append=True)
    writer.add(make_exemplars(1, start=4)[0])
    writer.commit()
    committed = path.read_bytes()
    assert_whole(path)
    for exemplar in make_exemplars(600, start=5, real_bytes=3000):
        writer.add(exemplar)
    writer.abort()
    assert path.read_bytes() == committed
    assert len(read_all(path)) == 5


def test_a_reader_sees_the_file_as_it_was_when_it_was_opened(tmp_path: Path) -> None:
    path = write(tmp_path / "f.escx", make_exemplars(300))
    with Reader(path) as reader:
        append(path, make_exemplars(300, start=300))
        assert list(reader) == make_exemplars(300)
        assert (len(reader), reader.labels["class-0"]) == (300, 100)
    assert len(read_all(path)) == 600


def _three_commits(path: Path, each: int = 10) -> tuple[bytes, list[Exemplar], list[int]]:
    """A file of three commits, its exemplars, and the ends of the commits."""
    stored = make_exemplars(3 * each, real_bytes=10)
    write(path, stored[:each])
    ends = [path.stat().st_size]
    for first in (each, 2 * each):
        append(path, stored[first : first + each])
        ends.append(path.stat().st_size)
    return path.read_bytes(), stored, ends


def test_every_torn_end_is_cut_off_and_every_commit_before_it_stays(tmp_path: Path) -> None:
    """An appending writer that was killed after any byte: the next append works, and loses nothing else."""
    with quick_folder() as folder:
        path = folder / "f.escx"
        data, stored, ends = _three_commits(path, 2)
        block_end = next(at + 12 + len(p) for at, kind, p in chunks(data) if kind == "BLCK" and at >= ends[1])
        extra = make_exemplars(2, start=50)
        for cut in (*range(ends[1], ends[2], 3), ends[2] - 29, ends[2] - 28, ends[2] - 1):
            path.write_bytes(data[:cut])
            if cut > ends[1]:
                with pytest.raises(IncompleteError):
                    Reader(path)
            kept = stored if cut >= block_end else stored[:4]
            assert read_all(path, recover=True) == kept
            append(path, extra)
            assert path.read_bytes().startswith(data[: ends[1]])
            assert read_all(path) == kept + extra
            if cut % 20 == 0:
                assert_whole(path)


@pytest.mark.parametrize("junk", [b"BL", b"\0" * 5, b"\0" * 5000, b"BLCK\x00\x10\x00\x00half", b"TAIL\x10\0\0\0"])
def test_what_a_kill_or_a_power_cut_leaves_is_cut_off(tmp_path: Path, junk: bytes) -> None:
    path = write(tmp_path / "f.escx", make_exemplars(5))
    data = path.read_bytes()
    path.write_bytes(data + junk)
    Writer(path, append=True).close()
    after = path.read_bytes()
    assert after.startswith(data)
    assert read_all(path) == make_exemplars(5)
    assert_whole(path)


def test_opening_a_torn_file_repairs_it_even_if_nothing_is_added(tmp_path: Path) -> None:
    path = tmp_path / "f.escx"
    data, stored, ends = _three_commits(path)
    path.write_bytes(data[: ends[2] - 5])
    Writer(path, append=True).abort()
    assert read_all(path) == stored
    assert_whole(path)


def test_a_damaged_file_is_not_appended_to_and_stays_as_it_is(tmp_path: Path) -> None:
    """Each byte before the last index flipped: no torn end, so nothing is cut and nothing is written."""
    path = tmp_path / "f.escx"
    data, stored, _ = _three_commits(path)
    index = max(at for at, kind, _ in chunks(data) if kind == "INDX")
    refused = 0
    for at in range(len(PREAMBLE), index, 7):
        broken = bytearray(data)
        broken[at] ^= 0x10
        path.write_bytes(broken)
        try:
            Writer(path, append=True).close()
        except DamagedError as exc:
            refused += 1
            said = str(exc)
            assert path.read_bytes() == broken
        else:  # an old index or trailer, which means nothing any more
            assert read_all(path) == stored
    assert said.startswith(f"{path}: cannot be appended to: ")
    assert refused > (index - len(PREAMBLE)) // 7 * 0.6


@pytest.mark.parametrize("junk", [b"no chunk, but text", b"\0" * 4000 + b"x", make_chunk(b"BLCK", b"")[:-1] + b"!"])
def test_damage_that_no_writer_leaves_is_not_cut_off(tmp_path: Path, junk: bytes) -> None:
    path = write(tmp_path / "f.escx", make_exemplars(5))
    path.write_bytes(path.read_bytes() + junk)
    before = path.read_bytes()
    if junk.endswith(b"!"):
        path.write_bytes(before + b"and more")
        before = path.read_bytes()
    with pytest.raises(DamagedError, match="cannot be appended to"):
        Writer(path, append=True)
    assert path.read_bytes() == before


def test_a_file_cut_off_in_its_first_part_is_not_appended_to(tmp_path: Path) -> None:
    """A file in its place was whole once: without one trailer it was cut off, and a writer must not hide that."""
    path = write(tmp_path / "f.escx", make_exemplars(600))
    data = path.read_bytes()
    for cut in (*range(12, 300, 13), len(data) // 2, len(data) - TAIL_SIZE, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(DamagedError, match="cannot be appended to"):
            Writer(path, append=True)
        assert path.read_bytes() == data[:cut]


@pytest.mark.parametrize("data", [b"", b"\x89ESX", b"hello world, no escx", bytes(100)])
def test_other_files_are_not_appended_to(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "f.escx"
    path.write_bytes(data)
    with pytest.raises(EscortError):
        Writer(path, append=True)
    assert path.read_bytes() == data


def test_appending_to_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such file"):
        Writer(tmp_path / "f.escx", append=True)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_ancillary_chunk_is_skipped_and_kept(tmp_path: Path) -> None:
    first = pack(make_exemplars(3), source="DATA")
    head_end = chunks(first)[1][0]
    note = make_chunk(b"noTe", b"something a later version writes")
    # A file of a later minor version: the note stands before the recipe, so all offsets move.
    path = tmp_path / "f.escx"
    path.write_bytes(PREAMBLE[:10] + b"\x07\x00" + first[12:head_end] + note + first[head_end:-TAIL_SIZE])
    with Reader(path, recover=True) as reader:
        assert list(reader) == make_exemplars(3)
        assert reader.source == "DATA"


def test_shuffled_batches_of_a_class_are_still_found_by_name(tmp_path: Path) -> None:
    stored = make_exemplars(60)
    order = np.random.default_rng(5).permutation(60).tolist()
    path = write(tmp_path / "f.escx", [])
    for k in range(0, 60, 10):
        append(path, [stored[i] for i in order[k : k + 10]])
    assert_holds(path, [stored[i] for i in order])
