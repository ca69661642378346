"""Damage: every truncation, every flipped bit, bursts, holes and insertions give our error or the stored exemplars."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from escort_codec import Exemplar, Reader, Writer, pack
from escort_codec.container import assembler
from escort_codec.container.file import LOST_RECIPE
from escort_codec.container.layout import PREAMBLE, TAIL_SIZE
from escort_codec.container.locked_file import partial_path
from escort_codec.container.parts import recover
from escort_codec.container.verify import verify
from escort_codec.errors import DamagedError, FormatError, IncompleteError, NotEscxError, OutputError, UsageError
from tests.container.reference_reader import chunks
from tests.helpers import assert_whole, make_exemplars, quick_folder, read_all

VECTORS = [
    path
    for path in sorted((Path(__file__).parents[2] / "spec" / "vectors").glob("*.escx"))
    if path.stem != "unknown" and path.stat().st_size < 8192
]
SMALL_VECTORS = [p for p in VECTORS if p.stat().st_size < 1500]
MINOR = (10, 11)  # the bytes of the minor version, which no checksum covers
SMALL = make_exemplars(2, start=2, labels=2, real_bytes=5)  # a prompt and a real one


def small_file(path: Path, *, appended: bool) -> bytes:
    """A file of ``SMALL`` in one commit or in two."""
    path.write_bytes(pack(SMALL[:1] if appended else SMALL))
    if appended:
        with Writer(path, append=True) as writer:
            for exemplar in SMALL[1:]:
                writer.add(exemplar)
    return path.read_bytes()


def read_damaged(path: Path) -> list[Exemplar] | FormatError:
    """All exemplars, or the first error; any other exception is a defect."""
    try:
        with Reader(path) as reader:
            found = [reader[i] for i in range(len(reader))]
            for exemplar in found:
                if exemplar.kind == "prompt":
                    _ = exemplar.edges
            return found
    except FormatError as exc:
        return exc


def check_damaged(path: Path, stored: list[Exemplar], *, only_minor: bool = False) -> bool:
    """Reads and verifies; whether reading noticed the damage. Verifying always does, but for the minor version."""
    found = read_damaged(path)
    verdict = verify(path)
    assert verdict.fault is not None or only_minor
    assert verdict.fault is not None or bool(verdict.note) == (path.read_bytes()[10:12] != b"\0\0")
    if isinstance(found, FormatError):
        assert found.offset >= 0
        # No chunk has a name in the first 12 bytes, and where it is the name itself that is wrong.
        assert found.chunk or found.offset < len(PREAMBLE) or "no chunk begins here" in str(found)
        assert str(found).startswith(f"{path}: ")
        assert "\n" not in str(found)
        return True
    assert found == stored
    return False


def check_recovery(path: Path, stored: list[Exemplar]) -> list[Exemplar]:
    """Recovers a file: the result is a part of the stored exemplars, in order, and BAD stays unchanged."""
    bad, good = path.read_bytes(), path.with_name("good.escx")
    good.unlink(missing_ok=True)
    try:
        recovery = recover(path, good)
    except FormatError:
        saved = []
        assert not good.exists()
    else:
        saved = read_all(good)
        assert recovery.saved == len(saved) == assert_whole(good)
        assert len(saved) == len(stored) or recovery.lost
    assert path.read_bytes() == bad
    assert not partial_path(good).exists()
    numbers = {e.key: i for i, e in enumerate(stored)}
    places = [numbers[e.key] for e in saved]
    assert places == sorted(set(places))
    for exemplar in saved:
        original = stored[numbers[exemplar.key]]
        assert exemplar == original or exemplar.recipe == LOST_RECIPE
    return saved


@pytest.mark.parametrize("appended", [False, True])
def test_every_truncation_of_a_small_file_is_noticed_and_whole_blocks_are_saved(appended: bool) -> None:
    with quick_folder() as folder:
        path = folder / "f.escx"
        data = small_file(path, appended=appended)
        commits = {at + TAIL_SIZE for at, kind, _ in chunks(data) if kind == "TAIL"}
        ends = [at + 12 + len(p) for at, kind, p in chunks(data) if kind == "BLCK"]
        for length in range(len(data)):
            path.write_bytes(data[:length])
            if length in commits:  # what it was before the append
                assert read_damaged(path) == SMALL[:1]
                assert_whole(path)
                continue
            assert check_damaged(path, SMALL)
            assert isinstance(read_damaged(path), IncompleteError if length else NotEscxError)
            if length % 5 == 0 or length in ends:
                whole = sum(end <= length for end in ends)
                assert len(check_recovery(path, SMALL)) == whole * 2 // len(ends)


@pytest.mark.parametrize("appended", [False, True])
def test_every_flipped_bit_of_a_small_file_is_noticed_or_changes_nothing(appended: bool) -> None:
    with quick_folder() as folder:
        path = folder / "f.escx"
        data = small_file(path, appended=appended)
        unnoticed = []
        for bit in range(8 * len(data)):
            broken = bytearray(data)
            broken[bit // 8] ^= 1 << bit % 8
            path.write_bytes(broken)
            if not check_damaged(path, SMALL, only_minor=bit // 8 in MINOR):
                unnoticed.append(bit // 8)
            if bit % 40 == bit // 8 % 8:  # every fifth byte, another bit each time
                saved = check_recovery(path, SMALL)
                assert len(saved) >= appended or bit // 8 < 10
        # Reading uses neither the minor version nor an index and a trailer that another commit has replaced.
        dead = {at + i for at, kind, p in chunks(data)[:-2] if kind in ("INDX", "TAIL") for i in range(12 + len(p))}
        assert set(unnoticed) <= dead | set(MINOR)
        assert len(dead) > 0 or not appended


@pytest.mark.parametrize("path", SMALL_VECTORS, ids=lambda p: p.stem)
def test_every_flipped_bit_of_the_small_golden_files(path: Path) -> None:
    """Slow, but other programs write and read exactly these bytes."""
    data, stored = path.read_bytes(), read_all(path)
    with quick_folder() as folder:
        copy = folder / "f.escx"
        for bit in range(8 * len(data)):
            broken = bytearray(data)
            broken[bit // 8] ^= 1 << bit % 8
            copy.write_bytes(broken)
            check_damaged(copy, stored, only_minor=bit // 8 in MINOR)


@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_every_truncation_of_the_golden_files(path: Path) -> None:
    data, stored = path.read_bytes(), read_all(path)
    commits = {at + TAIL_SIZE for at, kind, _ in chunks(data) if kind == "TAIL"}
    with quick_folder() as folder:
        copy = folder / "f.escx"
        for length in range(len(data)):
            copy.write_bytes(data[:length])
            if length in commits:  # what it was before the append
                found = read_damaged(copy)
                assert isinstance(found, list)
                assert found == stored[: len(found)]
                assert assert_whole(copy) < len(stored)
            else:
                assert check_damaged(copy, stored)


@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_bursts_and_holes_in_the_golden_files(path: Path) -> None:
    data, stored = path.read_bytes(), read_all(path)
    draw = random.Random(path.stem)
    with quick_folder() as folder:
        copy = folder / "f.escx"
        for _ in range(25):
            what, broken = _damage(data, draw)
            if broken == data:
                continue
            copy.write_bytes(broken)
            check_damaged(copy, stored)
            try:
                recover(copy, folder / "good.escx", overwrite=True)
            except FormatError:
                continue
            for exemplar in read_all(folder / "good.escx"):  # some have no name, so that a copied block counts twice
                assert exemplar in stored or exemplar.recipe == LOST_RECIPE, what
            assert copy.read_bytes() == broken


def _damage(data: bytes, draw: random.Random) -> tuple[str, bytes]:
    """A file with one to three larger faults, and a list of them."""
    broken, what = bytearray(data), []
    for _ in range(draw.randint(1, 3)):
        kind = draw.choice(["burst", "zeros", "hole", "insertion", "copy", "swap"])
        at, length = draw.randrange(len(broken)), min(draw.choice([1, 4, 30, 500, 5000]), len(broken))
        what.append(f"{kind} of {length} at {at}")
        if kind == "burst":
            broken[at : at + length] = draw.randbytes(len(broken[at : at + length]))
        elif kind == "zeros":
            broken[at : at + length] = bytes(len(broken[at : at + length]))
        elif kind == "hole":
            del broken[at : at + length]
        elif kind == "insertion":
            broken[at:at] = draw.randbytes(length)
        else:
            other = draw.randrange(len(broken))
            part = broken[other : other + length]
            if kind == "copy":
                broken[at:at] = part
            else:
                broken[at : at + len(part)] = part
    return ", ".join(what), bytes(broken)


def test_bursts_holes_and_insertions_in_larger_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block that is still in its place, or anywhere if bytes were added or removed, is recovered."""
    monkeypatch.setattr(assembler, "BLOCK_EXEMPLARS", 16)
    stored = make_exemplars(150, real_bytes=300)
    draw = random.Random(7)
    with quick_folder() as folder:
        path = folder / "f.escx"
        path.write_bytes(pack(stored[:90]))
        with Writer(path, append=True) as writer:
            for exemplar in stored[90:]:
                writer.add(exemplar)
        data = path.read_bytes()
        with Reader(path) as reader:
            starts = reader.state.index.starts
        blocks = [data[at : at + 12 + len(p)] for at, kind, p in chunks(data) if kind == "BLCK"]
        for _ in range(70):
            what, broken = _damage(data, draw)
            path.write_bytes(broken)
            if broken == data:
                continue
            check_damaged(path, stored)
            saved = {e.key for e in _recover_shuffled(path, stored)}
            if not broken.startswith(PREAMBLE):
                continue
            for number, block in enumerate(blocks):
                if broken.find(block) == data.find(block) or (len(broken) != len(data) and block in broken):
                    keys = {e.key for e in stored[starts[number] : starts[number + 1]]}
                    assert keys <= saved, what


def _recover_shuffled(path: Path, stored: list[Exemplar]) -> list[Exemplar]:
    """``check_recovery`` for damage that may have copied or moved whole blocks."""
    bad, good = path.read_bytes(), path.with_name("good.escx")
    try:
        recovery = recover(path, good, overwrite=True)
    except FormatError:
        return []
    assert path.read_bytes() == bad
    saved = read_all(good)
    assert recovery.saved == assert_whole(good)
    originals = {e.key: e for e in stored}
    assert len({e.key for e in saved}) == len(saved)
    for exemplar in saved:
        assert exemplar == originals[exemplar.key] or exemplar.recipe == LOST_RECIPE
    assert len(saved) == len(stored) or recovery.lost
    return saved


def test_losses_are_named_if_the_index_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembler, "BLOCK_EXEMPLARS", 10)
    stored = make_exemplars(30)
    path, good = tmp_path / "f.escx", tmp_path / "good.escx"
    data = bytearray(pack(stored, source="DATA"))
    at = [at for at, kind, _ in chunks(bytes(data)) if kind == "BLCK"][1]
    data[at + 100] ^= 1
    path.write_bytes(data)
    recovery = recover(path, good)
    assert (recovery.saved, read_all(good)) == (20, [*stored[:10], *stored[20:]])
    (line,) = recovery.lost
    assert f"bytes {at} to " in line
    assert "lost: 10 exemplars, class-1/sub/image-000010.jpg to class-1/sub/image-000019.jpg" in line
    with Reader(path, recover=True) as reader:
        assert list(reader) == [*stored[:10], *stored[20:]]
        assert reader.source == "DATA"
        assert [loss.start for loss in reader.losses] == [at]
        assert reader["class-2/sub/image-000025.jpg"] == stored[25]
    with Reader(path) as reader:  # what is whole is there without recovering, too
        assert reader[0] == stored[0]
        with pytest.raises(DamagedError, match="checksum") as caught:
            _ = reader[10]
        assert (caught.value.chunk, caught.value.offset) == ("BLCK", at)


@pytest.mark.must("M52")
def test_a_lost_recipe_loses_no_exemplar(tmp_path: Path) -> None:
    stored = make_exemplars(3)
    data = bytearray(pack(stored))
    at = next(at for at, kind, _ in chunks(bytes(data)) if kind == "RECP")
    for index_too in (False, True):
        data[at + 9] ^= 1
        if index_too:
            data[-1] ^= 1
        path, good = tmp_path / "f.escx", tmp_path / "good.escx"
        path.write_bytes(data)
        recovery = recover(path, good, overwrite=True)
        saved = read_all(good)
        assert [e.payload for e in saved] == [e.payload for e in stored]
        assert {e.recipe for e in saved} == {LOST_RECIPE}
        assert any("RECP" in line for line in recovery.lost)
        data[at + 9] ^= 1


def test_two_concatenated_files_are_not_taken_for_one(tmp_path: Path) -> None:
    one, two = make_exemplars(3), make_exemplars(3, start=50)
    path = tmp_path / "f.escx"
    path.write_bytes(pack(one) + pack(two))
    assert isinstance(read_damaged(path), DamagedError)
    recovery = recover(path, tmp_path / "good.escx")
    assert read_all(tmp_path / "good.escx") == one
    assert any("another file begins here" in line for line in recovery.lost)


def test_recovering_the_partial_file_of_a_killed_encoder_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``escort recover OUT.escx.partial OUT.escx``: GOOD would be written exactly where BAD is."""
    stored = make_exemplars(300)
    good, bad = tmp_path / "out.escx", tmp_path / "out.escx.partial"
    data = pack(stored)[:-500]
    bad.write_bytes(data)
    recover(bad, good)
    assert bad.read_bytes() == data
    saved = read_all(good)
    assert saved == stored[: len(saved)]
    assert len(saved) == 61  # the block before the second recipe
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.escx", "out.escx.partial"]
    kept = tmp_path / "out.escx.recovered"  # somebody's own, of the name that we would have taken
    kept.write_bytes(b"mine")
    recover(bad, good, overwrite=True)
    assert (kept.read_bytes(), read_all(good), bad.read_bytes()) == (b"mine", saved, data)
    assert len(list(tmp_path.iterdir())) == 3

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputError, match=r"out.escx.recovered1 \(what was saved\) .*: Permission denied"):
        recover(bad, good, overwrite=True)
    assert read_all(tmp_path / "out.escx.recovered1") == saved


def test_places_where_a_recovered_file_is_refused(tmp_path: Path) -> None:
    path, link, hard = tmp_path / "f.escx", tmp_path / "link.escx", tmp_path / "hard.escx"
    path.write_bytes(pack(make_exemplars(3)))
    before = path.read_bytes()
    link.symlink_to(path)
    os.link(path, hard)
    for good in (path, link, hard):
        with pytest.raises(UsageError, match="is also the input"):
            recover(path, good, overwrite=True)
    with pytest.raises(OutputError, match="exists already"):
        recover(path, _other(tmp_path))
    with pytest.raises(OutputError, match="no such folder"):
        recover(path, tmp_path / "none" / "good.escx")
    assert path.read_bytes() == before
    assert recover(path, _other(tmp_path), overwrite=True).saved == 3


def _other(folder: Path) -> Path:
    (folder / "other.escx").write_bytes(b"something else")
    return folder / "other.escx"


def test_recovering_a_file_without_a_whole_block(tmp_path: Path) -> None:
    path = tmp_path / "f.escx"
    for data in (PREAMBLE, PREAMBLE + bytes(500), pack(make_exemplars(3))[:150], pack([])):
        path.write_bytes(data)
        with pytest.raises(FormatError, match="no whole block"):
            recover(path, tmp_path / "good.escx")
    path.write_bytes(b"no escx")
    with pytest.raises(NotEscxError):
        recover(path, tmp_path / "good.escx")
    assert [p.name for p in tmp_path.iterdir()] == ["f.escx"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.replace(b"\r\n", b"\n"), "transferred as text"),
        (lambda d: d.replace(b"\n", b"\r\n"), "transferred as text"),
        (lambda d: bytes(b & 127 for b in d), "7-bit text"),
        (lambda d: d[:8] + b"\x02" + d[9:], r"version 2\.0 needs a newer escort"),
        (lambda d: b"", "not an .escx file"),
        (lambda d: b"\x89PNG\r\n\x1a\n", "not an .escx file"),
    ],
)
def test_damage_by_transfer_is_recognised(tmp_path: Path, change: object, says: str) -> None:
    path = tmp_path / "f.escx"
    assert callable(change)
    path.write_bytes(change(pack(make_exemplars(3))))
    for recovering in (False, True):
        with pytest.raises(FormatError, match=says):
            Reader(path, recover=recovering)
