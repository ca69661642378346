"""A second reader, written from spec/FORMAT.md alone: slow, plain, strict, without any code of the library.

What it returns is shaped like the golden files' JSON. It refuses a file with the number of the rule that is broken.
"""

from __future__ import annotations

import base64
import io
import itertools
import math
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import zstandard
from PIL import Image

from tests.codec import reference_codings

SIGNATURE = bytes([0x89, 0x45, 0x53, 0x58, 0x0D, 0x0A, 0x1A, 0x0A])
KINDS = ("prompt", "real", "latent")
RECIPE: dict[str, type] = dict.fromkeys(
    [
        "preset",
        "prompt_suffix",
        "negative_prompt",
        "scheduler",
        "dtype",
        "model",
        "model_revision",
        "controlnet",
        "controlnet_revision",
    ],
    str,
)
RECIPE |= {"steps": int, "resolution": int, "extra": dict}
RECIPE |= dict.fromkeys(("guidance", "control_strength", "hint_strength"), float)
Chunk = tuple[int, str, bytes]
"""(offset, type, payload)"""


class Refused(Exception):  # noqa: N818
    """The argument is the number of the rule."""


def need(ok: object, rule: str) -> None:
    if not ok:
        raise Refused(rule)


def chunks(data: bytes) -> list[Chunk]:
    """(offset, type, payload) of every chunk, by walking."""
    need(data[:8] == SIGNATURE, "M1")
    found, at = [], 12
    while at < len(data):
        one = chunk(data, at)
        found.append(one)
        at += 12 + len(one[2])
    return found


def chunk(data: bytes, at: int, wrong: str = "M4") -> Chunk:
    need(at + 12 <= len(data), "M4")
    kind = data[at : at + 4]
    need(re.fullmatch(rb"[A-Za-z]{4}", kind), "M39")
    (length,) = struct.unpack("<I", data[at + 4 : at + 8])
    need(length <= 268_435_456, "M7")
    end = at + 8 + length
    need(end + 4 <= len(data), "M4")
    need(data[end : end + 4] == crc(data[at:end]), wrong if kind[:1].islower() else "M4")
    return at, kind.decode("ascii"), data[at + 8 : end]


def crc(data: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(data))


# --- values ---


class Msgpack:
    """One value from bytes; what is skipped is not looked into."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.skipping = data, 0, False

    def take(self, count: int) -> bytes:
        need(self.at + count <= len(self.data), "M43")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(">" + form, self.take(struct.calcsize(form)))[0]

    def text(self, count: int) -> str:
        raw = self.take(count)
        if self.skipping:
            return ""
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("M43") from None

    def array(self, count: int, depth: int) -> list[Any]:
        need(self.at + count <= len(self.data), "M43")
        return [self.value(depth + 1) for _ in range(count)]

    def map(self, count: int, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        need(self.at + 2 * count <= len(self.data), "M43")
        for _ in range(count):
            key = self.value(depth + 1)
            value = self.value(depth + 1)
            if not self.skipping:
                need(isinstance(key, str) and key not in values, "M43")
                values[key] = value
        return values

    def extension(self, count: int) -> None:
        need(self.skipping, "M43")
        self.take(count + 1)

    def value(self, depth: int = 1) -> Any:
        assert depth <= 40, "deeper than any of these files"
        (t,) = self.take(1)
        if t < 0x80:
            return t
        if t < 0x90:
            return self.map(t & 15, depth)
        if t < 0xA0:
            return self.array(t & 15, depth)
        if t < 0xC0:
            return self.text(t & 31)
        if t >= 0xE0:
            return t - 256
        if t in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[t]
        forms = {
            0xCA: "f",
            0xCB: "d",
            0xCC: "B",
            0xCD: "H",
            0xCE: "I",
            0xCF: "Q",
            0xD0: "b",
            0xD1: "h",
            0xD2: "i",
            0xD3: "q",
        }
        if t in forms:
            return self.number(forms[t])
        if 0xD4 <= t <= 0xD8:
            return self.extension(1 << (t - 0xD4))
        need(t != 0xC1, "M43")
        if 0xC7 <= t <= 0xC9:
            return self.extension(self.number("BHI"[t - 0xC7]))
        if 0xC4 <= t <= 0xC6:
            return self.take(self.number("BHI"[t - 0xC4]))
        if t in (0xD9, 0xDA, 0xDB):
            return self.text(self.number("BHI"[t - 0xD9]))
        if t in (0xDC, 0xDD):
            return self.array(self.number("HI"[t - 0xDC]), depth)
        return self.map(self.number("HI"[t - 0xDE]), depth)

    def end(self) -> None:
        need(self.at == len(self.data), "M43")


def unpack(data: bytes) -> Any:
    parser = Msgpack(data)
    value = parser.value()
    parser.end()
    return value


def table(data: bytes, cap: int, columns: int) -> list[Any]:
    """The first ``columns`` values of the array in a zstd frame."""
    parser = Msgpack(unzstd(data, cap))
    (t,) = parser.take(1)
    need(t & 0xF0 == 0x90 or t in (0xDC, 0xDD), "M53")
    count = t & 15 if t < 0xC0 else parser.number("HI"[t - 0xDC])
    need(count >= columns, "M53")
    values = [parser.value(2) for _ in range(columns)]
    parser.skipping = True
    for _ in range(count - columns):
        parser.value()
    parser.end()
    return values


def unzstd(data: bytes, cap: int) -> bytes:
    """The content of the one frame that ``data`` is (RFC 8878, section 3.1.1)."""
    need(len(data) >= 6 and data[:4] == b"\x28\xb5\x2f\xfd", "M42")
    flags, at = data[4], 5
    single = flags >> 5 & 1
    window = 0
    if not single:
        exponent, mantissa = data[at] >> 3, data[at] & 7
        window = (1 << (10 + exponent)) * (8 + mantissa) // 8
        at += 1
    width = (0, 1, 2, 4)[flags & 3]
    dictionary = int.from_bytes(data[at : at + width], "little")
    at += width
    width = (single, 2, 4, 8)[flags >> 6]
    need(width, "M42")
    size = int.from_bytes(data[at : at + width], "little") + 256 * (width == 2)
    at += width
    need(size <= cap, "M13")
    need(not dictionary and not flags & 4 and window <= cap, "M42")
    last = 0
    while not last:
        need(at + 3 <= len(data), "M14")
        head = int.from_bytes(data[at : at + 3], "little")
        last, kind = head & 1, head >> 1 & 3
        at += 3 + (1 if kind == 1 else head >> 3)
    need(at <= len(data), "M14")
    need(at == len(data), "M42")
    try:
        raw = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except zstandard.ZstdError:
        raise Refused("M14") from None
    need(len(raw) == size, "M14")
    return raw


def integer(value: Any, top: int, rule: str = "M53") -> int:
    need(type(value) is int and 0 <= value <= top, rule)
    return int(value)


def column(value: Any, n: int, top: int) -> list[int]:
    if type(value) is int:
        return [integer(value, top, "M15")] * n
    need(isinstance(value, bytes) and len(value) in (n, 2 * n, 4 * n), "M15")
    width = len(value) // n
    numbers = [sum(value[plane * n + row] << (8 * plane) for plane in range(width)) for row in range(n)]
    need(max(numbers) <= top and len(set(numbers)) > 1, "M15")
    need(width == (1 if max(numbers) < 256 else 2 if max(numbers) < 65_536 else 4), "M15")
    return numbers


def array(value: Any, most: int, least: int = 0) -> list[Any]:
    need(isinstance(value, list) and least <= len(value) <= most, "M53")
    return list(value)


def texts(value: Any, most: int, least: int = 0) -> list[str]:
    found = array(value, most, least)
    need(all(isinstance(v, str) for v in found), "M53")
    return found


def first_use(values: list[Any], used: list[int]) -> None:
    """``used``: the number of each row's value, from 0; -1 for none."""
    need(len({repr(v) for v in values}) == len(values), "M40")
    seen = list(dict.fromkeys(u for u in used if u >= 0))
    need(seen == list(range(len(values))), "M40")


def seeds_of(runs: list[int]) -> list[int]:
    return [s for i in range(0, len(runs), 2) for s in range(runs[i], runs[i + 1] + 1)]


def check_runs(value: Any, most: int) -> list[int]:
    runs = array(value, 2 * most)
    need(all(type(v) is int and 0 <= v <= 4_294_967_295 for v in runs) and len(runs) % 2 == 0, "M16")
    pairs = list(zip(runs[::2], runs[1::2], strict=True))
    need(all(a <= b for a, b in pairs), "M16")
    need(all(b + 1 < c for (_, b), (c, _) in itertools.pairwise(pairs)), "M16")
    need(sum(b - a + 1 for a, b in pairs) <= most, "M16")
    return runs


def plain(text: str) -> bool:
    return not re.search(r"[\\\x00-\x1f\x7f]", text) and not re.match(r"[A-Za-z]:", text)


def check_class(name: str) -> None:
    need(0 < len(name.encode()) <= 255 and plain(name) and "/" not in name and name not in (".", ".."), "M19")


def check_name(name: str) -> None:
    parts = name.split("/")
    need(not name or (len(name.encode()) <= 1024 and plain(name) and not {"", ".", ".."} & set(parts)), "M19")


# --- a file ---


class File:
    """A file, opened through its trailer and index."""

    def __init__(self, data: bytes) -> None:
        need(data[:8] == SIGNATURE, "M1")
        need(len(data) >= 12, "M10")
        need(struct.unpack("<H", data[8:10])[0] == 1, "M2")
        self.data = data
        need(len(data) >= 40 and data[-28:-20] == b"TAIL\x10\0\0\0", "M10")
        need(data[-4:] == crc(data[-28:-4]), "M4")
        self.index_at, length = struct.unpack("<QQ", data[-20:-4])
        need(length == len(data) and 12 <= self.index_at <= length - 40, "M11")
        need(data[self.index_at : self.index_at + 4] == b"INDX", "M11")
        need(
            self.index_at + 12 + int.from_bytes(data[self.index_at + 4 : self.index_at + 8], "little") == length - 28,
            "M11",
        )
        self._read_index(chunk(data, self.index_at)[2])
        need(data[12:16] == b"HEAD", "M8")
        self._read_head(chunk(data, 12)[2])
        self.recipes = [self._recipe(number) for number in range(len(self.recipe_places))]

    def _read_index(self, payload: bytes) -> None:
        t = table(payload, 67_108_864, 12)
        most = self.index_at // 12
        total = integer(t[0], 4_294_967_295)
        recipes = [integer(v, self.index_at, "M21") for v in array(t[1], 65_536)]
        recipe_lengths = [integer(v, 16_384, "M26") for v in array(t[2], len(recipes), len(recipes))]
        need(sum(recipe_lengths) <= 4_194_304, "M26")
        offsets = [integer(v, 1 << 63, "M21") for v in array(t[3], most)]
        n = len(offsets)
        lengths, tables, hints = ([integer(v, 268_435_456, "M21") for v in array(t[i], n, n)] for i in (4, 5, 6))
        self.counts = [integer(v, 1024, "M22") for v in array(t[7], n, n)]
        places = sorted([*zip(recipes, recipe_lengths, strict=True), *zip(offsets, lengths, strict=True)])
        need(recipes == sorted(recipes) and offsets == sorted(offsets), "M21")
        at = 12
        for offset, length in places:
            need(offset >= at, "M21")
            at = offset + 12 + length
        need(at <= self.index_at, "M21")
        need(all(16 + a + b <= c for a, b, c in zip(tables, hints, lengths, strict=True)), "M22")
        need(0 not in self.counts and sum(self.counts) == total, "M22")
        self.classes = texts(t[8], 1_048_576)
        for name in self.classes:
            check_class(name)
        self.members: list[list[tuple[int, int]]] = []
        used: list[int] = []
        for flat, count in zip(array(t[9], n, n), self.counts, strict=True):
            numbers = [integer(v, 1 << 32, "M22") for v in array(flat, 2048, 2)]
            need(len(numbers) % 2 == 0, "M22")
            pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
            need(len(dict(pairs)) == len(pairs) and sum(c for _, c in pairs) == count, "M22")
            need(all(c > 0 and k < len(self.classes) for k, c in pairs), "M22")
            self.members.append(pairs)
            used += [k for k, _ in pairs]
        need(len(set(self.classes)) == len(self.classes), "M49")
        need(list(dict.fromkeys(used)) == list(range(len(self.classes))), "M49")
        self.low, self.high = (texts(v, n, n) for v in array(t[10], 2, 2))
        need(all(a <= b for a, b in zip(self.low, self.high, strict=True)), "M22")
        self.seeds = set(seeds_of(check_runs(t[11], 1_048_576)))
        self.recipe_places = list(zip(recipes, recipe_lengths, strict=True))
        self.block_places = list(zip(offsets, lengths, tables, hints, strict=True))

    def _read_head(self, payload: bytes) -> None:
        need(len(payload) <= 65_536, "M26")
        head = unpack(payload)
        need(isinstance(head, dict), "M53")
        for key in ("source", "writer", "background"):
            need(isinstance(head.get(key, ""), str), "M53")
            need(len(head.get(key, "").encode()) <= 4096, "M26")
        self.source = str(head.get("source", ""))

    def _recipe(self, number: int) -> dict[str, Any]:
        at, length = self.recipe_places[number]
        need(self.data[at : at + 4] == b"RECP", "M21")
        _, _, payload = chunk(self.data, at)
        need(len(payload) == length, "M21")
        need(len(payload) <= 16_384, "M26")
        value = unpack(payload)
        need(isinstance(value, list) and len(value) == 2 and isinstance(value[1], dict), "M45")
        need(type(value[0]) is int and value[0] == number, "M45")
        recipe: dict[str, Any] = {}
        for key, v in value[1].items():
            kind = RECIPE.get(key)
            if kind is None:
                continue
            if kind is float and type(v) is int:
                v = float(integer(v, 4_294_967_295, "M45"))
            need(type(v) is kind, "M45")
            if kind is int:
                integer(v, 4_294_967_295, "M45")
            need(kind is not float or math.isfinite(v), "M45")
            need(kind is not dict or all(isinstance(x, str) for x in v.values()), "M45")
            recipe[key] = v
        return recipe

    def block(self, number: int) -> list[dict[str, Any]]:
        """The rows of a block; what may fail alone is not yet decoded."""
        at, length, table_length, hints_length = self.block_places[number]
        need(self.data[at : at + 8] == b"BLCK" + struct.pack("<I", length), "M23")
        _, _, payload = chunk(self.data, at)
        need(len(payload) >= 16, "M12")
        need(struct.unpack("<II", payload[:8]) == (table_length, hints_length), "M23")
        rows, last_recipe = read_block(payload, self.recipes)
        need(len(rows) == self.counts[number], "M23")
        count: dict[str, int] = {}
        for row in rows:
            count[row["class"]] = count.get(row["class"], 0) + 1
        need(list(count.items()) == [(self.classes[k], c) for k, c in self.members[number]], "M23")
        keys = [f"{row['class']}/{row['name']}" for row in rows]
        need((min(keys), max(keys)) == (self.low[number], self.high[number]), "M23")
        need(all(self.seeds >= set(row["seeds"]) for row in rows), "M23")
        need(self.recipe_places[last_recipe][0] < at, "M23")
        return rows

    def rows(self) -> list[dict[str, Any]]:
        return [row for number in range(len(self.block_places)) for row in self.block(number)]

    def check(self) -> None:
        """The whole file: chunk by chunk, and against the index."""
        found = chunks_of_order(self.data)
        for kind, places in (("RECP", self.recipe_places), ("BLCK", self.block_places)):
            need([at for at, k, _ in found if k == kind] == [place[0] for place in places], "M50")
        rows = self.rows()
        need({s for row in rows for s in row["seeds"]} == self.seeds, "M50")
        keys = [f"{row['class']}/{row['name']}" for row in rows if row["name"]]
        need(len(set(keys)) == len(keys), "M50")
        for row in rows:
            decode(row)


def chunks_of_order(data: bytes) -> list[Chunk]:
    found: list[Chunk] = []
    at = 12
    while at < len(data):
        one = chunk(data, at, "M50")
        _, kind, payload = one
        need(kind in ("HEAD", "RECP", "BLCK", "INDX", "TAIL") or kind[0].islower(), "M6")
        need((kind == "HEAD") == (at == 12), "M8")
        before = found[-1] if found else None
        need((kind == "TAIL") == (before is not None and before[1] == "INDX"), "M9")
        if kind == "TAIL" and before:
            need(payload == struct.pack("<QQ", before[0], at + 28), "M9")
        found.append(one)
        at += 12 + len(payload)
    return found


def read_block(payload: bytes, recipes: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """(the rows of a block, the largest recipe number)."""
    table_length, hints_length = struct.unpack("<II", payload[:8])
    middle = 12 + table_length
    need(middle + hints_length + 4 <= len(payload), "M12")
    need(payload[8 + table_length : middle] == crc(payload[: 8 + table_length]), "M37")
    t = table(payload[8 : 8 + table_length], 16_777_216, 18)
    n = integer(t[0], 1 << 32)
    need(n >= 1, "M53")
    need(n <= 1024, "M26")
    classes = texts(t[1], 1024)
    label = column(t[2], n, len(classes) - 1)
    names = texts(t[3], 1024)
    need(len(names) in (0, n), "M53")
    for name in classes:
        check_class(name)
    for name in names:
        check_name(name)
    need(not names or any(names), "M41")
    kind = column(t[4], n, 2)
    prompts = texts(t[5], 1024)
    need(all(len(p.encode()) <= 8192 for p in prompts), "M19")
    prompt = column(t[6], n, len(prompts))
    height, width, map_height, map_width = (column(t[i], n, 65_535) for i in (7, 8, 9, 10))
    coding = column(t[11], n, 65_535)
    lengths, hints, codec = column(t[12], n, 67_108_864), column(t[13], n, 65_536), column(t[14], n, 255)
    runs, settings = array(t[15], 2, 2), array(t[16], 2, 2)
    seedsets = [check_runs(r, 4096) for r in array(runs[0], 1024)]
    seeds = column(runs[1], n, len(seedsets) - 1)
    made_sets = [[integer(v, 65_535) for v in array(s, 4, 4)] for s in array(settings[0], 1024)]
    made = column(settings[1], n, len(made_sets))
    recipe = column(t[17], n, len(recipes) - 1)
    for values, used in (
        (classes, label),
        (prompts, [p - 1 for p in prompt]),
        (seedsets, seeds),
        (made_sets, [m - 1 for m in made]),
    ):
        first_use(values, used)
    need(sum(hints) == hints_length and middle + hints_length + 4 + sum(lengths) == len(payload), "M12")
    need(payload[middle + hints_length :][:4] == crc(payload[middle : middle + hints_length]), "M37")
    at, hint_at, rows = middle + hints_length + 4, middle, []
    for i in range(n):
        size, map_size = [height[i], width[i]], [map_height[i], map_width[i]]
        need(height[i] * width[i] <= 67_108_864 and map_height[i] * map_width[i] <= 67_108_864, "M26")
        need(lengths[i] + hints[i] <= 67_108_864, "M26")
        text = prompts[prompt[i] - 1] if prompt[i] else classes[label[i]]
        need(not prompt[i] or text != classes[label[i]], "M41")
        need(map_size == [0, 0] or (0 not in map_size and map_size != size), "M46")
        need(hints[i] or not codec[i], "M17")
        if kind[i]:
            need(not (made[i] or hints[i] or coding[i] or map_size != [0, 0]) and lengths[i], "M17")
        else:
            need(made[i], "M47")
        row: dict[str, Any] = {
            "kind": KINDS[kind[i]],
            "class": classes[label[i]],
            "name": names[i] if names else "",
            "size": size,
            "prompt": text,
            "seeds": seeds_of(seedsets[seeds[i]]),
            "recipe": recipes[recipe[i]],
            "payload": payload[at : at + lengths[i]],
        }
        if not kind[i]:
            low, high, blur, contour = made_sets[made[i] - 1]
            row["coding"] = coding[i]
            row["map_size"] = size if map_size == [0, 0] else map_size
            row["made"] = {"low": low, "high": high, "blur": blur / 100, "min_contour": contour}
            row["hint"] = payload[hint_at : hint_at + hints[i]] or None
            if hints[i]:
                row["hint_codec"] = codec[i]
        at += lengths[i]
        hint_at += hints[i]
        rows.append(row)
    return rows, max(recipe)


def decode(row: dict[str, Any]) -> None:
    """Decodes the map and the hint of a row. Refuses them, and the latents of a model that it does not know: any."""
    if row["kind"] == "latent":  # tests/codec/reference_latent.py decodes the latents of model 1
        need(row["payload"][0] == 1, "M38")
    if row["kind"] == "prompt":
        try:
            height, width = row["map_size"]
            reference_codings.decode(row["payload"], (height, width), row["coding"])
        except reference_codings.RefusedError as exc:
            raise Refused(str(exc)) from None
        if row["hint"]:
            if row["hint_codec"] == 1:
                need(row["hint"][0] == 1, "M38")
            else:
                need(row["hint_codec"] == 0, "M38")
                check_hint(row["hint"])


def check_hint(hint: bytes) -> None:
    need(10 <= len(hint) <= 65_536, "M28")
    tag = int.from_bytes(hint[:3], "little")
    need(not tag & 1 and tag >> 1 & 7 <= 3 and tag >> 4 & 1 and hint[3:6] == b"\x9d\x01\x2a", "M28")
    need(10 + (tag >> 5) <= len(hint) + 8, "M28")
    width, height = struct.unpack("<HH", hint[6:10])
    need(1 <= width <= 1024 and 1 <= height <= 1024, "M28")
    m = len(hint) + 8 + len(hint) % 2
    file = b"RIFF" + struct.pack("<I", m + 12) + b"WEBPVP8 " + struct.pack("<I", m) + hint + bytes(m - len(hint))
    try:
        with Image.open(io.BytesIO(file)) as image:
            image.load()
            need(image.size == (width, height), "M29")
    except OSError:
        raise Refused("M29") from None


def read(path: Path) -> dict[str, Any]:
    """The file as the golden JSON has it: through the trailer and the index."""
    file = File(path.read_bytes())
    return {"source": file.source, "exemplars": [to_json(row) for row in file.rows()]}


def to_json(row: dict[str, Any]) -> dict[str, Any]:
    payload = base64.b64encode(row["payload"]).decode()
    shown = {key: value for key, value in row.items() if key != "payload"}
    if row["kind"] != "prompt":
        return shown | {"image" if row["kind"] == "real" else "latents": payload}
    shown["hint"] = base64.b64encode(row["hint"]).decode() if row["hint"] else None
    if row["coding"] > 2:
        return shown | {"edges": None, "bits": payload}
    height, width = row["map_size"]
    edges = reference_codings.decode(row["payload"], (height, width), row["coding"])
    return shown | {"edges": ["".join(".#"[int(v)] for v in line) for line in edges]}
