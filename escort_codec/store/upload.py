"""Writes to a store: a file is written on this machine first, and appears at its URL whole or not at all.

It is written to ``~/.cache/escort/upload`` (or below ``XDG_CACHE_HOME``), in a folder for each URL, so that ``resume``
finds what a killed run left.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from pathlib import Path
from typing import Any, BinaryIO, Final

from escort_codec.errors import OutputError
from escort_codec.names import make_folders
from escort_codec.store.urls import Url, connect, reason, store_errors

ATOMIC: Final = frozenset(
    ("s3", "s3a", "gs", "gcs", "hf", "memory", "abfs", "abfss", "az", "adl", "oss", "tos", "r2", "oci")
)
"""Protocols of stores in which an object appears when its upload is complete; in others it is renamed at the end."""

READ_ONLY: Final = frozenset(("http", "https", "github", "zip", "tar", "git", "data"))
"""Protocols that fsspec cannot write to."""

_PIECE: Final = 8 << 20


class Upload:
    """A file to write at ``url``; ``staged`` is its path on this machine. Raises OutputError, StoreError."""

    def __init__(self, url: Url, *, overwrite: bool) -> None:
        self.url = url
        self._overwrite = overwrite
        if url.protocol in READ_ONLY:
            raise OutputError(f"{url}: {url.protocol}:// can be read but not written: choose a path or a store")
        if not url.name:
            raise OutputError(f"{url}: is not a file name")
        self._fs, self._name = connect(url)
        self._check()
        raw = os.fspath(url)
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = cache / "escort" / "upload" / hashlib.sha256(raw.encode()).hexdigest()[:16]
        make_folders(folder, mode=0o700)
        self.staged: Path = folder / url.name

    def _check(self) -> None:
        """Raises OutputError if the file exists, unless it may be replaced, or if the bucket does not."""
        with store_errors(self.url, "written", OutputError):
            if self._fs.exists(self._name):
                if not self._overwrite:
                    raise OutputError(f"{self.url} exists already: choose another name, or set `overwrite`")
            elif self.url.protocol in ATOMIC - {"memory"}:
                bucket = self._name.strip("/").split("/")[0]
                if self.url.protocol != "hf" and not self._fs.exists(bucket):
                    raise OutputError(f"{self.url}: cannot be written: there is no bucket {bucket!r}, or no permission")

    def send(self, file: Path) -> None:
        """Copies ``file`` to the URL. If it raises OutputError, the URL is unchanged."""
        self._check()
        target = self._name
        if self.url.protocol not in ATOMIC:
            target = f"{target}.{secrets.token_hex(4)}.partial"
        try:
            with file.open("rb") as source:
                self._copy(source, target)
            if target != self._name:
                self._fs.mv(target, self._name)
        except Exception as exc:  # each store has errors of its own
            if target != self._name:
                with contextlib.suppress(Exception):
                    self._fs.rm_file(target)
            raise OutputError(f"{self.url}: cannot be written: {reason(exc)}") from exc
        with contextlib.suppress(Exception):
            self._fs.invalidate_cache()

    def _copy(self, source: BinaryIO, target: str) -> None:
        """One object, whole: inside a transaction fsspec completes an upload, or gives it up, at the end."""
        fs: Any = self._fs
        with fs.transaction, fs.open(target, "wb", block_size=_PIECE) as out:
            shutil.copyfileobj(source, out, _PIECE)

    def clean(self) -> None:
        """Removes the folder of the staged file if it is empty."""
        with contextlib.suppress(OSError):
            self.staged.parent.rmdir()
