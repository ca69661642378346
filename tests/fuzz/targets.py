"""The fuzz targets: each takes bytes, allows only our errors, and checks the invariants of accepted input.

Needs no fuzzer: ``run`` takes any input, so that what a fuzzer finds can be tried again by hand and kept as a test.
"""

from __future__ import annotations

import contextlib
import struct
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgpack
import numpy as np
import zstandard

from escort_codec.coding import codings
from escort_codec.container.assembler import exemplar_fault
from escort_codec.container.block import Block
from escort_codec.container.file import read_head, read_recipe
from escort_codec.container.index import Index
from escort_codec.container.layout import ChunkHead
from escort_codec.container.parts import recover
from escort_codec.container.reader import Reader
from escort_codec.container.verify import verify
from escort_codec.errors import CodingError, DamagedError, EscortError, FormatError
from escort_codec.exemplar import Exemplar
from escort_codec.hint import decode_hint, hint_size
from escort_codec.latent import kernels
from escort_codec.latent.picture import decode_latent, latent_head, read_latents
from escort_codec.latent.tables import load_costs, load_tables
from escort_codec.recipe import HINT_CODECS, Recipe
from tests.fuzz import run_targets
from tests.fuzz.run_targets import check_message

MOST_PIXELS = 1 << 14  # larger maps are sound, and would only make the fuzzer slow
SHAPES = 64


class Files:
    """A file of any bytes: opened, read, verified, recovered."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="escort-fuzz-")  # goes with this object
        self._path, self._good = Path(self._folder.name) / "f.escx", Path(self._folder.name) / "good.escx"

    def as_it_is(self, data: bytes) -> None:
        """The bytes as they are: signature, chunks, checksums and all."""
        self._path.write_bytes(data)
        found = _read(self._path)
        if found is not None and any(_large(e) for e in found):
            return
        verdict = verify(self._path)
        assert verdict.fault is not None or found is not None
        try:
            recovery = recover(self._path, self._good, overwrite=True)
        except FormatError:
            assert found is None or not found
        else:
            assert recovery.saved == len(_read(self._good) or ())
            if verdict.fault is None:
                assert not recovery.lost
                assert verify(self._good).fault is None

    def repaired(self, data: bytes) -> None:
        """The bytes with every checksum put right: what stands behind the checksums is reached."""
        self.as_it_is(repair(data))


def repair(data: bytes) -> bytes:
    """A file with the checksum of every chunk, and the length in the trailer, put right."""
    fixed, at = bytearray(data), 12
    while at + 12 <= len(fixed):
        (length,) = struct.unpack_from("<I", fixed, at + 4)
        end = at + 8 + length
        if end + 4 > len(fixed):
            break
        if fixed[at : at + 4] == b"TAIL" and length == 16 and end + 4 == len(fixed):
            struct.pack_into("<Q", fixed, at + 16, len(fixed))
        if fixed[at : at + 4] == b"BLCK":
            _repair_front(fixed, at + 8, end)
        struct.pack_into("<I", fixed, end, zlib.crc32(fixed[at:end]))
        at = end + 4
    return bytes(fixed)


def _repair_front(data: bytearray, start: int, end: int) -> None:
    """Puts the checksums of a block's table and hints right; the block's payload is ``data[start:end]``."""
    if end - start < 16:
        return
    table, hints = struct.unpack_from("<II", data, start)
    middle = start + 12 + table
    if middle + hints + 4 <= end:
        struct.pack_into("<I", data, middle - 4, zlib.crc32(data[start : middle - 4]))
        struct.pack_into("<I", data, middle + hints, zlib.crc32(data[middle : middle + hints]))


def block_of(table: bytes, hints: bytes, payloads: bytes) -> bytes:
    """The payload of a block: a compressed table, hints, payloads, and the right checksums."""
    front = struct.pack("<II", len(table), len(hints)) + table
    sums = [zlib.crc32(part).to_bytes(4, "little") for part in (front, hints)]
    return front + sums[0] + hints + sums[1] + payloads


def _large(exemplar: Exemplar) -> bool:
    return exemplar.map_shape[0] * exemplar.map_shape[1] > MOST_PIXELS


def _read(path: Path) -> list[Exemplar] | None:
    try:
        with Reader(path) as reader:
            found = list(reader)
            _ = reader.labels, reader.seeds, reader.recipes
    except FormatError as exc:
        check_message(exc)
        return None
    _check(found)
    return found


def _check(found: Sequence[Exemplar]) -> None:
    for exemplar in found:
        assert exemplar.hint is not None or exemplar_fault(exemplar) is None
        if exemplar.kind == "prompt" and not _large(exemplar):
            with contextlib.suppress(CodingError):
                assert exemplar.edges.shape == exemplar.map_shape
            if exemplar.hint is not None and exemplar.hint_codec in HINT_CODECS:
                (latent if exemplar.hint_codec == HINT_CODECS[1] else hint)(exemplar.hint)
        elif exemplar.kind == "latent":
            latent(exemplar.payload)


def table(data: bytes) -> None:
    """The table of a block: only the msgpack, without compression and checksum; the payloads fit it."""
    packed = zstandard.ZstdCompressor(level=1).compress(data)
    try:
        lengths = msgpack.unpackb(data, strict_map_key=False)
        n = lengths[0]
        bits, hints = (bytes(min(v * n if isinstance(v, int) else sum(v[:n]), 4096)) for v in lengths[12:14])
    except Exception:  # no table: the reader will say so
        bits = hints = b""
    payload = block_of(packed, hints, bits)
    try:
        block = Block(payload, ChunkHead(b"BLCK", 12, len(payload)), [Recipe()])
    except DamagedError:
        return
    _check([block[row] for row in range(len(block))])


def index(data: bytes) -> None:
    """An index: the msgpack alone. What is accepted is written again as it was understood."""
    head = ChunkHead(b"INDX", 1 << 20, len(data))
    compress = zstandard.ZstdCompressor(level=1).compress
    try:
        found = Index.unpack(compress(data), head)
    except DamagedError:
        return
    assert Index.unpack(found.pack(), head) == found
    assert sum(found.label_counts().values()) == len(found)
    for number in range(min(len(found), 50)):
        block, row = found.find(number)
        assert 0 <= row < found.counts[block]


def head_or_recipe(data: bytes) -> None:
    """The two chunks of bare msgpack."""
    try:
        head = read_head(data, ChunkHead(b"HEAD", 12, len(data)))
        assert all(len(text.encode()) <= 4096 for text in (head.source, head.writer, head.background))
    except DamagedError:
        pass
    try:
        _, recipe = read_recipe(data, ChunkHead(b"RECP", 50, len(data)))
        assert isinstance(recipe.digest, str)
    except DamagedError:
        pass


def coding(data: bytes) -> None:
    """Bytes under each coding: refused, or a map with exactly this form."""
    if len(data) < 3:
        return
    members = list(codings)
    member = members[data[0] % len(members)]
    shape = data[1] % SHAPES, data[2] % SHAPES
    try:
        edges = member.decode(data[3:], shape)
    except CodingError as exc:
        check_message(exc)
        return
    assert edges.shape == shape
    assert member.encode(edges) == data[3:]


def hint(data: bytes) -> None:
    """A hint: refused, or a picture of the size in its header."""
    try:
        pixels = decode_hint(data)
    except EscortError as exc:
        check_message(exc)
        return
    assert pixels.shape == (*hint_size(data), 3)


def latent(data: bytes) -> None:
    """A learned picture: refused, or one of the size in its head, whose latents have exactly this form."""
    try:
        head = latent_head(data)
        if head.size[0] * head.size[1] > MOST_PIXELS:
            return
        found = read_latents(data)
    except EscortError as exc:
        check_message(exc)
        return
    out, again = np.empty(found.values.size + 16384, np.uint8), np.empty_like(found.values)
    exact = found.values.astype(np.float32)
    written = kernels.encode(load_tables().arrays, head.quality, exact, load_costs(), 1e9, again, out)
    assert (again == found.values).all()
    assert data[head.start :] == out[:written].tobytes() or written == kernels.FULL
    assert decode_latent(data, len(data)).shape == (*head.size, 3)


_files = Files()
TARGETS: tuple[Callable[[bytes], None], ...] = (
    _files.as_it_is,
    _files.repaired,
    table,
    index,
    head_or_recipe,
    coding,
    hint,
    latent,
    *run_targets.TARGETS,
)


def run(data: bytes) -> None:
    """One input: its first byte chooses the target."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])
