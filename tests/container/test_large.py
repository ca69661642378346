"""A million exemplars in one file, and files beyond 4 GiB: 64-bit offsets, and no needless reads."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import BinaryIO

import pytest
import zstandard

from escort_codec import Exemplar, Reader, Writer, pack
from escort_codec.container.assembler import Assembler
from escort_codec.container.block import encode_block, read_rows
from escort_codec.container.file import ChunkFile
from escort_codec.container.layout import BLOCK, FRAME, TAIL_SIZE, ChunkHead, make_chunk
from escort_codec.container.measure import table_without_texts
from escort_codec.container.parts import recover
from escort_codec.errors import IncompleteError
from escort_codec.limits import MAX_CHUNK, MAX_HINT, MAX_INDEX, MAX_TABLE
from tests.container import reference_reader
from tests.fuzz.targets import block_of
from tests.helpers import HINTS, draw_edges, make_exemplars, quick_folder, read_all

ROWS, BLOCKS_OF_CLASS, CLASSES = 250, 4, 1000
OF_CLASS = ROWS * BLOCKS_OF_CLASS
TOTAL = OF_CLASS * CLASSES


def exemplar_of(number: int) -> Exemplar:
    """Exemplar ``number`` of the large file."""
    label, image = divmod(number, OF_CLASS)
    edges = draw_edges(12, 12, image % ROWS)
    return Exemplar.from_edges(edges, label=f"class-{label:03}", name=f"{image:07}.jpg", seeds=(0, 1), coding="packed")


@pytest.fixture(scope="session")
def million(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A million prompts of 12 x 12 pixels in 1000 classes, 20 MB, sorted as ``escort encode`` sorts them.

    A writer would take minutes. Every block is the first one's bytes with other names in its table; the table is
    compressed at a lower level; the rest is the writer's own work.
    """
    path = tmp_path_factory.mktemp("large") / "million.escx"
    rows = [exemplar_of(i) for i in range(ROWS)]
    payload = encode_block(rows, [0] * ROWS)
    (length,) = struct.unpack("<I", payload[:4])
    table, bits = zstandard.decompress(payload[8 : 8 + length]), payload[16 + length :]

    def texts(values: list[str]) -> bytes:
        return b"".join(bytes([0xA0 | len(v)]) + v.encode() for v in values)

    start, *middle = table.split(texts(["class-000"]))
    before, after = b"".join(middle).split(texts([e.name for e in rows]))
    names = [[f"{b * ROWS + i:07}.jpg" for i in range(ROWS)] for b in range(BLOCKS_OF_CLASS)]
    packed_names = [texts(n) for n in names]
    compressor = zstandard.ZstdCompressor(level=1)
    with path.open("wb") as file:
        assembler = Assembler(file.write)  # type: ignore[arg-type]
        assembler.begin("DATA")
        assembler._recipe(rows[0])
        for label in (f"class-{k:03}" for k in range(CLASSES)):
            for b in range(BLOCKS_OF_CLASS):
                packed = compressor.compress(start + texts([label]) + before + packed_names[b] + after)
                payload = block_of(packed, b"", bits)
                head = ChunkHead(BLOCK, assembler.offset, len(payload))
                assembler._write(make_chunk(BLOCK, payload))
                assembler.index.add_block(read_rows(payload, head, None), head.offset, head.length)
        assembler.finish()
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(offset, length) of every positioned read from now on."""
    seen: list[tuple[int, int]] = []
    read_once = ChunkFile._read_once

    def noting(self: ChunkFile, offset: int, length: int) -> bytes:
        seen.append((offset, length))
        return read_once(self, offset, length)

    monkeypatch.setattr(ChunkFile, "_read_once", noting)
    return seen


MEASURE = """
import json, sys, time

def kilobytes(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))

from escort_codec import Reader
from escort_codec.exemplar import Exemplar
before = kilobytes("VmRSS")
times = []
for _ in range(7):
    start = time.perf_counter()
    reader = Reader(sys.argv[1])
    times.append(time.perf_counter() - start)
    opened = kilobytes("VmHWM")
    if len(times) < 7:
        reader.close()
for i in range(0, len(reader), 4999):
    reader[i].edges
reader["class-777/0000777.jpg"]
print(json.dumps({"open": min(times), "before": before, "opened": opened, "read": kilobytes("VmHWM")}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured by Linux's /proc")
def test_a_million_exemplars_open_in_a_fifth_of_a_second_and_in_a_hundred_megabytes(million: Path) -> None:
    """Measured in a process of its own: the time of ``Reader(path)``, the least of seven, imports not counted; the
    peak resident memory of the whole process, interpreter and libraries counted, after opening; and what it grows
    by until 200 exemplars all over the file have been read, decoded, and one found by name."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(million)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    figures = json.loads(run.stdout)
    assert figures["open"] < 0.2, figures
    assert figures["opened"] * 1024 < 100e6, figures
    assert (figures["read"] - figures["before"]) * 1024 < 100e6, figures


def test_opening_a_million_reads_the_index_and_nothing_else(million: Path, reads: list[tuple[int, int]]) -> None:
    with Reader(million) as reader:
        assert (len(reader), len(reader.labels)) == (TOTAL, CLASSES)
        assert set(reader.labels.values()) == {OF_CLASS}
        index = reader.state.index_offset
        outside = sum(length for offset, length in reads if offset < index)
        assert outside < 1000
        assert len(reads) <= 10


def test_any_of_a_million_is_one_positioned_read(million: Path, reads: list[tuple[int, int]]) -> None:
    draw = random.Random(4)
    numbers = [0, ROWS - 1, ROWS, TOTAL - 1, *draw.sample(range(TOTAL), 100)]
    with Reader(million) as reader:
        for number in numbers:
            reads.clear()
            assert reader[number] == exemplar_of(number)
            block = number // ROWS
            whole = (reader.state.index.offsets[block], reader.state.index.lengths[block] + FRAME)
            assert reads in ([whole], [])  # or it was in the cache


def test_a_name_among_a_million_is_found_by_reading_one_block(million: Path, reads: list[tuple[int, int]]) -> None:
    with Reader(million) as reader:
        for number in random.Random(5).sample(range(TOTAL), 30):
            reads.clear()
            wanted = exemplar_of(number)
            assert reader.find(wanted.key) == number
            assert len(reads) <= 1  # the table
            assert reader[wanted.key] == wanted
            assert len(reads) <= 2
        reads.clear()
        for missing in ("class-500/0000007.png", "class-500/x", "class-5000/0000001.jpg", "", "zebra/0000001.jpg"):
            with pytest.raises(KeyError):
                reader.find(missing)
        assert len(reads) <= 1


def first_screen(data: bytes) -> tuple[list[tuple[int, int]], list[str], list[bytes]]:
    """What a reader over a network does, by the spec: (its requests, the first keys, their hints)."""
    requests: list[tuple[int, int]] = []

    def get(start: int, length: int) -> bytes:
        requests.append((start, length))
        return data[start : start + length]

    start = max(len(data) - (1 << 18), 0)
    end = get(start, 1 << 18)
    index_at = int.from_bytes(end[-20:-12], "little")
    assert index_at >= start
    index = reference_reader.table(end[index_at - start + 8 : -32], MAX_INDEX, 12)
    first = min(index[3])
    last_recipe = max(at + 12 + length for at, length in zip(index[1], index[2], strict=True) if at < first)
    beginning = get(0, last_recipe)
    assert reference_reader.chunk(beginning, 12)[1] == "HEAD"
    assert [reference_reader.chunk(beginning, at)[1] for at in index[1] if at < first] == ["RECP"]
    table, hints = index[5][0], index[6][0]
    front = get(first, 24 + table + hints)[8:]
    assert reference_reader.crc(front[: 8 + table]) == front[8 + table : 12 + table]
    assert reference_reader.crc(front[12 + table : -4]) == front[-4:]
    rows = reference_reader.table(front[8 : 8 + table], MAX_TABLE, 18)
    n, at, found = rows[0], 12 + table, []
    for length in reference_reader.column(rows[13], n, MAX_HINT):
        found.append(front[at : at + length])
        at += length
    label = reference_reader.column(rows[2], n, n)
    return requests, [f"{rows[1][k]}/{name}" for k, name in zip(label, rows[3], strict=True)], found


def test_the_first_screen_of_a_remote_file_takes_three_requests_and_little(million: Path) -> None:
    requests, keys, _ = first_screen(million.read_bytes())
    assert keys == [exemplar_of(i).key for i in range(ROWS)]
    assert len(requests) == 3
    assert sum(length for _, length in requests) < 300_000
    stored = [
        Exemplar.from_edges(draw_edges(120, 90, i), label="a", name=str(i), hint=HINTS[i % 4]) for i in range(600)
    ]
    requests, keys, hints = first_screen(pack(stored))
    assert keys == [e.key for e in stored[:256]]
    assert hints == [e.hint for e in stored[:256]]
    assert [length for _, length in requests[1:]] < [1000, 60_000]


def test_a_class_among_a_thousand_is_read_from_its_own_blocks(million: Path, reads: list[tuple[int, int]]) -> None:
    with Reader(million) as reader:
        reads.clear()
        assert reader.of_label("class-321") == list(range(321 * OF_CLASS, 322 * OF_CLASS))
        assert reader.of_label("class-1000") == []
        assert len(reads) == BLOCKS_OF_CLASS


def test_the_large_file_is_one_that_the_writer_could_have_written(million: Path) -> None:
    """Two of its classes written by ``pack``: the same exemplars, and tables of the same content."""
    with Reader(million) as reader:
        blocks = [table_without_texts(reader, i) for i in (0, 4, 3999)]
        assert blocks[0] == blocks[1] == blocks[2]
        ours = reader[:ROWS]
    assert ours == [exemplar_of(i) for i in range(ROWS)]
    assert len(pack(ours)) < 6000


# --- beyond 4 GiB: holes in the file stand for what would be written there ---


def hole_crc(head: bytes) -> int:
    """The checksum of a chunk of ``MAX_CHUNK`` zeros after ``head``; takes a quarter of a second."""
    crc, zeros = zlib.crc32(head), bytes(1 << 20)
    for _ in range(MAX_CHUNK >> 20):
        crc = zlib.crc32(zeros, crc)
    return crc


class Sparse:
    """A file written by the assembler, with sparse chunks of zeros between its blocks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._head = b"voId" + struct.pack("<I", MAX_CHUNK)
        self._crc = struct.pack("<I", hole_crc(self._head))
        self._file: BinaryIO = path.open("wb")
        self._assembler = Assembler(self._file.write)  # type: ignore[arg-type]
        self._assembler.begin("DATA")

    def add(self, exemplars: list[Exemplar]) -> None:
        for exemplar in exemplars:
            self._assembler.add(exemplar)
        self._assembler.flush()

    def hole(self, count: int) -> None:
        """``count`` chunks of 256 MiB of a type that a reader may pass over."""
        for _ in range(count):
            self._file.write(self._head)
            self._file.seek(MAX_CHUNK, os.SEEK_CUR)
            self._file.write(self._crc)
            self._assembler.offset += MAX_CHUNK + FRAME

    def finish(self) -> None:
        self._assembler.finish()
        self._file.close()


def needs_holes(path: Path) -> None:
    """Skips if the file system has no sparse files."""
    if path.stat().st_blocks * 512 > 1 << 24:
        path.unlink()
        pytest.skip("this file system has no sparse files")


def test_a_file_of_ten_gigabytes_is_read_and_appended_to(tmp_path: Path, reads: list[tuple[int, int]]) -> None:
    """40 sparse chunks of 256 MiB with exemplars before, between and after them: 10.7 GB, less than 1 MB on disk."""
    path = tmp_path / "f.escx"
    stored = make_exemplars(90)
    sparse = Sparse(path)
    for first, holes in ((0, 17), (30, 23), (60, 0)):  # the second begins beyond 4 GiB
        sparse.add(stored[first : first + 30])
        sparse.hole(holes)
    sparse.finish()
    needs_holes(path)
    assert path.stat().st_size > 10e9
    with Reader(path) as reader:
        assert reader.state.index.offsets[-1] > 10e9
        assert list(reader) == stored
        assert [reader[e.key] for e in reversed(stored)] == stored[::-1]
        assert len(reader.recipes) == 2
    more = make_exemplars(70, start=500)  # with the recipe of the first ones, and one that is new here
    for part in (more[:20], more[20:]):
        with Writer(path, append=True) as writer:
            for exemplar in part:
                writer.add(exemplar)
    with Reader(path) as reader:
        assert list(reader) == stored + more
        assert min(reader.state.index.offsets[-2:]) > 10e9
        assert reader.state.index_offset > 10e9
    writer = Writer(path, append=True)
    writer.add(make_exemplars(1, start=900)[0])
    writer.abort()
    assert sum(length for _, length in reads) < 1 << 20  # none of the holes was read
    assert read_all(path) == stored + more
    assert path.stat().st_blocks * 512 < 1 << 20


def test_a_torn_file_beyond_four_gibibytes_is_recovered_and_appended_to() -> None:
    """17 chunks of 256 MiB in holes: 4.6 GB. Walking the chunks checksums them, which takes seconds, twice (so
    the file stands in memory, where holes are read quickest); it proves that the walk's offsets have 64 bits too."""
    with quick_folder() as folder:
        path, good = folder / "f.escx", folder / "good.escx"
        stored = make_exemplars(60)
        sparse = Sparse(path)
        sparse.add(stored[:30])
        sparse.hole(17)
        sparse.add(stored[30:])
        sparse.finish()
        needs_holes(path)
        size = path.stat().st_size
        assert size > (1 << 32) + 100_000
        last, next_one = make_exemplars(2, start=900)
        with Writer(path, append=True) as writer:
            writer.add(last)
        os.truncate(path, path.stat().st_size - TAIL_SIZE)
        with pytest.raises(IncompleteError):
            Reader(path)
        result = recover(path, good)
        assert (result.saved, len(result.lost)) == (61, 1)
        assert read_all(good) == [*stored, last]
        assert good.stat().st_size < 100_000
        with Writer(path, append=True) as writer:
            assert len(writer) == 61
            writer.add(next_one)
        assert read_all(path) == [*stored, last, next_one]
