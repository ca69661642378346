"""A file in a store, read by ranges through a bounded cache."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from typing import Final

from escort_codec.errors import StoreError
from escort_codec.store.urls import HTTP, Url, connect, store_errors

BLOCK: Final = 1 << 19
"""Bytes of a block of the cache; a request asks for one or more whole blocks."""

CACHED: Final = 32 << 20
"""Bytes of blocks that a file keeps, at most."""

AHEAD: Final = 16
"""Blocks of the longest request when a file is read from end to end."""

TRIES: Final = 3
"""How often a request is sent if the connection fails."""


class RangeFile:
    """A file in a store, read by ranges through a cache of ``CACHED`` bytes. Threads and forked processes may share it.

    Opening takes one request. Missing neighbouring blocks are fetched in one request; sequential reading fetches longer
    ranges. Raises StoreError.
    """

    def __init__(self, url: Url) -> None:
        self.url = url
        self.limit: int = CACHED
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._fs, self._name = connect(url)
        self._end, self._run = -1, 1
        self._closed = False
        with store_errors(url, "opened"):
            info = self._fs.info(self._name)
            if info.get("type") == "directory":
                raise StoreError(f"{url}: is a folder, not a file")
            if info.get("size") is None or info.get("partial") is False:
                raise StoreError(f"{url}: the server does not send parts of a file: download it first")
            self.size: int = int(info["size"])
        self._checked = url.protocol not in HTTP

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, a range inside the file."""
        if self._closed:
            raise StoreError(f"{self.url}: cannot be read: the reader was closed")
        self._after_fork()
        first, last = offset // BLOCK, (offset + length - 1) // BLOCK
        found: dict[int, bytes] = {}
        with self._lock:
            for number in range(first, last + 1):
                if number in self._blocks:
                    self._blocks.move_to_end(number)
                    found[number] = self._blocks[number]
        missing = [number for number in range(first, last + 1) if number not in found]
        if missing:
            found |= self._load(missing[0], missing[-1])
        data = b"".join(found[number] for number in range(first, last + 1))
        return data[offset - first * BLOCK :][:length]

    def _load(self, first: int, last: int) -> dict[int, bytes]:
        """The blocks ``first`` to ``last`` and some more, in one request."""
        total = -(-self.size // BLOCK)
        if last == total - 1:
            first = min(first, max(0, total - 2))  # the last block may be short; the index lies before the end
        with self._lock:
            most = min(AHEAD, max(1, self.limit // BLOCK // 2))  # the cache must hold all of it
            self._run = min(2 * self._run, most) if first == self._end else 1
            last = min(max(last, first + self._run - 1), total - 1)
            self._end = last + 1
        start, end = first * BLOCK, min(self.size, (last + 1) * BLOCK)
        data = self._fetch(start, end)
        found = {number: data[(number - first) * BLOCK :][:BLOCK] for number in range(first, last + 1)}
        with self._lock:
            for number, block in found.items():
                self._blocks[number] = block
                self._blocks.move_to_end(number)
            while len(self._blocks) > max(1, self.limit // BLOCK):
                self._blocks.popitem(last=False)
        return found

    def _fetch(self, start: int, end: int) -> bytes:
        for left in reversed(range(TRIES)):
            try:
                with store_errors(self.url, "read"):
                    data = self._request(start, end)
                if len(data) == end - start:
                    return data
                raise StoreError(
                    f"{self.url}: cannot be read: got {len(data):,} of {end - start:,} bytes: the connection was "
                    "lost, the file was replaced, or the server does not send parts of a file"
                )
            except StoreError as exc:
                if not left or isinstance(exc.__cause__, FileNotFoundError | PermissionError | ValueError):
                    raise
            time.sleep(0.2 * (TRIES - left))
        raise AssertionError

    def _request(self, start: int, end: int) -> bytes:
        if self._fs.async_impl and self._checked:
            return bytes(self._fs.cat_file(self._name, start=start, end=end))
        # A web server without range requests would send the whole file: fsspec's file stops reading then. And file
        # systems that are not asynchronous fetch the size again in ``cat_file``.
        more = {} if self._checked else {"size": self.size}
        with self._fs.open(self._name, "rb", cache_type="none", **more) as file:
            file.seek(start)
            data = bytes(file.read(end - start))
        self._checked = self._checked or start > 0  # a server that ignores ranges gives the right first range
        return data

    def _after_fork(self) -> None:
        """A child cannot use the parent's connections, nor a lock that a thread of the parent may hold."""
        if os.getpid() != self._pid:
            self._lock = threading.Lock()
            self._fs, self._name = connect(self.url)
            self._pid = os.getpid()

    def close(self) -> None:
        """Forgets the blocks; later reads raise StoreError."""
        self._closed = True
        self._blocks = OrderedDict()
