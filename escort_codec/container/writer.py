"""Writes an ``.escx`` file; a killed process loses at most what it had not committed."""

from __future__ import annotations

import weakref
from contextlib import closing
from os import PathLike
from pathlib import Path

from escort_codec.container.assembler import Assembler
from escort_codec.container.block import Block
from escort_codec.container.file import ChunkFile, naming, read_state
from escort_codec.container.layout import FRAME, KNOWN, PREAMBLE
from escort_codec.container.locked_file import LockedFile, find_target, partial_path
from escort_codec.container.reader import Reader
from escort_codec.container.salvage import ChunkWalk, walk_state
from escort_codec.errors import DamagedError, IncompleteError, NotEscxError, OutputError
from escort_codec.exemplar import Exemplar
from escort_codec.store.upload import Upload
from escort_codec.store.urls import Place, Url, place

_SYNC_BYTES = 1 << 20  # a block of photographs; many small ones share one sync
_WINDOW = 1 << 20


class Writer:
    """Writes exemplars into a new file, or appends them to an existing one.

    ``with Writer("memory.escx") as writer: writer.add(exemplar)``

    - **New** (the default): writes ``<path>.partial``, which ``close`` renames to ``path``. After an exception there is
      no file. Raises OutputError if ``path`` exists, unless ``overwrite``. ``resume`` keeps the whole blocks of a
      ``.partial`` that a killed process left: ``len(writer)`` is the number of their exemplars.
    - **append**: overwrites no committed byte: blocks, a new index and a new trailer follow the old ones. It first cuts
      off the torn end that a killed writer left, and refuses a file with other damage. After an exception the file is
      as it was at the last ``commit``, or when it was opened.

    Full blocks are synced to the disk. A second writer on the same file raises BusyError. A symbolic link stands for
    the file that it names. After a failed write only ``abort`` works; everything else raises OutputError.

    At a URL a new file appears when it is closed, whole or not at all (``escort_codec.store.upload``); it cannot be
    appended to. If it cannot be sent, the finished file stays on this machine, and the error names it.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        source: str = "",
        background: str = "",
        overwrite: bool = False,
        append: bool = False,
        resume: bool = False,
    ) -> None:
        shown = place(path)
        self._upload = Upload(shown, overwrite=overwrite) if isinstance(shown, Url) and not append else None
        if isinstance(shown, Url) and append:
            raise OutputError(f"{shown}: a file in a store cannot be appended to: write a new one")
        self._target, exists = find_target(self._upload.staged if self._upload else path)
        self.path: Place = shown if self._upload else self._target
        exists = exists and self._upload is None
        self._append = append
        self._overwrite = overwrite
        self._closed = self._failed = False
        self._old: LockedFile | None = None
        if append and not exists:
            raise OutputError(f"{self.path}: there is no such file to append to")
        if not append and exists:
            if not overwrite:
                raise OutputError(f"{self.path} exists already: choose another name, or set `overwrite`")
            self._old = LockedFile(self._target, create=False)  # nobody may append to a file that will be replaced
        try:
            self._file = LockedFile(self._target if append else partial_path(self._target), create=not append)
        except BaseException:
            self._unlock_old()
            raise
        me = weakref.proxy(self)  # no reference cycle: a dropped writer frees its lock at once
        self._assembler = Assembler(lambda data: me._write(data))
        self._kept = self._synced = 0
        try:
            if append:
                self._open_append()
            elif not resume or not self._open_partial():
                self._file.truncate(0)
                self._assembler.begin(source, background)
        except BaseException:
            self._closed = True
            self._file.close(remove=not append and not resume)
            self._unlock_old()
            raise

    @property
    def partial(self) -> Path:
        """The file that is being written: beside ``path`` for a new one, ``path`` itself for ``append``."""
        return self._file.path

    def _open_append(self) -> None:
        """Keeps what is committed and the whole blocks after it; cuts off a torn end."""
        with naming(self._target), closing(ChunkFile(self._target)) as old:
            try:
                state = read_state(old)
            except (IncompleteError, DamagedError):
                keys: set[int] = set()
                walked = walk_state(old, lambda block: keys.update(_hashes(block)))
                if not walked.commits or not _torn(old, walked):
                    raise _refusal(walked.losses[0].reason if walked.losses else "its end is missing") from None
                state = walked.state
            else:
                try:
                    with Reader(self._target) as reader:
                        keys = {key for block in reader.blocks() for key in _hashes(block)}
                except DamagedError as exc:
                    raise _refusal(exc.fault) from exc
            whole = state.end == old.size and state.index_offset >= 0
        self._file.truncate(state.end)
        self._assembler.resume(state.index, state.recipes, keys, state.end)
        self._kept = state.end
        if not whole:
            self.commit()

    def _open_partial(self) -> bool:
        """Keeps the whole blocks of an unfinished new file; False if there are none."""
        try:
            old = ChunkFile(self._file.path)
        except (IncompleteError, NotEscxError):
            return False  # killed before it wrote the first 12 bytes
        with naming(self._file.path), closing(old):
            keys: set[int] = set()
            walked = walk_state(old, lambda block: keys.update(_hashes(block)))
            if walked.content == len(PREAMBLE):
                return False
            if not _torn(old, walked):
                raise DamagedError(f"is damaged: {walked.losses[0].reason}; `escort recover` saves what is whole")
        # An index already written is written again, so that the file equals one that was never interrupted.
        self._file.truncate(walked.content)
        self._assembler.resume(walked.state.index, walked.state.recipes, keys, walked.content)
        return True

    def __len__(self) -> int:
        """Exemplars so far, including those of an existing file."""
        return len(self._assembler)

    def add(self, exemplar: Exemplar) -> None:
        """Adds an exemplar; writes a block whenever one is full.

        Raises LimitError, and adds nothing, if it is above a cap or its name is taken; OutputError if the disk refuses.
        """
        self._check_open()
        self._assembler.add(exemplar)

    def finished_size(self) -> int:
        """Bytes that the file will have if no more is added; writes the exemplars that are in no block yet."""
        self._check_open()
        return self._assembler.finished_size()

    def commit(self) -> None:
        """Completes the file on the disk with an index and a trailer. More may be added afterwards."""
        self._check_open()
        self._assembler.finish()
        self._sync()
        self._kept = self._assembler.offset

    def close(self, *, keep_partial: bool = False) -> None:
        """Commits and, for a new file, renames it to ``path``. Closing again is harmless.

        If that fails, it aborts with the same ``keep_partial``.
        """
        if self._closed:
            return
        try:
            self._check_open()
            if not self._append or self._assembler.pending or self._assembler.offset != self._kept:
                self.commit()
            if self._upload:
                self._send(self._upload, keep_partial=keep_partial)
            elif not self._append:
                if not self._overwrite and find_target(self._target)[1]:
                    raise OutputError(f"{self.path} was just created by another process: choose another name")
                self._file.rename(self._target)
        except BaseException:
            self.abort(keep_partial=keep_partial)
            raise
        self._closed = True
        self._file.close(remove=self._upload is not None)
        self._unlock_old()

    def _send(self, upload: Upload, *, keep_partial: bool) -> None:
        try:
            upload.send(self.partial)
            self._target.unlink(missing_ok=True)  # of an earlier try
        except OutputError as exc:
            if keep_partial:
                raise OutputError(f"{exc}; the same command sends it again") from exc
            self._file.rename(self._target)  # it may be the work of hours
            raise OutputError(f"{exc}; the finished file is {self._target}") from exc

    def abort(self, *, keep_partial: bool = False) -> None:
        """Gives up: removes a new file, unless ``keep_partial`` (for ``resume``); restores an appended one."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._append and self._file.owned:
                self._file.truncate(self._kept)
                self._file.sync()
        finally:
            self._file.close(remove=not self._append and not keep_partial)
            self._unlock_old()

    def _check_open(self) -> None:
        if self._closed:
            raise OutputError(f"{self.path}: the writer is closed")
        if self._failed:
            raise OutputError(f"{self.path}: an earlier write failed; nothing more can be written")

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except BaseException:
            self._failed = True  # part of the data may be in the file
            raise
        self._synced += len(data)
        if self._synced >= _SYNC_BYTES:
            self._sync()

    def _sync(self) -> None:
        try:
            self._file.sync()
        except BaseException:
            self._failed = True  # the system may have dropped unwritten data
            raise
        self._synced = 0

    def _unlock_old(self) -> None:
        if self._old is not None:
            self._old.close()
            self._old = None
        if self._upload:
            self._upload.clean()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        # A writer that is dropped without closing: as if killed, but unlocked.
        if hasattr(self, "_file"):
            self._file.close()
            self._unlock_old()


def _hashes(block: Block) -> set[int]:
    rows = block.rows
    return {hash(key) for key, name in zip(rows.all_keys(), rows.names, strict=True) if name} if rows.named else set()


def _refusal(reason: str) -> DamagedError:
    return DamagedError(f"cannot be appended to: {reason}; `escort recover` saves what is whole")


def _torn(file: ChunkFile, walked: ChunkWalk) -> bool:
    """Whether only the end is damaged: a chunk cut short, or zeros in its place (a power cut)."""
    if not walked.losses:
        return True
    loss = walked.losses[0]
    if len(walked.losses) > 1 or loss.end != file.size:
        return False
    first = file.read(loss.start, 8)
    if len(first) < 8:
        return True
    if first[:4] in KNOWN:
        return loss.start + FRAME + int.from_bytes(first[4:], "little") >= file.size
    return not any(any(file.read(at, _WINDOW)) for at in range(loss.start, file.size, _WINDOW))
