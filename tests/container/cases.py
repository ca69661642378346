"""Small files that keep or break one rule of spec/FORMAT.md each, built here chunk by chunk, without the library.

The base is a file of three exemplars, of which each case changes one thing. ``CASES`` says which rule a case breaks and
how far a reader gets: see ``Case``. Those of ``spec/vectors/refuse/`` were written from this list.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgpack
import zstandard

SIGNATURE = bytes.fromhex("89 45 53 58 0D 0A 1A 0A")
GIF = bytes.fromhex("47494638376102000100810000070707 0000000000000000002C0000000002000100000805000100080800 3B")

Values = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One file. ``rule`` is the number of the rule that it breaks, "" for a valid file.

    ``level``: ``accept``, or where it fails: ``open`` (the file), ``read`` (a block), ``use`` (a map, hint or latents),
    ``check`` (only a check of the whole file finds it). ``what`` is wrong or special.
    """

    name: str
    rule: str
    level: str
    what: str
    data: bytes


def chunk(kind: bytes, payload: bytes) -> bytes:
    head = kind + struct.pack("<I", len(payload)) + payload
    return head + crc(head)


def crc(data: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(data))


def frame(value: Any) -> bytes:
    return compress(msgpack.packb(value))


def compress(raw: bytes) -> bytes:
    return bytes(zstandard.ZstdCompressor().compress(raw))


def block(table: bytes, hints: bytes, payloads: bytes) -> bytes:
    """The payload of a block; ``table`` is compressed."""
    front = struct.pack("<II", len(table), len(hints)) + table
    return front + crc(front) + hints + crc(hints) + payloads


def tail(index_at: int, length: int) -> bytes:
    return chunk(b"TAIL", struct.pack("<QQ", index_at, length))


def three(**changes: Any) -> Values:
    """The table of the base: two prompts of class cat, a and b, and a real one of class dog, c."""
    values: Values = {"rows": 3, "classes": ["cat", "dog"], "label": b"\0\0\1", "names": ["a", "b", "c"]}
    values |= {"kind": b"\0\0\1", "texts": [], "text": 0, "height": b"\3\3\1", "width": b"\5\5\2"}
    values |= {"map_height": 0, "map_width": 0, "coding": 0, "bits": bytes([2, 2, len(GIF)]), "hint": 0, "codec": 0}
    values |= {"seeds": [[[0, 2], []], b"\0\0\1"], "made": [[[100, 200, 0, 0]], b"\1\1\0"], "recipe": 0}
    assert set(changes) <= set(values)
    return values | changes


def one(**changes: Any) -> Values:
    """The table of a file of one prompt, cat/a."""
    values = three(rows=1, classes=["cat"], label=0, names=["a"], kind=0, height=3, width=5, bits=2)
    return values | {"seeds": [[[0, 2]], 0], "made": [[[100, 200, 0, 0]], 1]} | changes


@dataclass
class File:
    """The parts of a file. ``payloads`` defaults to those of the base, ``raw`` to the msgpack of ``values``."""

    values: Values
    payloads: bytes | None = None
    hints: bytes = b""
    raw: bytes | None = None
    table: bytes | None = None
    block: bytes | None = None
    version: tuple[int, int] = (1, 0)
    head: bytes | None = None
    recipes: tuple[bytes, ...] = (msgpack.packb([0, {"preset": "hires"}]),)
    before_head: bytes = b""
    after_head: bytes = b""
    between: bytes = b""
    before_index: bytes = b""
    before_tail: bytes = b""
    recipe_last: bool = False
    index: Callable[[list[Any]], None] | None = None
    index_raw: Callable[[bytes], bytes] | None = None

    def build(self) -> bytes:
        values = self.values
        data = SIGNATURE + struct.pack("<HH", *self.version) + self.before_head
        head = msgpack.packb({"source": "", "writer": "cases"}) if self.head is None else self.head
        data += chunk(b"HEAD", head) + self.after_head
        packed = self.table or compress(msgpack.packb(list(values.values())) if self.raw is None else self.raw)
        usual = b"\x03\x80" if values["rows"] == 1 else b"\x03\x80\x03\x80" + GIF
        payload = self.block or block(packed, self.hints, usual if self.payloads is None else self.payloads)
        places: list[int] = []
        block_at = len(data)
        for recipe in () if self.recipe_last else self.recipes:
            places.append(len(data))
            data += chunk(b"RECP", recipe)
        data += self.between
        block_at = len(data)
        data += chunk(b"BLCK", payload)
        for recipe in self.recipes if self.recipe_last else ():
            places.append(len(data))
            data += chunk(b"RECP", recipe)
        data += self.before_index
        index = self._index(places, block_at, payload)
        if self.index:
            self.index(index)
        raw = msgpack.packb(index)
        at = len(data)
        data += chunk(b"INDX", compress(self.index_raw(raw) if self.index_raw else raw)) + self.before_tail
        return data + tail(at, len(data) + 28)

    def _index(self, recipes: list[int], block_at: int, payload: bytes) -> list[Any]:
        """What is true of the base, with the names and classes that a case gave it."""
        values = self.values
        table, hints = struct.unpack("<II", payload[:8])
        single = values["rows"] == 1
        labels = values["classes"]
        names = values["names"] or [""] * 3
        keys = [f"{labels[0]}/{names[0]}"]
        if not single and len(names) == 3:
            keys += [f"{labels[0]}/{names[1]}", f"{labels[1]}/{names[2]}"]
        return [
            1 if single else 3,
            recipes,
            [len(recipe) for recipe in self.recipes],
            [block_at],
            [len(payload)],
            [table],
            [hints],
            [1 if single else 3],
            labels,
            [[0, 1]] if single else [[0, 2, 1, 1]],
            [[min(keys)], [max(keys)]],
            [0, 2],
        ]


def base(**changes: Any) -> File:
    """The base with changes in its table."""
    return File(three(**changes))


def single(**changes: Any) -> File:
    """The file of one prompt with changes in its table."""
    return File(one(**changes))


def with_(file: File, **parts: Any) -> bytes:
    """The bytes of a file with other parts."""
    for name, value in parts.items():
        setattr(file, name, value)
    return file.build()


def put(place: int, value: Any) -> Callable[[list[Any]], None]:
    """Sets one value of the index."""
    return lambda index: index.__setitem__(place, value)


def patch(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def flip_crc(data: bytes, kind: bytes) -> bytes:
    at = data.index(kind)
    (length,) = struct.unpack("<I", data[at + 4 : at + 8])
    return patch(data, at + 8 + length, bytes([data[at + 8 + length] ^ 1]))


def hinted(hint: bytes, codec: int = 0, **changes: Any) -> File:
    """The base with a hint at its first row."""
    width = 4 if len(hint) > 0xFFFF else 2 if len(hint) > 0xFF else 1
    column = b"".join(bytes([len(hint) >> 8 * plane & 0xFF, 0, 0]) for plane in range(width))
    return File(three(hint=column, codec=bytes([codec, 0, 0]) if codec else 0, **changes), hints=hint)


def coded(coding: int, data: bytes, height: int = 3, width: int = 5) -> bytes:
    """A file of one map under a coding."""
    return with_(single(coding=coding, bits=len(data), height=height, width=width), payloads=data)


def vp8_header(**parts: int) -> bytes:
    """A hint's header of 16 x 16 pixels with other parts: key, profile, shown, first, start, width, height."""
    values = {"key": 0, "profile": 0, "shown": 1, "first": 8, "start": 0x2A019D, "width": 16, "height": 16} | parts
    tag = values["key"] | values["profile"] << 1 | values["shown"] << 4 | values["first"] << 5
    start = values["start"].to_bytes(3, "little")
    return tag.to_bytes(3, "little") + start + struct.pack("<HH", values["width"], values["height"]) + bytes(4)


def zstd(
    content: bytes, *, declared: int | None = None, flags: int = 0, extra: bytes = b"", window: int | None = None
) -> bytes:
    """A zstd frame of one raw block by hand: a size of eight bytes, and flags and header bytes as given."""
    size = struct.pack("<Q", len(content) if declared is None else declared)
    head = bytes([0xC0 | flags | (0x20 if window is None else 0)]) + (b"" if window is None else bytes([window]))
    block_head = struct.pack("<I", len(content) << 3 | 1)[:3]
    return struct.pack("<I", 0xFD2FB528) + head + extra + size + block_head + content


RAW = msgpack.packb(list(three().values()))
VP8 = bytes.fromhex("7001009d012a0800040005407c2590027401400000feecbd82af57994da438d0")
RINGS = bytes.fromhex("f8a12c7b23ace3135018da4a15dd73f959176d4fe317b78d49485605dcc73b40")
EDGES = [[100, 200, 0, 0]]

OPEN, READ, USE, CHECK, ACCEPT = "open", "read", "use", "check", "accept"


def frame_cases() -> Iterator[tuple[str, str, str, str, bytes]]:
    """Signature, versions, chunks, order, trailer."""
    whole = base().build()
    index_at = whole.index(b"INDX")
    end = len(whole)
    yield "base", "", ACCEPT, "the file that the others change", whole
    yield "signature", "M1", OPEN, "the signature lost its high bit", patch(whole, 0, b"\x09")
    yield "major-0", "M2", OPEN, "major version 0", with_(base(), version=(0, 0))
    yield "major-2", "M2", OPEN, "major version 2", with_(base(), version=(2, 0))
    yield "minor-999", "", ACCEPT, "minor version 999", with_(base(), version=(1, 999))
    yield "crc-block", "M4", READ, "a wrong checksum of a block", flip_crc(whole, b"BLCK")
    for kind in (b"HEAD", b"RECP", b"INDX", b"TAIL"):
        name = kind.decode()
        yield f"crc-{name}", "M4", OPEN, f"a wrong checksum of {name}", flip_crc(whole, kind)
    small, capital = chunk(b"abcd", b""), chunk(b"ABCD", b"")
    yield "small-chunk", "", ACCEPT, "a chunk to skip before a block", with_(base(), between=small)
    yield "small-chunk-behind", "", ACCEPT, "a chunk to skip behind a block", with_(base(), before_index=small)
    yield (
        "small-chunk-crc",
        "M50",
        CHECK,
        "a chunk to skip with a wrong checksum",
        with_(base(), between=small[:-1] + b"!"),
    )
    yield "capital-chunk", "M6", CHECK, "an unknown chunk that may not be skipped", with_(base(), between=capital)
    yield "chunk-digits", "M39", CHECK, "a type of digits", with_(base(), between=chunk(b"1234", b""))
    yield "chunk-zeros", "M39", CHECK, "a type of a letter and zeros", with_(base(), between=chunk(b"a\0\0\0", b""))
    yield "chunk-long", "M7", OPEN, "a length above the cap", patch(whole, 16, struct.pack("<I", (1 << 28) + 1))
    yield "no-head", "M8", OPEN, "no HEAD", _without_head()
    yield "chunk-before-head", "M8", OPEN, "a chunk before HEAD", with_(base(), before_head=small)
    two = with_(base(), between=chunk(b"HEAD", msgpack.packb({})))
    yield "two-heads", "M8", CHECK, "a second HEAD", two
    yield "between-index-and-tail", "M11", OPEN, "a chunk between INDX and TAIL", with_(base(), before_tail=small)
    stray = chunk(b"INDX", whole[index_at + 8 : -32])
    yield "stray-index", "M9", CHECK, "an INDX without a TAIL", with_(base(), between=stray)
    yield "stray-tail", "M9", CHECK, "a TAIL without an INDX", with_(base(), between=tail(12, 40))
    yield "cut", "M10", OPEN, "the last byte is missing", whole[:-1]
    yield "extra-byte", "M10", OPEN, "a byte behind the trailer", whole + b"\0"
    yield "no-trailer", "M10", OPEN, "the trailer is missing", whole[:-28]
    yield "trailer-length", "M11", OPEN, "the trailer names another length", whole[:-28] + tail(index_at, end + 1)
    yield "trailer-index", "M11", OPEN, "the trailer names another place", whole[:-28] + tail(index_at - 1, end)
    yield "trailer-index-huge", "M11", OPEN, "an index at 2^63", whole[:-28] + tail(1 << 63, end)


def _without_head() -> bytes:
    data = SIGNATURE + struct.pack("<HH", 1, 0)
    index = chunk(b"INDX", frame([0, [], [], [], [], [], [], [], [], [], [[], []], []]))
    return data + index + tail(12, 12 + len(index) + 28)


def head_cases() -> Iterator[tuple[str, str, str, str, bytes]]:
    """HEAD and recipes."""
    pack = msgpack.packb
    for name, rule, what, head in (
        ("head-empty", "", "no keys", pack({})),
        ("head-other-value", "", "an unknown key with an integer", pack({"source": "", "later": 7})),
        ("head-int-key", "M43", "a key that is an integer", pack({7: "x"})),
        ("head-twice", "M43", "a key that repeats", b"\x82" + 2 * (pack("source") + pack("x"))),
        ("head-utf8", "M43", "a text that is not UTF-8", b"\x81" + pack("source") + b"\xa1\xff"),
        ("head-extension", "M43", "an extension type", b"\x81" + pack("later") + b"\xd4\1\0"),
        ("head-slack", "M43", "a byte behind the map", pack({}) + b"\0"),
        ("head-source-integer", "M53", "a source that is no text", pack({"source": 7})),
        ("head-source-long", "M26", "a source of 4097 bytes", pack({"source": "s" * 4097})),
        ("head-long", "M26", "65,537 bytes", pack({"later": "x" * 65_527})),
    ):
        yield name, rule, OPEN if rule else ACCEPT, f"HEAD: {what}", with_(base(), head=head)
    for name, rule, what, recipe in (
        ("recipe-unknown-key", "", "an unknown key", pack([0, {"later": [1]}])),
        ("recipe-guidance-integer", "", "an integer for a float", pack([0, {"guidance": 7}])),
        ("recipe-preset", "", "a preset that nobody knows", pack([0, {"preset": "other"}])),
        ("recipe-three", "M45", "an array of three", pack([0, {}, 0])),
        ("recipe-number", "M45", "number 1 in place 0", pack([1, {}])),
        ("recipe-steps-text", "M45", "steps as text", pack([0, {"steps": "20"}])),
        ("recipe-steps-float", "M45", "steps as a float", pack([0, {"steps": 20.0}])),
        ("recipe-steps-negative", "M45", "negative steps", pack([0, {"steps": -1}])),
        ("recipe-steps-large", "M45", "steps of 2^32", pack([0, {"steps": 1 << 32}])),
        ("recipe-guidance-nil", "M45", "guidance nil", pack([0, {"guidance": None}])),
        ("recipe-guidance-nan", "M45", "guidance NaN", pack([0, {"guidance": float("nan")}])),
        ("recipe-guidance-infinite", "M45", "guidance infinite", pack([0, {"guidance": float("inf")}])),
        ("recipe-extra", "M45", "extra of integers", pack([0, {"extra": {"a": 1}}])),
        ("recipe-twice", "M43", "a key that repeats", b"\x92\0\x82" + 2 * (pack("steps") + b"\1")),
        ("recipe-long", "M26", "16,385 bytes", pack([0, {"later": "x" * 16_373}])),
    ):
        yield name, rule, OPEN if rule else ACCEPT, f"a recipe: {what}", with_(base(), recipes=(recipe,))
    more = (pack([0, {}]), pack([1, {"steps": 5}]))
    yield "two-recipes", "", ACCEPT, "two recipes, one unused", with_(base(), recipes=more)
    yield "recipe-behind", "M23", READ, "a recipe behind the block that uses it", with_(base(), recipe_last=True)


def table_cases() -> Iterator[tuple[str, str, str, str, bytes]]:
    """zstd, msgpack, lengths, the two checksums of the front."""

    def whole(**parts: Any) -> bytes:
        return with_(base(), **parts)

    usual = b"\x03\x80\x03\x80" + GIF
    yield "payload-short", "M12", READ, "a byte of the payloads is missing", whole(payloads=usual[:-1])
    yield "payload-slack", "M12", READ, "a byte behind the payloads", whole(payloads=usual + b"\0")
    yield "hints-slack", "M12", READ, "hints that no row has", whole(hints=b"x")
    good = block(compress(RAW), b"", usual)
    length = len(compress(RAW))
    yield "crc-table", "M37", READ, "a wrong checksum of the table", whole(block=patch(good, 8 + length, b"\0\0\0\0"))
    bad = hinted(VP8).build()
    at = bad.index(VP8) + len(VP8)
    start = bad.index(b"BLCK")
    broken = patch(bad, at, b"\0\0\0\0")
    end = start + 8 + int.from_bytes(bad[start + 4 : start + 8], "little")
    yield "crc-hints", "M37", READ, "a wrong checksum of the hints", patch(broken, end, crc(broken[start:end]))
    yield (
        "declared-large",
        "M13",
        READ,
        "a table that declares 2^24 + 1 bytes",
        whole(table=zstd(RAW, declared=(1 << 24) + 1)),
    )
    yield (
        "declared-less",
        "M14",
        READ,
        "a table that declares a byte less",
        whole(table=zstd(RAW, declared=len(RAW) - 1)),
    )
    undeclared = zstandard.ZstdCompressor(write_content_size=False).compress(RAW)
    yield "declared-not", "M42", READ, "a table that declares no size", whole(table=undeclared)
    yield "zstd-checksum", "M42", READ, "a checksum of zstd", whole(table=zstd(RAW, flags=4) + bytes(4))
    right = zstandard.ZstdCompressor(write_checksum=True).compress(RAW)
    yield "zstd-checksum-right", "M42", READ, "a right checksum of zstd", whole(table=right)
    yield "zstd-dictionary", "M42", READ, "a dictionary", whole(table=zstd(RAW, flags=1, extra=b"\5"))
    yield "zstd-window", "M42", READ, "a window of 64 MiB", whole(table=zstd(RAW, window=0x80))
    yield "zstd-two", "M42", READ, "two frames", whole(table=zstd(RAW) + zstd(RAW))
    yield "zstd-behind", "M42", READ, "a byte behind the frame", whole(table=zstd(RAW) + b"\0")
    skippable = struct.pack("<II", 0x184D2A50, 4) + b"skip"
    yield "zstd-skippable", "M42", READ, "a skippable frame behind", whole(table=zstd(RAW) + skippable)
    yield "zstd-window-small", "", ACCEPT, "a frame with a window of its own", whole(table=zstd(RAW, window=0x58))
    values = list(three().values())

    def array(extra: bytes, count: int = 1) -> bytes:
        return bytes(b"\xdc" + struct.pack(">H", 18 + count) + RAW[3:] + extra)

    yield "table-17", "M53", READ, "a value is missing in a table", whole(raw=msgpack.packb(values[:-1]))
    yield "table-slack", "M43", READ, "a byte behind the table", whole(raw=RAW + b"\0")
    for name, what, extra in (
        ("integer", "an integer of 64 bits", b"\xcf" + b"\xff" * 8),
        ("map", "a map with an integer key", msgpack.packb({1: 2}, strict_types=True)),
        ("extension", "an extension type", b"\xd4\1\0"),
        ("utf8", "a text that is not UTF-8", b"\xa1\xff"),
        ("nested", "32 nested arrays", b"\x91" * 31 + b"\x90"),
    ):
        yield f"further-{name}", "", ACCEPT, f"a further value: {what}", whole(raw=array(extra))
    yield "further-short", "M43", READ, "a further value that promises more", whole(raw=array(b"\xdd\xff\xff\xff\xff"))
    yield "rows-float", "M53", READ, "a number of rows that is a float", whole(raw=msgpack.packb([3.0, *values[1:]]))
    yield "rows-0", "M53", READ, "no rows", base(rows=0).build()
    yield "rows-1025", "M26", READ, "1025 rows", base(rows=1025).build()
    wide = b"\xdc\0\x12\xcd\0\3" + RAW[4:]
    yield "integer-wide", "", ACCEPT, "an integer wider than necessary", whole(raw=wide)
    signed = b"\xdc\0\x12\xd3" + struct.pack(">q", 3) + RAW[4:]
    yield "integer-signed", "", ACCEPT, "a signed integer of 64 bits", whole(raw=signed)
    yield "names-2", "M53", READ, "two names for three rows", base(names=["a", "b"]).build()
    surrogate = RAW.replace(b"\xa3cat", b"\xa3\xed\xa0\x80")
    yield "class-surrogate", "M43", READ, "a class name with a lone surrogate", whole(raw=surrogate)


def column_cases() -> Iterator[tuple[str, str, str, str, bytes]]:
    """Columns, dictionaries, seeds, settings, kinds, sizes."""
    cases: list[tuple[str, str, str, Values]] = [
        ("column-3n", "M15", "a column of three bytes a row", {"label": b"\0\0\1" + bytes(6)}),
        ("column-short", "M15", "a column of two rows", {"label": b"\0\1"}),
        ("column-empty", "M15", "an empty column", {"label": b""}),
        ("column-constant", "M15", "equal numbers as bytes", {"height": b"\3\3\3"}),
        ("column-wide", "M15", "a column that is too wide", {"label": b"\0\0\1\0\0\0"}),
        ("column-negative", "M15", "a negative number", {"height": -1}),
        ("column-true", "M15", "true for 1", {"text": True, "texts": ["t"]}),
        ("column-text", "M15", "a text for bytes", {"label": "\0\0\1"}),
        ("class-range", "M15", "class 2 of two", {"label": b"\0\1\2"}),
        ("kind-3", "M15", "kind 3", {"kind": b"\0\0\3"}),
        ("prompt-range", "M15", "prompt 1 of none", {"text": 1}),
        ("seeds-range", "M15", "seeds 2 of two", {"seeds": [[[0, 2], []], b"\0\1\2"]}),
        ("made-range", "M15", "settings 2 of one", {"made": [EDGES, b"\1\2\0"]}),
        ("recipe-range", "M15", "recipe 1 of one", {"recipe": 1}),
        ("coding-range", "M15", "coding 65,536", {"coding": b"\0\0\0\0\0\0\1\0\0\0\0\0"}),
        ("codec-range", "M15", "codec 256", {"codec": b"\0\0\0\1\0\0"}),
        ("seeds-fall", "M16", "seeds that fall", {"seeds": [[[2, 1], []], b"\0\0\1"]}),
        ("seeds-touch", "M16", "runs that touch", {"seeds": [[[0, 1, 2, 2], []], b"\0\0\1"]}),
        ("seeds-odd", "M16", "half a run", {"seeds": [[[0], []], b"\0\0\1"]}),
        ("seeds-4097", "M16", "4097 seeds", {"seeds": [[[0, 4096], []], b"\0\0\1"]}),
        ("seed-large", "M16", "a seed of 2^32", {"seeds": [[[0, 1 << 32], []], b"\0\0\1"]}),
        ("setting-large", "M53", "a threshold of 65,536", {"made": [[[65_536, 0, 0, 0]], b"\1\1\0"]}),
        ("settings-five", "M53", "five settings", {"made": [[[1, 2, 3, 4, 5]], b"\1\1\0"]}),
        ("low-above-high", "", "a lower threshold above the upper one", {"made": [[[200, 100, 0, 0]], b"\1\1\0"]}),
        ("class-twice", "M40", "a class name that repeats", {"classes": ["cat", "cat"]}),
        ("class-order", "M40", "classes not in the order of their use", {"label": b"\1\1\0"}),
        ("class-unused", "M40", "a class that no row has", {"classes": ["cat", "dog", "emu"]}),
        ("prompt-twice", "M40", "a prompt that repeats", {"texts": ["t", "t"], "text": b"\1\2\0"}),
        ("prompt-order", "M40", "prompts not in the order of their use", {"texts": ["t", "u"], "text": b"\2\1\0"}),
        ("prompt-unused", "M40", "a prompt that no row has", {"texts": ["t"], "text": 0}),
        ("seeds-twice", "M40", "seeds that repeat", {"seeds": [[[0, 2], [0, 2], []], b"\0\1\2"]}),
        ("seeds-unused", "M40", "seeds that no row has", {"seeds": [[[0, 2], [], [1, 1]], b"\0\0\1"]}),
        ("settings-twice", "M40", "settings that repeat", {"made": [EDGES * 2, b"\1\2\0"]}),
        ("settings-unused", "M40", "settings that no row has", {"made": [[*EDGES, [1, 2, 3, 4]], b"\1\1\0"]}),
        ("prompt-class", "M41", "a prompt that is the class name of its row", {"texts": ["cat"], "text": b"\1\0\0"}),
        ("prompt-other-class", "", "a prompt that is another row's class name", {"texts": ["dog"], "text": b"\1\0\0"}),
        ("names-empty", "M41", "names that are all empty", {"names": ["", "", ""]}),
        ("no-names", "", "no names", {"names": []}),
        ("prompt-empty", "", "an empty prompt", {"texts": [""], "text": b"\1\0\0"}),
        ("prompt-control", "", "a prompt with control characters", {"texts": ["\x1b[2J\0"], "text": b"\1\0\0"}),
        ("prompts", "", "two prompts", {"texts": ["t", "u"], "text": b"\1\2\0"}),
        ("prompt-long", "M19", "a prompt of 8193 bytes", {"texts": ["p" * 8193], "text": b"\1\0\0"}),
        (
            "map-size-same",
            "M46",
            "a map size that repeats the image's",
            {"map_height": b"\3\0\0", "map_width": b"\5\0\0"},
        ),
        ("map-size-half", "M46", "a map size with one side 0", {"map_height": b"\3\0\0"}),
        ("map-size-other", "", "a map of another size", {"map_height": b"\5\0\0", "map_width": b"\3\0\0"}),
        ("size-0", "", "a real image of 0 x 0 pixels", {"height": b"\3\3\0", "width": b"\5\5\0"}),
        ("side-large", "M15", "a side of 65,536", {"height": 1 << 16}),
        ("pixels", "M26", "more pixels than the cap", {"height": 65_535, "width": 65_535}),
        ("prompt-without-settings", "M47", "a prompt without settings", {"made": [EDGES, b"\1\0\0"]}),
        ("real-settings", "M17", "a real exemplar with settings", {"made": [EDGES, 1]}),
        ("real-coding", "M17", "a real exemplar with a coding", {"coding": b"\0\0\1"}),
        ("real-map", "M17", "a real exemplar with a map size", {"map_height": b"\0\0\7", "map_width": b"\0\0\7"}),
        ("codec-without-hint", "M17", "a codec without a hint", {"codec": 1}),
    ]
    for name, rule, what, changes in cases:
        seeds = changes.get("seeds", [[[0, 2]]])[0][0]
        index = put(11, seeds) if name in ("seeds-unused", "seeds-twice") else None
        index = put(8, ["cat", "dog"]) if name in ("class-twice", "class-unused") else index
        yield name, rule, READ if rule else ACCEPT, what, with_(base(**changes), index=index)
    empty = base(bits=b"\2\2\0")
    yield "real-empty", "M17", READ, "a real exemplar without bytes", with_(empty, payloads=b"\x03\x80" * 2)
    hint = File(three(hint=bytes([0, 0, len(VP8)])), hints=VP8)
    yield "real-hint", "M17", READ, "a real exemplar with a hint", hint.build()
    many = with_(single(seeds=[[[0, 4095]], 0]), index=put(11, [0, 4095]))
    yield "seeds-4096", "", ACCEPT, "4096 seeds", many
    latent = single(kind=2, made=[[], 0])
    yield "latent-unknown", "M38", USE, "a latent exemplar of model 0", with_(latent, payloads=b"\0\x80")
    yield (
        "latent-hint",
        "M17",
        READ,
        "a latent exemplar with a hint",
        with_(single(kind=2, made=[[], 0], hint=len(VP8)), payloads=b"\0\x80", hints=VP8),
    )


def name_cases() -> Iterator[tuple[str, str, str, str, bytes]]:
    """Class names and names."""
    for name, label in (
        ("dots", ".."),
        ("empty", ""),
        ("slash", "a/b"),
        ("backslash", "a\\b"),
        ("drive", "c:x"),
        ("control", "a\n"),
        ("long", "c" * 256),
    ):
        yield f"class-{name}", "M19", OPEN, f"the class name {label[:9]!r}", base(classes=[label, "dog"]).build()
    for name, label in (
        ("digit-colon", "1:x"),
        ("device", "CON"),
        ("c1", "a\x85"),
        ("bom", "\ufeffa"),
        ("space", "a "),
        ("astral", "\U0001f600"),
    ):
        yield f"class-{name}", "", ACCEPT, f"the class name {label!r}", base(classes=[label, "dog"]).build()
    for name, text in (
        ("double", "a//b"),
        ("up", "a/../b"),
        ("backslash", "a\\b"),
        ("slash-end", "a/"),
        ("drive", "C:a"),
        ("delete", "a\x7f"),
        ("long", "n" * 1025),
    ):
        yield f"name-{name}", "M19", READ, f"the name {text[:9]!r}", base(names=[text, "b", "c"]).build()
    yield "name-drive-inside", "", ACCEPT, "a drive letter inside a name", base(names=["a/C:b", "b", "c"]).build()
    yield "name-twice", "M50", CHECK, "two exemplars of one key", base(names=["a", "a", "c"]).build()


def index_cases() -> Iterator[tuple[str, str, str, str, bytes]]:
    """The index by itself, and against its blocks."""
    block_at = base().build().index(b"BLCK")
    payload = struct.unpack("<I", base().build()[block_at + 4 : block_at + 8])[0]
    for name, rule, level, what, change in (
        ("block-offset", "M21", OPEN, "a block one byte later", put(3, [block_at + 1])),
        ("block-length", "M21", OPEN, "a block that reaches into the index", put(4, [payload + 1])),
        ("recipe-at-0", "M21", OPEN, "a recipe at byte 0", put(1, [0])),
        ("recipe-at-block", "M21", OPEN, "a recipe where the block is", put(1, [block_at])),
        ("recipe-length", "M21", OPEN, "a recipe that reaches into the block", put(2, [17])),
        ("block-length-less", "M23", READ, "a block that is shorter than it says", put(4, [payload - 1])),
        (
            "table-length",
            "M23",
            READ,
            "another length of the table",
            lambda index: index[5].__setitem__(0, index[5][0] - 1),
        ),
        ("hints-length", "M23", READ, "another length of the hints", put(6, [1])),
        ("front-long", "M22", OPEN, "a table longer than its block", put(5, [payload])),
        ("total", "M22", OPEN, "four exemplars", put(0, 4)),
        ("class-counts", "M22", OPEN, "counts of a block that do not add up", put(9, [[0, 2, 1, 2]])),
        ("class-zero", "M22", OPEN, "a count of 0", put(9, [[0, 3, 1, 0]])),
        ("class-split", "M22", OPEN, "a class twice in a block", put(9, [[0, 1, 1, 1, 0, 1]])),
        ("keys-swapped", "M22", OPEN, "a smallest key above the largest", put(10, [["dog/c"], ["cat/a"]])),
        ("classes-order", "M49", OPEN, "class names not in the order of first use", put(9, [[1, 1, 0, 2]])),
        ("classes-unused", "M49", OPEN, "a class that no block has", put(8, ["cat", "dog", "emu"])),
        ("counts-swapped", "M23", READ, "other counts", put(9, [[0, 1, 1, 2]])),
        ("classes-renamed", "M23", READ, "another class", put(8, ["cat", "emu"])),
        ("rows", "M23", READ, "another number of rows", _four_rows),
        ("key", "M23", READ, "another smallest key", put(10, [["cat/0"], ["dog/c"]])),
        ("seeds-fewer", "M23", READ, "a seed is missing", put(11, [0, 1])),
        ("seeds-more", "M50", CHECK, "a seed that no exemplar has", put(11, [0, 3])),
        ("seeds-fall", "M16", OPEN, "seeds that fall", put(11, [2, 0])),
        ("seeds-many", "M16", OPEN, "more than 1,048,576 seeds", put(11, [0, 1 << 20])),
        ("columns-13", "", ACCEPT, "a further value", lambda index: index.append([{}])),
        ("columns-11", "M53", OPEN, "a value is missing", lambda index: index.pop()),
        ("no-block", "M50", CHECK, "a block that is not in the index", _no_block),
    ):
        yield f"index-{name}", rule, level, f"index: {what}", with_(base(), index=change)
    more = (msgpack.packb([0, {}]), msgpack.packb([1, {}]))
    yield "index-no-recipe", "M50", CHECK, "index: a recipe is missing", with_(base(), recipes=more, index=_no_recipe)
    wrong = with_(base(), index_raw=lambda raw: raw + b"\0")
    yield "index-slack", "M43", OPEN, "index: a byte behind it", wrong


def _four_rows(index: list[Any]) -> None:
    index[0], index[7], index[9] = 4, [4], [[0, 3, 1, 1]]


def _no_recipe(index: list[Any]) -> None:
    index[1].pop()
    index[2].pop()


def _no_block(index: list[Any]) -> None:
    index[0], index[3:12] = 0, [[], [], [], [], [], [], [], [[], []], []]


def map_cases() -> Iterator[tuple[str, str, str, str, bytes]]:
    """Coded maps and hints."""
    for name, rule, what, coding, data, size in (
        ("packed-short", "M32", "a byte too few", 0, "03", (3, 5)),
        ("packed-long", "M32", "a byte too many", 0, "038000", (3, 5)),
        ("packed-bit", "M33", "a 1 after the last pixel", 0, "0381", (3, 5)),
        ("rle-to-end", "M34", "a run that reaches the end of the map", 1, "7F", (3, 5)),
        ("rle-cut", "M35", "bytes that end inside a code", 1, "00", (3, 5)),
        ("rle-ones", "M35", "eight 1s and the end", 1, "FF", (3, 5)),
        ("context-ones", "M36", "FF FF FF FF at the beginning", 2, "FFFFFFFF", (3, 5)),
        ("context-zero", "M36", "a last byte of 0", 2, "F93300", (3, 5)),
        ("context-other-end", "M36", "another number at the end", 2, (RINGS[:-1] + b"\x41").hex(), (32, 32)),
        ("context-left-over", "M36", "bytes left over", 2, "F933" + "00" * 8 + "01", (3, 5)),
        ("context-empty", "M36", "bytes for no pixel", 2, "01", (0, 5)),
        ("coding-3", "M31", "coding 3", 3, "0380", (3, 5)),
        ("coding-300", "M31", "coding 300", 300, "0380", (3, 5)),
        ("context", "", "a map under coding 2", 2, RINGS.hex(), (32, 32)),
        ("context-no-pixels", "", "no pixels under coding 2", 2, "", (0, 5)),
        ("packed-not-least", "", "a coding that is not the shortest", 0, "00" * 512, (64, 64)),
    ):
        yield name, rule, USE if rule else ACCEPT, f"a map: {what}", coded(coding, bytes.fromhex(data), *size)
    yield "hint", "", ACCEPT, "a hint", hinted(VP8).build()
    for name, what, hint in (
        ("short", "9 bytes", VP8[:9]),
        ("not-key", "not a key frame", vp8_header(key=1)),
        ("profile", "profile 4", vp8_header(profile=4)),
        ("hidden", "a frame that is not shown", vp8_header(shown=0)),
        ("partition", "a first partition beyond the end", vp8_header(first=100)),
        ("start", "another start code", vp8_header(start=0x2A019C)),
        ("scale", "scaling", vp8_header(width=16 | 1 << 14)),
        ("width-0", "0 pixels wide", vp8_header(width=0)),
        ("width-1025", "1025 pixels wide", vp8_header(width=1025)),
    ):
        yield f"hint-{name}", "M28", USE, f"a hint: {what}", hinted(hint).build()
    yield "hint-cut", "M29", USE, "a hint that cannot be decoded", hinted(VP8[:14]).build()
    yield "hint-codec", "M38", USE, "a hint under codec 200", hinted(VP8, 200).build()
    yield "hint-model", "M38", USE, "a hint under codec 1 of model 0", hinted(b"\0abc", 1).build()
    yield "hint-long", "M15", READ, "a hint of 65,537 bytes", hinted(bytes(65_537)).build()


CASES = [
    Case(*case)
    for cases in (frame_cases, head_cases, table_cases, column_cases, name_cases, index_cases, map_cases)
    for case in cases()
]
