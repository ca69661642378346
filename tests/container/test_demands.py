"""The demands of spec/FORMAT.md one by one, on files that are built here chunk by chunk."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zstandard

import escort_codec
from escort_codec import EdgeSettings, EscortError, Exemplar, Writer
from escort_codec.container.verify import verify
from escort_codec.errors import DamagedError, FormatError, IncompleteError, LimitError, NotEscxError, VersionError
from escort_codec.names import safe_part

SIGNATURE = bytes.fromhex("89 45 53 58 0D 0A 1A 0A")
Tables = dict[str, Any]


def chunk(kind: bytes, payload: bytes) -> bytes:
    head = kind + struct.pack("<I", len(payload)) + payload
    return head + struct.pack("<I", zlib.crc32(head))


def frame(value: Any) -> bytes:
    return zstandard.ZstdCompressor().compress(msgpack.packb(value))


def table(**changes: Any) -> list[Any]:
    """One row: class a, name x.png, a packed map of 3 x 5 pixels, seeds 0 to 2."""
    values: dict[str, Any] = {"rows": 1, "classes": ["a"], "label": 0, "names": ["x.png"], "kind": 0, "texts": []}
    values |= {"text": 0, "height": 3, "width": 5, "map_height": 0, "map_width": 0, "coding": 0, "bits": 2, "hint": 0}
    values |= {"codec": 0, "seeds": [[[0, 2]], 0], "made": [[[100, 200, 0, 0]], 1], "recipe": 0}
    assert set(changes) <= set(values)
    return list((values | changes).values())


def block(rows: list[Any] | bytes, payload: bytes = b"\x03\x80", hints: bytes = b"") -> bytes:
    packed = rows if isinstance(rows, bytes) else frame(rows)
    front = struct.pack("<II", len(packed), len(hints)) + packed
    return front + crc(front) + hints + crc(hints) + payload


def crc(data: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(data))


def build(
    payload: bytes | None = None,
    *,
    version: tuple[int, int] = (1, 0),
    extra: bytes = b"",
    index: Callable[[list[Any]], None] = lambda index: None,
    key: str = "a/x.png",
) -> bytes:
    """A whole file of one block, with the changes of a test."""
    data = SIGNATURE + struct.pack("<HH", *version)
    data += chunk(b"HEAD", msgpack.packb({"source": "", "writer": "test"}))
    recipe_at = len(data)
    data += chunk(b"RECP", msgpack.packb([0, {"preset": "hires"}])) + extra
    block_at = len(data)
    payload = block(table()) if payload is None else payload
    data += chunk(b"BLCK", payload)
    values = index_of([(recipe_at, block_at - recipe_at - 12 - len(extra))], [(block_at, payload)], key)
    index(values)
    return close(data, frame(values))


def index_of(recipes: list[tuple[int, int]], blocks: list[tuple[int, bytes]], key: str = "a/x.png") -> list[Any]:
    """The values of an index: (offset, length) of recipes, (offset, payload) of blocks with one row of class a."""
    fronts = [struct.unpack("<II", payload[:8].ljust(8, b"\0")) for _, payload in blocks]
    n = len(blocks)
    return [
        n,
        [offset for offset, _ in recipes],
        [length for _, length in recipes],
        [offset for offset, _ in blocks],
        [len(payload) for _, payload in blocks],
        [table for table, _ in fronts],
        [hints for _, hints in fronts],
        [1] * n,
        ["a"] * (n > 0),
        [[0, 1]] * n,
        [[key] * n, [key] * n],
        [0, 2] if n else [],
    ]


EMPTY_INDEX = index_of([], [])


def close(data: bytes, index: bytes) -> bytes:
    at = len(data)
    data += chunk(b"INDX", index)
    return data + chunk(b"TAIL", struct.pack("<QQ", at, len(data) + 28))


def read(data: bytes, folder: Path) -> list[Exemplar]:
    path = folder / "file.escx"
    path.write_bytes(data)
    with escort_codec.open(path) as reader:
        return list(reader)


def refuse(data: bytes, folder: Path, kind: type[EscortError] = DamagedError) -> None:
    """Opened and read it is refused, and verify finds a fault."""
    with pytest.raises(kind):
        read(data, folder)
    assert verify(folder / "file.escx").fault


def test_the_file_that_the_tests_change_is_right(tmp_path: Path) -> None:
    (exemplar,) = read(build(), tmp_path)
    assert exemplar.key == "a/x.png"
    assert exemplar.edges.sum() == 3
    assert verify(tmp_path / "file.escx").fault is None


@pytest.mark.must("M1")
@pytest.mark.parametrize("place", range(8))
def test_a_file_begins_with_the_signature(place: int, tmp_path: Path) -> None:
    data = bytearray(build())
    data[place] ^= 0x80
    refuse(bytes(data), tmp_path, NotEscxError)


@pytest.mark.must("M2", "M3")
def test_another_major_version_is_refused_and_any_minor_one_read(tmp_path: Path) -> None:
    refuse(build(version=(2, 0)), tmp_path, VersionError)
    refuse(build(version=(0, 0)), tmp_path, VersionError)
    assert len(read(build(version=(1, 65535)), tmp_path)) == 1


@pytest.mark.must("M4")
@pytest.mark.parametrize("kind", [b"HEAD", b"RECP", b"BLCK", b"INDX", b"TAIL"])
def test_a_wrong_checksum_is_refused(kind: bytes, tmp_path: Path) -> None:
    data = bytearray(build())
    at = data.index(kind)
    (length,) = struct.unpack("<I", data[at + 4 : at + 8])
    data[at + 8 + length] ^= 1
    refuse(bytes(data), tmp_path)


@pytest.mark.must("M5", "M6")
def test_an_unknown_chunk_is_skipped_if_its_letter_is_lower_case_and_refused_if_not(tmp_path: Path) -> None:
    assert len(read(build(extra=chunk(b"note", b"hello")), tmp_path)) == 1
    assert verify(tmp_path / "file.escx").fault is None
    read(build(extra=chunk(b"NOTE", b"hello")), tmp_path)
    fault = verify(tmp_path / "file.escx").fault
    assert fault is not None
    assert "NOTE" in fault


@pytest.mark.must("M7")
def test_a_length_above_the_cap_is_refused(tmp_path: Path) -> None:
    data = bytearray(build())
    at = data.index(b"HEAD")
    data[at + 4 : at + 8] = struct.pack("<I", (1 << 28) + 1)
    refuse(bytes(data), tmp_path)


@pytest.mark.must("M8")
def test_the_head_is_the_first_chunk_and_the_only_one(tmp_path: Path) -> None:
    read(build(extra=chunk(b"HEAD", msgpack.packb({}))), tmp_path)
    assert "head" in str(verify(tmp_path / "file.escx").fault)
    refuse(close(SIGNATURE + struct.pack("<HH", 1, 0), frame(EMPTY_INDEX)), tmp_path)


@pytest.mark.must("M9")
def test_an_index_is_followed_by_its_trailer(tmp_path: Path) -> None:
    empty = frame(EMPTY_INDEX)
    read(build(extra=chunk(b"INDX", empty)), tmp_path)
    assert verify(tmp_path / "file.escx").fault
    read(build(extra=chunk(b"TAIL", struct.pack("<QQ", 12, 40))), tmp_path)
    assert verify(tmp_path / "file.escx").fault


@pytest.mark.must("M10")
def test_an_incomplete_file_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    data = build()
    for length in range(12, len(data)):
        refuse(data[:length], tmp_path, IncompleteError)


@pytest.mark.must("M11")
def test_a_trailer_names_the_files_length_and_its_index(tmp_path: Path) -> None:
    data = build()
    index_at = data.index(b"INDX")
    for offset, length in ((index_at, len(data) + 1), (index_at - 1, len(data)), (0, len(data)), (1 << 63, len(data))):
        refuse(data[:-28] + chunk(b"TAIL", struct.pack("<QQ", offset, length)), tmp_path, FormatError)


@pytest.mark.must("M12")
def test_a_blocks_payloads_end_where_it_ends(tmp_path: Path) -> None:
    refuse(build(block(table(), b"\x03")), tmp_path)
    refuse(build(block(table(), b"\x03\x80\x00")), tmp_path)
    refuse(build(block(table(bits=0, hint=1), b"\x03\x80")), tmp_path)
    refuse(build(block(table(bits=1, hint=1), b"\x03", b"\x80\x80")), tmp_path)


@pytest.mark.must("M13", "M14")
def test_a_tables_declared_size_is_within_the_cap_and_true(tmp_path: Path) -> None:
    huge = zstandard.ZstdCompressor().compress(bytes((16 << 20) + 1))
    refuse(build(block(huge)), tmp_path)
    raw = msgpack.packb(table())
    undeclared = zstandard.ZstdCompressor(write_content_size=False).compress(raw)
    refuse(build(block(undeclared)), tmp_path)
    lying = bytearray(zstandard.ZstdCompressor().compress(raw))
    assert lying[4] == 0x20
    for size in (lying[5] - 1, lying[5] + 1):
        lying[5] = size
        refuse(build(block(bytes(lying))), tmp_path)


@pytest.mark.must("M15")
@pytest.mark.parametrize(
    "changes",
    [
        {"label": b"\0"},  # a column of one row agrees with itself: it is one integer
        {"label": 1},
        {"kind": 2},
        {"text": 1},
        {"height": b"\3\0"},
        {"height": 1 << 16},
        {"coding": -1},
        {"recipe": 1},
        {"bits": 2.0},
        {"seeds": [[[0, 2]], 1]},
        {"made": [[[100, 200, 0, 0]], 2]},
    ],
)
def test_a_column_is_as_short_as_possible_and_in_range(changes: Tables, tmp_path: Path) -> None:
    refuse(build(block(table(**changes))), tmp_path)


@pytest.mark.must("M16")
@pytest.mark.parametrize(
    "runs", [[2, 1], [0, 1, 2, 3], [3, 4, 0, 1], [0], [-1, 2], [0, 4096], [0, (1 << 32) - 1], [0, 1 << 32], ["0", "1"]]
)
def test_seeds_are_rising_runs_of_at_most_4096(runs: list[Any], tmp_path: Path) -> None:
    refuse(build(block(table(seeds=[[runs], 0]))), tmp_path)


@pytest.mark.must("M17")
@pytest.mark.parametrize("changes", [{"made": [[[100, 200, 0, 0]], 1]}, {"hint": 1, "bits": 1}, {"coding": 1}])
def test_a_real_exemplar_has_nothing_of_a_prompt(changes: Tables, tmp_path: Path) -> None:
    real = {"kind": 1, "made": [[], 0]}
    assert read(build(block(table(**real))), tmp_path)[0].image == b"\x03\x80"
    refuse(build(block(table(**(real | changes)))), tmp_path)


BAD_NAMES = ["../x", "/x", "a//b", "a/../b", "a\\b", "C:x", "a\0", "a\n", ".", "x/", "n" * 1025]
BAD_LABELS = ["", ".", "..", "a/b", "a\\b", "C:", "a\0", "n" * 256]


@pytest.mark.must("M18")
@pytest.mark.parametrize("field", ["name", "label", "prompt"])
def test_a_writer_refuses_bad_names(field: str, tmp_path: Path) -> None:
    good = Exemplar.from_edges(np.ones((2, 2), np.bool_), label="a", name="x.png")
    wrong = {"name": BAD_NAMES, "label": BAD_LABELS, "prompt": ["p" * 8193, "\ud800"]}[field]
    with Writer(tmp_path / "out.escx") as writer:
        for text in wrong:
            changes: dict[str, Any] = {field: text}
            with pytest.raises(LimitError):
                writer.add(replace(good, **changes))
        assert len(writer) == 0


@pytest.mark.must("M19")
@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_reader_refuses_a_bad_name(name: str, tmp_path: Path) -> None:
    refuse(build(block(table(names=[name])), key=f"a/{name}"), tmp_path)


@pytest.mark.must("M19")
@pytest.mark.parametrize("label", BAD_LABELS)
def test_a_reader_refuses_a_bad_class_name(label: str, tmp_path: Path) -> None:
    def rename(index: list[Any]) -> None:
        index[8] = [label]

    refuse(build(block(table(classes=[label])), key=f"{label}/x.png", index=rename), tmp_path)


@pytest.mark.must("M48")
@pytest.mark.parametrize("part", ["CON", "nul.txt", "a ", "a.", "a:b", "a<b", "x" * 300])
def test_names_that_a_system_cannot_have_are_made_safe_before_files_are_written(part: str) -> None:
    assert safe_part(part) != part
    assert safe_part(safe_part(part)) == safe_part(part)


@pytest.mark.must("M20")
def test_a_writer_writes_no_key_twice(tmp_path: Path) -> None:
    exemplar = Exemplar.from_edges(np.ones((2, 2), np.bool_), label="a", name="x.png")
    with Writer(tmp_path / "out.escx") as writer:
        writer.add(exemplar)
        with pytest.raises(LimitError, match="already"):
            writer.add(exemplar)
        writer.add(replace(exemplar, name=""))
        writer.add(replace(exemplar, name=""))
    with Writer(tmp_path / "out.escx", append=True) as writer, pytest.raises(LimitError, match="already"):
        writer.add(exemplar)
    with escort_codec.open(tmp_path / "out.escx") as reader:
        assert len(reader) == 3


def set_to(place: int, value: Any) -> Callable[[list[Any]], None]:
    def change(index: list[Any]) -> None:
        index[place] = value

    return change


@pytest.mark.must("M37")
@pytest.mark.parametrize("part", ["table", "hints"])
def test_table_and_hints_have_checksums_of_their_own(part: str, tmp_path: Path) -> None:
    """Wrong ones are noticed though the checksum of the chunk is right, and without it: nothing else is read."""
    payload = bytearray(block(table(hint=3), hints=b"abc"))
    (length,) = struct.unpack("<I", payload[:4])
    payload[8 + length if part == "table" else len(payload) - 6] ^= 1
    refuse(build(bytes(payload)), tmp_path)
    with escort_codec.open(tmp_path / "file.escx") as reader:
        if part == "table":
            with pytest.raises(DamagedError, match="checksum"):
                list(reader.tables())
        else:
            assert [rows.all_keys() for rows in reader.tables()] == [["a/x.png"]]


@pytest.mark.must("M21")
@pytest.mark.parametrize("change", [set_to(3, [11]), set_to(3, [1 << 40]), set_to(4, [1 << 20]), set_to(1, [0])])
def test_the_indexs_chunks_lie_apart_in_order_and_before_it(
    change: Callable[[list[Any]], None], tmp_path: Path
) -> None:
    refuse(build(index=change), tmp_path)


@pytest.mark.must("M22")
@pytest.mark.parametrize(
    "change",
    [set_to(0, 2), set_to(7, [2]), set_to(7, [0]), set_to(9, [[0, 2]]), set_to(9, [[1, 1]]), set_to(8, ["a", "b"])],
)
def test_the_indexs_counts_add_up(change: Callable[[list[Any]], None], tmp_path: Path) -> None:
    refuse(build(index=change), tmp_path)


@pytest.mark.must("M23")
@pytest.mark.parametrize(
    "change", [set_to(8, ["b"]), set_to(10, [["a/w"], ["a/w"]]), set_to(10, [["a/x.png"], ["a/z"]])]
)
def test_the_index_agrees_with_its_blocks(change: Callable[[list[Any]], None], tmp_path: Path) -> None:
    refuse(build(index=change), tmp_path)


@pytest.mark.must("M24")
def test_an_append_goes_after_all_existing_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file.escx"
    path.write_bytes(build())
    with Writer(path, append=True) as writer:
        writer.add(Exemplar.from_edges(np.ones((2, 2), np.bool_), label="b", name="y.png"))
    assert path.read_bytes()[: len(build())] == build()
    assert verify(path).fault is None


@pytest.mark.must("M25")
def test_a_writer_refuses_values_above_a_cap(tmp_path: Path) -> None:
    good = Exemplar.from_edges(np.ones((2, 2), np.bool_), label="a", name="x.png")
    above: list[dict[str, Any]] = [
        {"size": (65_536, 1)},
        {"size": (8193, 8192)},
        {"map_shape": (65_536, 1)},
        {"seeds": tuple(range(4097))},
        {"seeds": (1 << 32,)},
        {"hint": bytes(65_537)},
        {"payload": bytes((1 << 26) + 1)},
        {"edge_settings": EdgeSettings(low=0, high=65_536)},
    ]
    with Writer(tmp_path / "out.escx") as writer:
        for changes in above:
            with pytest.raises(LimitError):
                writer.add(replace(good, **changes))
    with pytest.raises(LimitError):
        Writer(tmp_path / "other.escx", source="s" * 4097)
    assert not list(tmp_path.glob("other*"))


@pytest.mark.must("M26")
@pytest.mark.parametrize(
    "changes",
    [
        {"height": 65_535, "width": 65_535},
        {"map_height": 65_535, "map_width": 65_535},
        {"bits": (1 << 26) + 1},
        {"hint": 65_537},
        {"rows": 1025},
        {"rows": 0},
        {"texts": ["p" * 8193], "text": 1},
    ],
)
def test_a_reader_refuses_values_above_a_cap(changes: Tables, tmp_path: Path) -> None:
    refuse(build(block(table(**changes))), tmp_path)


@pytest.mark.must("M31", "M38")
@pytest.mark.parametrize(
    ("changes", "hints"),
    [
        ({"coding": 3}, b""),
        ({"hint": 1, "codec": 2}, b"x"),
        ({"kind": 2, "made": [[], 0]}, b""),
    ],
)
def test_an_unknown_number_spoils_its_exemplar_alone(changes: Tables, hints: bytes, tmp_path: Path) -> None:
    (exemplar,) = read(build(block(table(**changes), hints=hints)), tmp_path)
    with pytest.raises(EscortError):
        _ = exemplar.edges, exemplar.hint_pixels
    assert "newer escort" in str(verify(tmp_path / "file.escx").fault)


@pytest.mark.must("M32", "M33", "M34", "M35")
@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("packed", "0380 00"),  # longer
        ("packed", "03"),  # shorter
        ("packed", "0381"),  # a bit behind the last pixel
        ("rle", "7F"),  # 15 white pixels: the last run is not coded
        ("rle", "00"),  # ends within a code
        ("rle", "FF"),  # eight 1s and the end
    ],
)
def test_bytes_that_a_coding_does_not_write_are_refused(coding: str, data: str, tmp_path: Path) -> None:
    with pytest.raises(EscortError):
        escort_codec.decode_edges(bytes.fromhex(data), (3, 5), coding=coding)
