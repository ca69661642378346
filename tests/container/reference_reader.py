"""A second reader, written from spec/FORMAT.md alone: slow, plain, without any code of the library.

It reads well-formed files only; what it returns is shaped like the golden files' JSON.
"""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path
from typing import Any

import msgpack
import zstandard

from tests.codec import reference_codings


def chunks(data: bytes) -> list[tuple[int, str, bytes]]:
    """(offset, type, payload) of every chunk, by walking."""
    assert data[:8] == bytes([0x89, 0x45, 0x53, 0x58, 0x0D, 0x0A, 0x1A, 0x0A])
    assert struct.unpack("<HH", data[8:12])[0] == 1
    found, at = [], 12
    while at < len(data):
        (length,) = struct.unpack("<I", data[at + 4 : at + 8])
        payload = data[at + 8 : at + 8 + length]
        (crc,) = struct.unpack("<I", data[at + 8 + length : at + 12 + length])
        assert crc == zlib.crc32(data[at : at + 8 + length])
        found.append((at, data[at : at + 4].decode("ascii"), payload))
        at += 12 + length
    assert at == len(data)
    return found


def table(data: bytes) -> Any:
    return msgpack.unpackb(zstandard.ZstdDecompressor().decompress(data))


def column(value: int | bytes, n: int) -> list[int]:
    if isinstance(value, int):
        return [value] * n
    width = len(value) // n
    return [sum(value[plane * n + row] << (8 * plane) for plane in range(width)) for row in range(n)]


def seeds_of(runs: list[int]) -> list[int]:
    return [s for i in range(0, len(runs), 2) for s in range(runs[i], runs[i + 1] + 1)]


def read(path: Path) -> dict[str, Any]:
    """The file as the golden JSON has it: through the trailer and the index."""
    data = path.read_bytes()
    by_offset = {offset: (kind, payload) for offset, kind, payload in chunks(data)}
    kind, payload = by_offset[len(data) - 28]
    assert kind == "TAIL"
    index_offset, length = struct.unpack("<QQ", payload)
    assert length == len(data)
    kind, payload = by_offset[index_offset]
    assert kind == "INDX"
    index = table(payload)
    kind, payload = by_offset[12]
    assert kind == "HEAD"
    head = msgpack.unpackb(payload)
    recipes = []
    for number, offset in enumerate(index[1]):
        kind, payload = by_offset[offset]
        assert kind == "RECP"
        assert len(payload) == index[2][number]
        found, recipe = msgpack.unpackb(payload)
        assert found == number
        recipes.append(recipe)
    exemplars: list[dict[str, Any]] = []
    for number, offset in enumerate(index[3]):
        kind, payload = by_offset[offset]
        assert kind == "BLCK"
        assert len(payload) == index[4][number]
        assert struct.unpack("<II", payload[:8]) == (index[5][number], index[6][number])
        rows = block(payload, recipes)
        assert len(rows) == index[7][number]
        keys = [f"{row['class']}/{row['name']}" for row in rows]
        assert (min(keys), max(keys)) == (index[10][0][number], index[10][1][number])
        exemplars += rows
    assert len(exemplars) == index[0]
    assert sorted({s for e in exemplars for s in e["seeds"]}) == seeds_of(index[11])
    return {"source": head.get("source", ""), "exemplars": exemplars}


def block(payload: bytes, recipes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    length, hints = struct.unpack("<II", payload[:8])
    hints_at = 12 + length
    at = hints_at + hints + 4
    assert zlib.crc32(payload[: 8 + length]).to_bytes(4, "little") == payload[8 + length : hints_at]
    assert zlib.crc32(payload[hints_at : at - 4]).to_bytes(4, "little") == payload[at - 4 : at]
    t = table(payload[8 : 8 + length])
    n = t[0]
    numbers = {i: column(t[i], n) for i in (2, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 17)}
    seeds, made = column(t[15][1], n), column(t[16][1], n)
    rows = []
    for i in range(n):
        bits = payload[at : at + numbers[12][i]]
        at += numbers[12][i]
        hint = payload[hints_at : hints_at + numbers[13][i]]
        hints_at += numbers[13][i]
        label = t[1][numbers[2][i]]
        size = [numbers[7][i], numbers[8][i]]
        row: dict[str, Any] = {
            "kind": ("prompt", "real", "latent")[numbers[4][i]],
            "class": label,
            "name": t[3][i] if t[3] else "",
            "size": size,
            "prompt": t[5][numbers[6][i] - 1] if numbers[6][i] else label,
            "seeds": seeds_of(t[15][0][seeds[i]]),
            "recipe": recipes[numbers[17][i]],
        }
        if numbers[4][i]:
            row["image" if numbers[4][i] == 1 else "latents"] = base64.b64encode(bits).decode()
        else:
            shape = [numbers[9][i], numbers[10][i]]
            shape = size if shape == [0, 0] else shape
            edges = reference_codings.decode(bits, (shape[0], shape[1]), numbers[11][i])
            low, high, blur, contour = t[16][0][made[i] - 1]
            row["coding"] = numbers[11][i]
            row["map_size"] = shape
            row["edges"] = ["".join(".#"[int(v)] for v in line) for line in edges]
            row["made"] = {"low": low, "high": high, "blur": blur / 100, "min_contour": contour}
            row["hint"] = base64.b64encode(hint).decode() if hint else None
            if numbers[14][i]:
                row["hint_codec"] = {1: "latent"}[numbers[14][i]]
        rows.append(row)
    assert at == len(payload)
    return rows
