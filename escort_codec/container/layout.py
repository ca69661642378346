"""The bytes of the frame: signature, version, chunks, trailer (spec sections "File", "Chunks" and "Trailer").

    .- File -------------------------------------------------------------------.
    | 89 45 53 58 0D 0A 1A 0A   |  01 00  |  00 00  |  chunk, chunk, ... TAIL   |
    | signature, 8 bytes        |  major  |  minor  |                           |
    '---------------------------------------------------------------------------'
    .- Chunk -------------------------------------------------.
    |  type, 4 letters  |  length, u32  |  payload  |  CRC-32  |    CRC over type, length and payload
    '----------------------------------------------------------'
    .- TAIL: the last 28 bytes ----------------------------------------------.
    |  "TAIL"  |  16, u32  |  offset of INDX, u64  |  file length, u64  |  CRC  |
    '-------------------------------------------------------------------------'

Numbers are little-endian. A reader skips an unknown type whose first letter is lower case (ancillary) and refuses any
other unknown type.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from escort_codec.errors import DamagedError, IncompleteError, NotEscxError, VersionError
from escort_codec.limits import MAX_CHUNK

SIGNATURE: Final = b"\x89ESX\r\n\x1a\n"
MAJOR: Final = 1
MINOR: Final = 0
PREAMBLE: Final = SIGNATURE + struct.pack("<HH", MAJOR, MINOR)
FRAME: Final = 12  # bytes of a chunk besides its payload
TAIL_SIZE: Final = FRAME + 16

HEAD: Final = b"HEAD"
RECIPE: Final = b"RECP"
BLOCK: Final = b"BLCK"
INDEX: Final = b"INDX"
TAIL: Final = b"TAIL"
KNOWN: Final = frozenset({HEAD, RECIPE, BLOCK, INDEX, TAIL})

WRONG_SUM: Final = "the checksum is wrong: bytes were changed"


@dataclass(frozen=True, slots=True)
class ChunkHead:
    """A chunk's type, where it begins in the file, and the length of its payload in bytes."""

    type: bytes
    offset: int
    length: int

    @property
    def name(self) -> str:
        """The type as text, for messages."""
        return self.type.decode("ascii", "replace")

    @property
    def end(self) -> int:
        """The offset of the byte after the chunk."""
        return self.offset + FRAME + self.length


def check_preamble(data: bytes) -> int:
    """The minor version in a file's first 12 bytes.

    Raises NotEscxError (which names the damage if it is a known kind), IncompleteError, or VersionError for another
    major version.
    """
    start = data[: len(SIGNATURE)]
    if start != SIGNATURE[: len(start)] or not start:
        if start[:1] == b"\x09" and start[1:4] == SIGNATURE[1:4]:
            raise NotEscxError("the file lost its eighth bits: it was transferred as 7-bit text", offset=0)
        if start[:4] == SIGNATURE[:4]:
            raise NotEscxError("line endings were changed: the file was transferred as text, not binary", offset=0)
        raise NotEscxError("not an .escx file", offset=0)
    if len(data) < len(PREAMBLE):
        raise IncompleteError("the file ends inside its first 12 bytes", offset=len(data))
    major, minor = struct.unpack("<HH", data[len(SIGNATURE) : len(PREAMBLE)])
    if major != MAJOR:
        raise VersionError(f"version {major}.{minor} needs a newer escort (this one reads version {MAJOR})", offset=8)
    return int(minor)


def make_chunk(type_: bytes, payload: bytes) -> bytes:
    """A whole chunk. Raises ValueError for a payload above MAX_CHUNK bytes."""
    if len(payload) > MAX_CHUNK:
        raise ValueError(f"a {type_.decode()} chunk of {len(payload)} bytes is above the cap of {MAX_CHUNK}")
    head = type_ + struct.pack("<I", len(payload))
    return b"".join((head, payload, struct.pack("<I", zlib.crc32(payload, zlib.crc32(head)))))


def read_chunk_head(data: bytes, offset: int) -> ChunkHead:
    """Parses the first 8 bytes of a chunk that begins at ``offset`` of the file.

    Raises IncompleteError for fewer bytes, and DamagedError for a type that is not four letters or a length above the
    cap, so that nothing is allocated for it.
    """
    if len(data) < 8:
        raise IncompleteError("the file ends inside a chunk's first 8 bytes", offset=offset)
    type_ = data[:4]
    if not type_.isalpha():
        raise DamagedError(f"no chunk begins here: the type reads {type_!r}", offset=offset)
    (length,) = struct.unpack("<I", data[4:8])
    if length > MAX_CHUNK:
        raise DamagedError(
            f"a chunk of {length} bytes is above the cap of {MAX_CHUNK}", chunk=type_.decode(), offset=offset
        )
    return ChunkHead(type_, offset, length)


def check_chunk(head: ChunkHead, chunk: bytes) -> bytes:
    """The payload of a whole chunk (``head.length + 12`` bytes). Raises IncompleteError, DamagedError."""
    if len(chunk) < head.length + FRAME:
        raise IncompleteError("the file ends inside the chunk", chunk=head.name, offset=head.offset)
    body = memoryview(chunk)[: head.length + 8]
    (stored,) = struct.unpack("<I", chunk[head.length + 8 : head.length + FRAME])
    if zlib.crc32(body) != stored:
        raise DamagedError(WRONG_SUM, chunk=head.name, offset=head.offset)
    return chunk[8 : head.length + 8]


def is_ancillary(type_: bytes) -> bool:
    """Whether a reader that does not know the type may skip the chunk."""
    return bool(type_[0] & 0x20)


def make_tail(index_offset: int, length: int) -> bytes:
    """The trailer of a file of ``length`` bytes (trailer included) whose index begins at ``index_offset``."""
    return make_chunk(TAIL, struct.pack("<QQ", index_offset, length))


def read_tail(chunk: bytes, offset: int) -> tuple[int, int]:
    """(offset of INDX, file length) from the 28 bytes of the trailer at ``offset`` of the file.

    Raises IncompleteError if there is no trailer: the file is being written or was cut off.
    """
    if len(chunk) < TAIL_SIZE or chunk[:8] != TAIL + struct.pack("<I", 16):
        raise IncompleteError(
            "the end of the file is missing: it is still being written, its writer was killed, or it was cut off"
            " (`escort recover` saves all whole blocks)",
            chunk=TAIL.decode(),
            offset=max(offset, 0),
        )
    payload = check_chunk(ChunkHead(TAIL, offset, 16), chunk)
    index_offset, length = struct.unpack("<QQ", payload)
    return index_offset, length


def unpack_msgpack(raw: bytes, head: ChunkHead) -> Any:
    """One msgpack value and nothing after it. Raises DamagedError."""
    try:
        return msgpack.unpackb(
            raw, raw=False, strict_map_key=False, ext_hook=_no_extension, timestamp=0, object_pairs_hook=_map
        )
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.exceptions.UnpackException) as exc:
        why = str(exc) or type(exc).__name__  # the error for too deep a nesting has no text
        raise DamagedError(f"is not msgpack: {why}", chunk=head.name, offset=head.offset) from exc


def _map(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    if not all(isinstance(key, str) for key, _ in pairs):
        raise ValueError("the key of a map is not a text")
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a map has a key twice")
    return values


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not allowed")
