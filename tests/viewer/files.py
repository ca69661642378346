"""Files for the viewer's tests."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from escort_codec import Exemplar, Writer
from escort_codec.hint import encode_hint
from tests.helpers import draw_edges

SCRIPT = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'<"
"""A text that would run if it were not escaped."""


def hint(seed: int) -> bytes:
    return encode_hint(np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8))


def write_many(path: Path, count: int) -> Path:
    """``count`` prompts with hints in 40 classes, named by their numbers; every hundredth has a caption."""
    made = [Exemplar.from_edges(draw_edges(40 + n, 60, n), label="x", seeds=(0, 1), hint=hint(n)) for n in range(20)]
    with Writer(path, source="./data") as writer:
        for number in range(count):
            label = f"class {number * 40 // count:02d}"
            prompt = f"a caption with needle {number}" if number % 100 == 7 else label
            writer.add(replace(made[number % 20], label=label, name=f"{number:06d}.png", prompt=prompt))
    return path


def chunk(kind: bytes, payload: bytes) -> bytes:
    head = kind + struct.pack("<I", len(payload)) + payload
    return head + struct.pack("<I", zlib.crc32(head))


def with_index(index: bytes) -> bytes:
    """A file without blocks whose index is this payload."""
    start = b"\x89ESX\r\n\x1a\n" + struct.pack("<HH", 1, 0) + chunk(b"HEAD", b"\x80")
    body = start + chunk(b"INDX", index)
    return body + chunk(b"TAIL", struct.pack("<QQ", len(start), len(body) + 28))


def endless_frame() -> bytes:
    """A zstd frame whose Huffman weights a careless decoder reads for ever.

    The weights' FSE table has one symbol with all 32 states, so a state takes no bits and the next one is the same.
    """
    weights = b"\xf0\x03" + b"\xff\xff\x80"
    literals = bytes([2 | (8 << 4), 0, 10]) + bytes([len(weights)]) + weights + bytes(8)
    block = literals + b"\x00"
    return b"\x28\xb5\x2f\xfd" + bytes([0x20, 100]) + (len(block) << 3 | 2 << 1 | 1).to_bytes(3, "little") + block


def large_frame(size: int) -> bytes:
    """A zstd frame of ``size`` zero bytes: blocks of one byte, repeated."""
    blocks = []
    left = size
    while left:
        length = min(left, 1 << 17)
        left -= length
        blocks.append((length << 3 | 1 << 1 | (left == 0)).to_bytes(3, "little") + b"\x00")
    return b"\x28\xb5\x2f\xfd" + bytes([0x80 | 0x20]) + struct.pack("<I", size) + b"".join(blocks)
