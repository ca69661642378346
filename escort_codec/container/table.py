"""Tables: one msgpack value in one zstd frame, packed whole and read piece by piece."""

from __future__ import annotations

from typing import Any, Final

import msgpack
import zstandard

from escort_codec.container.layout import ChunkHead
from escort_codec.errors import DamagedError, LimitError

_ZSTD_LEVEL: Final = 19
_MOST: Final = 1 << 15  # bytes that one byte of a zstd frame can stand for: a block of 128 KiB takes at least four

TABLE_ERRORS: Final = (ValueError, TypeError, IndexError, OverflowError, msgpack.exceptions.UnpackException)
"""What reading a table's pieces may raise; the caller makes a DamagedError of it."""


def pack_table(value: Any, cap: int) -> bytes:
    """A value as msgpack in one zstd frame that declares its size; raises LimitError above ``cap`` bytes of msgpack."""
    raw = msgpack.packb(value, use_bin_type=True)
    if len(raw) > cap:
        raise LimitError(f"a table of {len(raw)} bytes is above the cap of {cap}")
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(raw)


def decompress(data: bytes, cap: int, head: ChunkHead) -> bytes:
    """The content of the one zstd frame that ``data`` is: at most ``cap`` bytes, by declared and by actual size.

    Raises DamagedError, before memory is taken, where the declared size is above the cap or above what so short a
    frame can hold.
    """
    try:
        params = zstandard.get_frame_parameters(data)
        size = params.content_size
        if size == zstandard.CONTENTSIZE_UNKNOWN or size > cap:
            raise DamagedError(f"a table declares {size} bytes: the cap is {cap}", chunk=head.name, offset=head.offset)
        if params.dict_id or params.window_size > max(cap, 1 << 10) or size > _MOST * len(data):
            raise DamagedError("a table's zstd frame asks too much", chunk=head.name, offset=head.offset)
        raw = zstandard.ZstdDecompressor(max_window_size=1 << 28).decompress(
            data, max_output_size=cap, allow_extra_data=False
        )
    except zstandard.ZstdError as exc:
        raise DamagedError(f"a table is no zstd frame: {exc}", chunk=head.name, offset=head.offset) from exc
    if len(raw) != size:
        raise DamagedError("a table is not of its declared size", chunk=head.name, offset=head.offset)
    return raw


class Table:
    """Reads a msgpack array from its beginning: each piece's kind and size are checked before it is built, so that
    no bytes can ask for more than a few times what the caps allow. Methods raise one of ``TABLE_ERRORS``.

    ``text_cap`` and ``bytes_cap`` are the longest text and byte string in it, in bytes.
    """

    def __init__(self, raw: bytes, *, text_cap: int, bytes_cap: int = 0) -> None:
        self._length = len(raw)
        self._unpacker = msgpack.Unpacker(
            None,
            raw=False,
            max_buffer_size=max(len(raw), 1),
            max_str_len=text_cap,
            max_bin_len=bytes_cap,
            max_array_len=0,  # arrays are read by their heads alone
            max_map_len=0,
            max_ext_len=0,
        )
        self._unpacker.feed(raw)
        self.value = self._unpacker.unpack
        self.skip = self._unpacker.skip

    def array(self, what: str, cap: int, least: int = 0) -> int:
        """The length of the array that begins here, ``least``..``cap``; its elements are read next."""
        length: int = self._unpacker.read_array_header()
        if not least <= length <= cap:
            raise ValueError(f"{what}: an array of {length}, not of {least} to {cap}")
        return length

    def number(self, what: str, top: int) -> int:
        """An integer in 0..``top``."""
        value = self.value()
        if type(value) is not int or not 0 <= value <= top:
            raise ValueError(f"{what}: {value!r:.80} is no number from 0 to {top}")
        return value

    def numbers(self, what: str, cap: int, top: int, least: int = 0) -> list[int]:
        """An array of ``least``..``cap`` integers in 0..``top``."""
        value = self.value
        values = [value() for _ in range(self.array(what, cap, least))]
        if not all(type(v) is int and 0 <= v <= top for v in values):
            raise ValueError(f"{what}: not all of it are numbers from 0 to {top}")
        return values

    def texts(self, what: str, cap: int, least: int = 0) -> list[str]:
        """An array of ``least``..``cap`` texts."""
        value = self.value
        values = [value() for _ in range(self.array(what, cap, least))]
        if not all(type(v) is str for v in values):
            raise ValueError(f"{what}: not all of it are texts")
        return values

    def end(self, left: int) -> None:
        """Passes over the ``left`` elements that remain of the outermost array; nothing may follow it."""
        for _ in range(left):
            self.skip()
        if self._unpacker.tell() != self._length:
            raise ValueError("bytes follow the value")
