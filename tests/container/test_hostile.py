"""Hostile files with right checksums: only our errors, bounded memory, no hang."""

from __future__ import annotations

import resource
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from escort_codec import Exemplar, Reader, pack
from escort_codec.container import reader as reader_module
from escort_codec.container.assembler import exemplar_fault
from escort_codec.container.file import ChunkFile
from escort_codec.container.parts import recover
from escort_codec.container.verify import verify
from escort_codec.encode.images import prepare
from escort_codec.errors import DamagedError, EscortError, FormatError
from escort_codec.hint import decode_hint
from escort_codec.limits import MAX_CHUNK, MAX_HEAD, MAX_INDEX, MAX_RECIPE, MAX_TABLE
from tests.container.test_demands import EMPTY_INDEX, SIGNATURE, block, build, chunk, close, frame, index_of, table
from tests.helpers import HINTS, in_child, quick_folder

MEBI = 1 << 20
PREAMBLE = SIGNATURE + b"\x01\0\0\0"


def use(data: bytes, folder: Path) -> list[Exemplar] | FormatError:
    """Opens, reads, verifies and recovers a file. Only FormatError is allowed."""
    path, good = folder / "hostile.escx", folder / "good.escx"
    path.write_bytes(data)
    verdict = verify(path)
    fault: FormatError | None = None
    try:
        recover(path, good, overwrite=True)
    except FormatError:
        pass
    else:
        assert verdict.fault or verify(good).fault is None
    try:
        with Reader(path) as reader:
            found = list(reader)
            assert [reader[i] for i in range(len(reader))] == found
            _ = reader.labels, reader.seeds, reader.source
            for exemplar in found:
                if exemplar.name:
                    assert exemplar.key in reader  # type: ignore[comparison-overlap]
    except FormatError as exc:
        fault = exc
    if fault is not None:
        assert "\n" not in str(fault)
        assert verdict.fault
        return fault
    for exemplar in found:
        assert exemplar_fault(exemplar) is None or exemplar.hint is not None
        if exemplar.kind == "prompt":
            _decode(exemplar, sound=verdict.fault is None)
    return found


def _decode(exemplar: Exemplar, *, sound: bool) -> None:
    try:
        assert exemplar.edges.shape == exemplar.map_shape
        if exemplar.hint is not None:
            decode_hint(exemplar.hint)
    except EscortError:
        assert not sound


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as place:
        yield place


integers = st.one_of(
    st.integers(-2, 70),
    st.sampled_from(
        [255, 256, 1023, 1024, 1025, 65535, 65536, 1 << 26, (1 << 26) + 1, (1 << 32) - 1, 1 << 32, (1 << 64) - 1]
    ),
)
names = st.one_of(
    st.sampled_from(
        ["", "a", "x.png", "../x", "/x", "a//b", ".", "a\0b", "C:\\x", "c:x", "a\\b", "\x1b[2J", "é" * 600]
    ),
    st.text(max_size=6),
)
scalars = st.one_of(integers, names, st.binary(max_size=9), st.none(), st.booleans(), st.floats(), st.just([]))
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=2), max_leaves=6
)
columns = integers | st.binary(max_size=8) | anything
runs = st.lists(integers, max_size=6) | anything
settings_lists = st.lists(integers, min_size=3, max_size=5) | anything
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "rows": integers | anything,
    "classes": st.lists(names, max_size=3) | anything,
    "names": st.lists(names, max_size=3) | anything,
    "texts": st.lists(names, max_size=3) | anything,
    "seeds": st.tuples(st.lists(runs, max_size=3) | anything, columns).map(list) | anything,
    "made": st.tuples(st.lists(settings_lists, max_size=3) | anything, columns).map(list) | anything,
    **dict.fromkeys(
        ("label", "kind", "text", "height", "width", "map_height", "map_width", "coding", "bits", "hint", "recipe"),
        columns,
    ),
}


@settings(max_examples=120, deadline=None)
@given(
    changes=st.fixed_dictionaries({}, optional=FIELDS).filter(lambda changed: 0 < len(changed) < 4),
    payload=st.binary(max_size=6) | st.just(b"\x03\x80"),
)
def test_any_values_in_a_blocks_table(changes: dict[str, Any], payload: bytes) -> None:
    with quick_folder() as folder:
        use(build(block(table(**changes), payload)), folder)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 5), data=st.data())
def test_tables_of_several_rows_whose_columns_nearly_fit(rows: int, data: st.DataObject) -> None:
    """Mostly valid tables, so that the later checks are reached too."""
    draw = data.draw

    def column(top: int) -> int | bytes:
        values = draw(st.lists(st.integers(0, top), min_size=rows, max_size=rows))
        if len(set(values)) == 1:
            return values[0]
        width = draw(st.sampled_from([1, 1, 1, 2, 4]))
        return b"".join(bytes(v >> 8 * plane & 255 for v in values) for plane in range(width))

    changed = draw(st.sets(st.sampled_from(list(FIELDS)), max_size=2))
    sound: dict[str, Any] = {
        "rows": rows,
        "classes": ["a", "b"][:rows],
        "label": column(1) if rows > 1 else 0,
        "names": [f"{i}.png" for i in range(rows)],
        "texts": ["a text"],
        "text": column(1),
        "height": column(4),
        "width": column(4),
        "bits": column(3),
        "hint": column(1),
    }
    values = sound | {name: draw(FIELDS[name]) for name in changed}
    with quick_folder() as folder:
        use(build(block(table(**values), draw(st.binary(max_size=12)))), folder)


@settings(max_examples=80, deadline=None)
@given(place=st.integers(0, 11), value=st.one_of(st.lists(integers, max_size=3), st.lists(names, max_size=3), anything))
def test_any_values_in_the_index(place: int, value: object) -> None:
    def change(index: list[Any]) -> None:
        index[place] = value

    with quick_folder() as folder:
        found = use(build(index=change), folder)
        assert isinstance(found, FormatError) or len(found) == 1


@settings(max_examples=60, deadline=None)
@given(anything | st.dictionaries(st.sampled_from(["source", "writer", "later"]), anything, max_size=3))
@example({"source": "\x80", "writer": "\x80"})  # as long as the one it replaces
def test_any_head(value: object) -> None:
    data = build()
    old = chunk(b"HEAD", msgpack.packb({"source": "", "writer": "test"}))
    with quick_folder() as folder:
        path = folder / "f.escx"
        new = chunk(b"HEAD", msgpack.packb(value))
        path.write_bytes(data.replace(old, new))
        if len(new) == len(old):
            found = use(path.read_bytes(), folder)
            assert isinstance(found, FormatError) or [e.key for e in found] == ["a/x.png"]
        else:
            with pytest.raises(FormatError):  # all offsets have moved
                Reader(path)
        with Reader(path, recover=True) as reader:
            assert [e.key for e in reader] == ["a/x.png"]
            assert len(reader.source.encode()) <= 4096


@settings(max_examples=60, deadline=None)
@given(
    number=st.just(0) | anything,
    values=st.dictionaries(
        st.sampled_from(["preset", "steps", "guidance", "extra", "later"]) | names, anything | st.floats(), max_size=4
    )
    | anything,
)
def test_any_recipe(number: object, values: object) -> None:
    body = msgpack.packb([number, values])
    old = chunk(b"RECP", msgpack.packb([0, {"preset": "hires"}]))
    data = build().replace(old, b"")
    head_end = 12 + len(chunk(b"HEAD", msgpack.packb({"source": "", "writer": "test"})))
    new = chunk(b"RECP", body)
    with quick_folder() as folder:
        use(_moved(data[:head_end], new, block(table())), folder)


def _moved(head: bytes, recipe: bytes, payload: bytes) -> bytes:
    """A file of these chunks, with an index that is right."""
    at = len(head) + len(recipe)
    data = head + recipe + chunk(b"BLCK", payload)
    return close(data, frame(index_of([(len(head), len(recipe) - 12)], [(at, payload)])))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([b"HEAD", b"RECP", b"BLCK", b"INDX", b"TAIL", b"noTe", b"NEWS"]), anything)))
def test_any_chunks_in_any_order(parts: list[tuple[bytes, object]]) -> None:
    data = PREAMBLE
    for kind, value in parts:
        data += chunk(kind, frame(value) if kind == b"INDX" else msgpack.packb(value))
    with quick_folder() as folder:
        assert isinstance(use(data, folder), FormatError)
        assert isinstance(use(close(data, frame(EMPTY_INDEX)), folder), list | FormatError)


@settings(max_examples=80, deadline=None)
@given(
    offset=st.integers(0, (1 << 64) - 1) | st.integers(0, 400),
    length=st.integers(0, 600) | st.integers(0, (1 << 64) - 1),
)
def test_any_trailer(offset: int, length: int) -> None:
    whole = build()
    with quick_folder() as folder:
        found = use(whole[:-28] + chunk(b"TAIL", struct.pack("<QQ", offset, length)), folder)
        same = struct.pack("<QQ", offset, length) == whole[-20:-4]
        assert isinstance(found, list) == same


@pytest.mark.must("M51")
def test_additions_of_later_minor_versions_are_skipped(folder: Path) -> None:
    """More columns in a table and an index, chunks with a small letter: nothing is built of them."""
    later = [*table(), [1, [2, {"x": []}]], b"x" * 90_000, "y" * 90_000, None, 1.5]
    extra = chunk(b"noTe", b"later")
    data = build(block(later, b"\x03\x80"), version=(1, 3), extra=extra, index=lambda i: i.extend([[["z"] * 40], {}]))
    path = folder / "f.escx"
    path.write_bytes(data)
    with Reader(path) as reader:
        assert [e.key for e in reader] == ["a/x.png"]
    with Reader(path, recover=True) as reader:
        assert [e.key for e in reader] == ["a/x.png"]
    verdict = verify(path)
    assert verdict.fault is None
    assert "1.3 is newer" in verdict.note
    assert recover(path, folder / "good.escx").saved == 1
    assert verify(folder / "good.escx").fault is None


def raw_frame(declared: int | None, content: bytes, *, window: int = 0x58, flags: int = 0) -> bytes:
    """A zstd frame by hand, of raw and run-length blocks: it may lie about its size."""
    head = struct.pack("<I", 0xFD2FB528)
    if declared is None:
        head += bytes([flags, window])
    else:
        head += bytes([0xC0 | flags, window]) + struct.pack("<Q", declared)
    return head + content


def repeated(byte: int, count: int) -> bytes:
    """Run-length blocks: four bytes for each 128 KiB."""
    blocks = b""
    while count:
        size = min(count, 1 << 17)
        count -= size
        blocks += struct.pack("<I", (0 if count else 1) | 1 << 1 | size << 3)[:3] + bytes([byte])
    return blocks


BOMBS = {
    "declares exabytes": raw_frame(1 << 60, repeated(0, 10)),
    "declares a byte above the cap": raw_frame(MAX_INDEX + 1, repeated(0, 10)),
    "declares the cap in a few bytes": raw_frame(MAX_TABLE, repeated(0, 10)),
    "declares nothing": raw_frame(None, repeated(0, 10)),
    "declares less than there is": raw_frame(10, repeated(0x90, 30 * MEBI)),
    "declares more than there is": raw_frame(300_000, repeated(0x90, 200_000)),
    "asks for a window of gigabytes": raw_frame(10, repeated(0, 10), window=0xF8),
    "asks for a dictionary": raw_frame(10, b"\x05" + repeated(0, 10), flags=1),
    "is two frames": frame([1]) + frame([1]),
    "is followed by a byte": frame([1]) + b"x",
    "is a skippable frame": struct.pack("<II", 0x184D2A50, 4) + b"skip",
    "is cut off": frame(list(range(1000)))[:-5],
    "is no frame": b"hello, world",
    "is empty": b"",
    "holds 16 MiB of empty arrays": raw_frame(16 * MEBI, repeated(0x90, 16 * MEBI)),
    "holds 16 MiB of nested arrays": raw_frame(16 * MEBI, repeated(0x91, 16 * MEBI)),
    "holds 16 MiB of empty maps": raw_frame(16 * MEBI, repeated(0x80, 16 * MEBI)),
    "holds 16 MiB of zeros": raw_frame(16 * MEBI, repeated(0, 16 * MEBI)),
    "holds 64 MiB of empty arrays": raw_frame(64 * MEBI, repeated(0x90, 64 * MEBI)),
    "holds a few bytes more than declared": raw_frame(16 * MEBI - 1, repeated(0, 16 * MEBI)),
}
HEADERS = {
    "an array of four thousand million": b"\xdd\xff\xff\xff\xff",
    "a map of four thousand million": b"\xdf\xff\xff\xff\xff",
    "a text of four gigabytes": b"\xdb\xff\xff\xff\xff",
    "bytes of four gigabytes": b"\xc6\xff\xff\xff\xff",
    "an extension": b"\xc9\x00\x00\x00\x04\x01abcd",
    "a timestamp": b"\xd6\xff\x00\x00\x00\x00",
    "nothing": b"",
    "a reserved byte": b"\xc1",
    "depth": b"\x91" * 5000,
}


def peak(work: Callable[[], object]) -> int:
    """The most bytes that Python and numpy held at once during ``work``."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", BOMBS)
def test_a_zstd_bomb_is_refused_as_a_table_and_as_an_index(what: str, folder: Path) -> None:
    """Refused before memory is taken if it declares too much; else at most the cap of the table is taken once."""
    for data in (build(block(BOMBS[what], b"")), close(build()[: build().index(b"INDX")], BOMBS[what])):
        assert len(data) < 20_000
        assert peak(lambda data=data: use(data, folder)) < 140 * MEBI  # type: ignore[misc]
        assert isinstance(use(data, folder), DamagedError)


@pytest.mark.parametrize("what", HEADERS)
@pytest.mark.parametrize("place", [0, 1, 2, 3, 5, 8, 15, 16, 17])
def test_a_msgpack_head_that_promises_too_much_is_refused_before_memory_is_taken(
    what: str, place: int, folder: Path
) -> None:
    raw = b"\xdc\x00\x12" + b"".join(msgpack.packb(v) for v in table()[:place]) + HEADERS[what]
    bad_table = build(block(zstandard.ZstdCompressor().compress(raw), b"\x03\x80"))
    whole = build()
    index_at = whole.index(b"INDX")
    values = index_of([(59, 9)], [(80, b"")])
    raw = b"\x9c" + b"".join(msgpack.packb(v) for v in values[: min(place, 11)]) + HEADERS[what]
    bad_index = close(whole[:index_at], zstandard.ZstdCompressor().compress(raw))
    for data in (bad_table, bad_index):
        assert len(data) < 6000
        assert peak(lambda data=data: use(data, folder)) < 12 * MEBI  # type: ignore[misc]
        assert isinstance(use(data, folder), DamagedError)


@pytest.mark.parametrize(("kind", "cap"), [(b"HEAD", MAX_HEAD), (b"RECP", MAX_RECIPE)])
def test_nested_arrays_in_the_head_or_a_recipe_stay_within_bounds(kind: bytes, cap: int, folder: Path) -> None:
    """Each level promises as many elements as the chunk has bytes: room for them is made before they are read."""
    raw = ((b"\xdc" + struct.pack(">H", cap - 1)) * cap)[:cap]
    head = PREAMBLE + (chunk(b"HEAD", msgpack.packb({})) if kind == b"RECP" else b"")
    recipes = [len(head)] if kind == b"RECP" else []
    data = close(head + chunk(kind, raw), frame(index_of([(at, len(raw)) for at in recipes], [])))
    assert peak(lambda: use(data, folder)) < 100 * MEBI
    found = use(data, folder)
    assert isinstance(found, DamagedError)
    assert "is not msgpack: StackError" in str(found)
    assert (found.chunk, found.offset) == (kind.decode(), len(head))


def _large(length: int) -> bytes:
    return PREAMBLE + b"BLCK" + struct.pack("<I", length)


@pytest.mark.parametrize(
    "data",
    [
        _large(MAX_CHUNK),
        _large(MAX_CHUNK + 1),
        _large((1 << 32) - 1),
        close(_large(MAX_CHUNK), frame(EMPTY_INDEX)),
        build(block(table(bits=1 << 26), b"")),
        build(block(table(hint=1 << 16), b"")),
        build(block(struct.pack("<I", 1 << 31), b"")),
        struct.pack("<8sHH", SIGNATURE, 1, 0) + b"\xff" * 280,
        build(index=lambda index: index.__setitem__(4, [MAX_CHUNK])),
    ],
    ids=range(9),
)
def test_three_hundred_bytes_cannot_ask_for_more_than_a_few_megabytes(data: bytes, folder: Path) -> None:
    assert len(data) < 600
    assert peak(lambda: use(data, folder)) < 12 * MEBI
    assert isinstance(use(data, folder), FormatError)


def test_a_thousand_maps_of_64_megapixels_in_two_hundred_bytes_are_decoded_one_at_a_time(folder: Path) -> None:
    """A valid file of white maps, which have no bytes under coding 1. Only the map that is read is decoded."""
    rows = table(
        rows=1024, names=[], height=8192, width=8192, map_height=0, map_width=0, coding=1, bits=0, label=0, recipe=0
    )
    data = build(block(rows, b""), index=_of_a_thousand, key="a/")
    assert len(data) < 400
    path = folder / "f.escx"
    path.write_bytes(data)
    prepare("rle")
    with Reader(path) as reader:
        assert len(reader) == 1024
        assert peak(lambda: list(reader)) < 8 * MEBI
        assert peak(lambda: reader[5].edges.any()) < 70 * MEBI


def _of_a_thousand(index: list[Any]) -> None:
    index[0], index[7], index[9] = 1024, [1024], [[0, 1024]]


def test_an_index_that_costs_much_for_each_byte_stays_within_bounds(folder: Path) -> None:
    """Many classes in many blocks: the most objects for a byte of the file that we know of."""
    payload = block(table(), b"\x03\x80")
    head = PREAMBLE + chunk(b"HEAD", msgpack.packb({})) + chunk(b"RECP", msgpack.packb([0, {}]))
    blocks, each = 300, 256
    one = chunk(b"BLCK", payload)
    offsets = [len(head) + i * len(one) for i in range(blocks)]
    labels = [f"{i:x}" for i in range(blocks * each)]
    members = [[v for i in range(each) for v in (b * each + i, 1)] for b in range(blocks)]
    keys = ["a"] * blocks
    recipe_at = 12 + len(chunk(b"HEAD", msgpack.packb({})))
    index = index_of([(recipe_at, 3)], [(offset, payload) for offset in offsets])
    index[0], index[7:] = blocks * each, [[each] * blocks, labels, members, [keys, keys], []]
    data = close(head + one * blocks, frame(index))
    path = folder / "f.escx"
    path.write_bytes(data)
    assert len(data) < 600_000

    def read() -> None:
        with Reader(path) as reader:
            assert len(reader) == blocks * each
            with pytest.raises(DamagedError, match="not what the index says"):
                _ = reader[0]

    assert peak(read) < 50 * MEBI


def test_decoded_blocks_are_not_kept_beyond_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts that compress a hundred times: the cache counts bytes in memory, not in the file."""
    prompts = (f"{i:08d}" * 1000 for i in range(256 * 16))
    stored = [Exemplar.from_image(b"x", label="a", name=p[:8], size=(1, 1), prompt=p) for p in prompts]
    path = folder / "f.escx"
    path.write_bytes(pack(stored))
    text = sum(len(e.prompt) for e in stored)
    assert text > 31 * MEBI
    assert path.stat().st_size < MEBI
    del stored

    def read() -> None:
        with Reader(path) as reader:
            assert sum(len(e.prompt) for e in reader) == text

    monkeypatch.setattr(reader_module, "CACHE_BYTES", 8 * MEBI)
    assert peak(read) < 18 * MEBI  # the cache, and the table that is being read


def test_under_a_hard_limit_of_the_system_no_bomb_ends_the_process(folder: Path) -> None:
    """RLIMIT_AS counts what tracemalloc misses. 400 MiB cover the caps, with room."""
    files = [build(block(bomb, b"")) for bomb in BOMBS.values()]
    files += [close(build()[: build().index(b"INDX")], bomb) for bomb in BOMBS.values()]

    def work() -> None:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + 400 * MEBI, size + 400 * MEBI))
        for data in files:
            assert isinstance(use(data, folder), FormatError)

    if not Path("/proc/self/statm").exists():
        pytest.skip("this system has no /proc, which says how much memory the process holds")
    assert in_child(work) == 0


def test_searching_a_hostile_file_ends(folder: Path) -> None:
    """Every twelve bytes a damaged chunk that leads to one large damaged chunk: each could cost reading that again."""
    fake = b"".join(chunk(b"RECP", b"")[:-1] + b"!" for _ in range(20_000))
    data = bytearray(PREAMBLE + fake)
    target = len(data)
    for at in range(12, target, 12):
        data[at + 4 : at + 8] = struct.pack("<I", target - at - 12)
    data += b"BLCK" + struct.pack("<I", 3 * MEBI) + bytes(3 * MEBI + 4)
    data[-1] = 1
    path = folder / "f.escx"
    path.write_bytes(data)
    reads = 0
    real = ChunkFile.read

    def count(self: ChunkFile, offset: int, length: int) -> bytes:
        nonlocal reads
        found = real(self, offset, length)
        reads += len(found)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ChunkFile, "read", count)
        with Reader(path, recover=True) as reader:
            assert len(reader) == 0
    assert reads < 40 * len(data)


@pytest.mark.parametrize("hint", [b"\x00", b"RIFF" + bytes(20), HINTS[0][:12], b"\xff" * 40, bytes(60_000)])
def test_a_hostile_hint_is_found_by_verify_and_affects_nothing_else(hint: bytes, folder: Path) -> None:
    found = use(build(block(table(hint=len(hint)), hints=hint)), folder)
    assert isinstance(found, list)
    assert found[0].hint == hint
    assert found[0].edges.sum() == 3
    verdict = verify(folder / "hostile.escx")
    fault = str(verdict.fault)
    assert "a/x.png: a hint" in fault
    assert verdict.kind is FormatError  # not damage: recovering would keep it
    assert "\n" not in fault
    with pytest.raises(EscortError):
        decode_hint(hint)
