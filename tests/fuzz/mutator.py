"""Changes an .escx file and repairs checksums, compression and positions around the change.

Without that nearly every change would end at the first checksum, and nothing behind it would be tried.
"""

from __future__ import annotations

import random
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import atheris
import msgpack
import zstandard

from tests.fuzz.targets import block_of

HOSTILE: list[Any] = [
    *(0, 1, -1, 2, 127, 255, 256, 1024, 1025, 65535, 65536, 1 << 26, 1 << 28, 1 << 31, (1 << 32) - 1, 1 << 32),
    *((1 << 63) - 1, 1 << 63, (1 << 64) - 1, None, True, False, 1.5, float("nan"), float("inf")),
    *("", ".", "..", "a/../b", "/a", "C:", "a\\b", "a\0b", "x" * 300, "\U0001f600" * 260, "con"),
    *(b"", b"\0", b"\xff", b"\xff" * 4, [], [[]], [0], [0, 0], [0, 1 << 32], [[0, (1 << 32) - 1]], {}, {"a": 1}),
]
_DEPTH = 3


@dataclass
class Piece:
    """A chunk: its type, its payload, and whether its checksum is to be right."""

    type: bytes
    payload: bytes
    right: bool = True
    loose: bool = field(default=False)
    """Its fields stay as they are, though they fit nothing."""


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """A changed file of at most ``max_size`` bytes: a custom mutator for atheris."""
    draw = random.Random(seed)
    pieces, rest = split(data)
    if not pieces or draw.random() < 0.1:
        return bytes(atheris.Mutate(data, max_size))
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        if draw.random() < 0.15:
            _rearrange(pieces, draw)
        else:
            _change(draw.choice(pieces), draw)
    if draw.random() < 0.05:
        rest = bytes(atheris.Mutate(rest, 64))
    return join(data[:12], pieces, rest, relink=draw.random() < 0.85)[:max_size]


def split(data: bytes) -> tuple[list[Piece], bytes]:
    """The chunks that are there by their lengths, and the bytes after the last one."""
    pieces, at = [], 12
    while at + 12 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        if at + 12 + length > len(data):
            break
        pieces.append(Piece(data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return pieces, data[at:]


def join(start: bytes, pieces: list[Piece], rest: bytes, *, relink: bool) -> bytes:
    """A file of these chunks; ``relink`` updates the places in index and trailer."""
    out = bytearray(start)
    recipes: list[int] = []
    blocks: list[tuple[int, int]] = []
    index_at = 0
    for piece in pieces:
        if relink and not piece.loose and piece.type == b"INDX":
            piece.payload = _relinked(piece.payload, recipes, blocks)
        if relink and not piece.loose and piece.type == b"TAIL":
            piece.payload = struct.pack("<QQ", index_at, len(out) + 28)
        at = len(out)
        if piece.type == b"RECP":
            recipes.append(at)
        elif piece.type == b"BLCK":
            blocks.append((at, len(piece.payload)))
        elif piece.type == b"INDX":
            index_at = at
        body = piece.type + struct.pack("<I", len(piece.payload)) + piece.payload
        out += body + struct.pack("<I", zlib.crc32(body) ^ (not piece.right))
    return bytes(out) + rest


def _rearrange(pieces: list[Piece], draw: random.Random) -> None:
    one = draw.randrange(len(pieces))
    way = draw.randrange(4)
    if way == 0 and len(pieces) > 1:
        del pieces[one]
    elif way == 1:
        pieces.insert(draw.randrange(len(pieces) + 1), Piece(pieces[one].type, pieces[one].payload))
    elif way == 2:
        pieces.append(pieces.pop(one))
    else:
        pieces[one].type = draw.choice([b"HEAD", b"RECP", b"BLCK", b"INDX", b"TAIL", b"noTe", b"NOTe", b"\0\0\0\0"])


def _change(piece: Piece, draw: random.Random) -> None:
    piece.right = draw.random() < 0.98
    piece.loose = draw.random() < 0.2
    if piece.type == b"BLCK" and len(piece.payload) > 16 and draw.random() < 0.85:
        length, hints_length = struct.unpack_from("<II", piece.payload)
        at = 12 + length
        parts = [
            piece.payload[8 : 8 + length],
            piece.payload[at : at + hints_length],
            piece.payload[at + hints_length + 4 :],
        ]
        if draw.random() < 0.7:
            parts[0] = _change_table(parts[0], draw)
        else:
            part = draw.randrange(1, 3)
            parts[part] = bytes(atheris.Mutate(parts[part], len(parts[part]) + 64))
        piece.payload = block_of(*parts)
    elif piece.type == b"INDX" and draw.random() < 0.95:
        piece.payload = _change_table(piece.payload, draw)
    elif piece.type in (b"HEAD", b"RECP") and draw.random() < 0.7:
        piece.payload = _change_value(piece.payload, draw)
    else:
        piece.loose = True
        piece.payload = bytes(atheris.Mutate(piece.payload, len(piece.payload) + 64))


def _change_table(table: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.05:
        return bytes(atheris.Mutate(table, len(table) + 16))
    try:
        raw = _content(table)
    except (zstandard.ZstdError, ValueError):
        return bytes(atheris.Mutate(table, len(table) + 16))
    bomb = draw.random() < 0.005  # 16 MiB more, in a few bytes
    raw = raw + bytes(1 << 24) if bomb else _change_value(raw, draw)
    return bytes(zstandard.ZstdCompressor(level=1, write_content_size=draw.random() < 0.99).compress(raw))


def _change_value(raw: bytes, draw: random.Random) -> bytes:
    """msgpack with one value changed, or its bytes."""
    if draw.random() < 0.3:
        return bytes(atheris.Mutate(raw, len(raw) + 32))
    try:
        value = msgpack.unpackb(raw, strict_map_key=False)
        return bytes(msgpack.packb(_changed(value, draw, _DEPTH)))
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException):
        return bytes(atheris.Mutate(raw, len(raw) + 32))


def _changed(value: Any, draw: random.Random, depth: int) -> Any:
    if isinstance(value, list) and value and depth and draw.random() < 0.9:
        at = draw.randrange(len(value))
        way = draw.random()
        if way < 0.1:
            return [*value[:at], *value[at + 1 :]]
        if way < 0.2:
            return [*value[:at], value[at], *value[at:]]
        return [*value[:at], _changed(value[at], draw, depth - 1), *value[at + 1 :]]
    if isinstance(value, dict) and value and depth and draw.random() < 0.9:
        key = draw.choice(list(value))
        return {**value, key: _changed(value[key], draw, depth - 1)}
    if draw.random() < 0.5:
        if isinstance(value, int):
            return value + draw.choice([-1, 1, -256, 256, 1 << 16])
        if isinstance(value, bytes):
            return bytes(atheris.Mutate(value, len(value) + 8)) if draw.random() < 0.5 else _same_length(value, draw)
        if isinstance(value, str):
            return bytes(atheris.Mutate(value.encode("utf-8", "replace"), len(value) + 8)).decode("utf-8", "replace")
    return draw.choice(HOSTILE)


def _content(frame: bytes) -> bytes:
    """The content of a zstd frame. Raises ValueError if it declares more than 1 MiB."""
    if not 0 <= zstandard.frame_content_size(frame) <= 1 << 20:
        raise ValueError("too large a frame to change")
    return bytes(zstandard.ZstdDecompressor().decompress(frame))


def _same_length(value: bytes, draw: random.Random) -> bytes:
    return bytes(draw.choice([v, v, 0, 255, v ^ 1]) for v in value)


def _relinked(payload: bytes, recipes: list[int], blocks: list[tuple[int, int]]) -> bytes:
    """The index with the places of the chunks before it if it has as many, else unchanged."""
    try:
        index = msgpack.unpackb(_content(payload), strict_map_key=False)
        if len(index[1]) != len(recipes) or len(index[2]) != len(blocks):
            return payload
        index[1:4] = [recipes, [at for at, _ in blocks], [length for _, length in blocks]]
        return bytes(zstandard.ZstdCompressor(level=1).compress(msgpack.packb(index)))
    except (zstandard.ZstdError, ValueError, TypeError, IndexError, KeyError, msgpack.exceptions.UnpackException):
        return payload
