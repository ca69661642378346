"""Writing an ``.escx`` file so that a process killed at any point loses at most what it had not committed."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from escort_codec.container.assembler import Assembler
from escort_codec.container.file import ChunkFile
from escort_codec.container.reader import Reader
from escort_codec.container.sink import LockedFile, partial_path
from escort_codec.container.state import walk_state
from escort_codec.errors import DamagedError, FormatError, OutputError
from escort_codec.exemplar import Exemplar


class Writer:
    """Writes exemplars into a new file, or behind those of an existing one.

    ``with Writer("memory.escx") as writer: writer.add(exemplar)``

    - **New** (the default): everything goes into ``<path>.partial``, which is put in place by ``close``; after an
      exception there is no file. An existing ``path`` raises OutputError unless ``overwrite``. With ``resume`` the
      whole blocks of a ``.partial`` that a killed process left are kept: ``len(writer)`` says how many exemplars.
    - **append**: no committed byte is overwritten: blocks, a new index and a new trailer go behind the old ones. The
      torn end that a killed writer left is cut off first. After an exception the file is as it was at the last
      ``commit``, or when it was opened.

    Blocks are synced to the disk as they fill. A second writer on the same file raises BusyError.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        source: str = "",
        overwrite: bool = False,
        append: bool = False,
        resume: bool = False,
    ) -> None:
        self.path = Path(path)
        self._append = append
        self._closed = False
        if append and not self.path.exists():
            raise OutputError(f"{self.path}: there is no such file to append to")
        if not append and self.path.exists() and not overwrite:
            raise OutputError(f"{self.path} exists already: choose another name, or overwrite it (--force)")
        if not self.path.absolute().parent.is_dir():
            raise OutputError(f"{self.path.absolute().parent}: there is no such folder")
        self._file = LockedFile(self.path if append else partial_path(self.path), create=not append)
        self._assembler = Assembler(self._write)
        self._synced = 0
        try:
            if append or (resume and self._file.path.stat().st_size):
                self._continue(source)
            else:
                self._file.truncate(0)
                self._assembler.begin(source)
            self._kept = self._assembler.offset if append else 0
        except BaseException:
            self._file.close(remove=not append and not resume)
            raise

    def _continue(self, source: str) -> None:
        """Takes up the whole blocks that are there and cuts off a torn end."""
        try:
            old = ChunkFile(self._file.path)
        except FormatError:
            if self._append:
                raise
            self._file.truncate(0)  # killed before the first 12 bytes were out
            self._assembler.begin(source)
            return
        try:
            state, losses = walk_state(old)
            torn = [loss for loss in losses if loss.end == old.size and loss.start >= state.end]
            if len(torn) < len(losses) or len(torn) > 1:
                loss = losses[0]
                raise DamagedError(
                    f"{self._file.path} is damaged: {loss.reason}; `escort recover` saves what is whole",
                )
            if state.end == 12:
                self._file.truncate(0)
                self._assembler.begin(source)
                return
            with Reader(self._file.path, recover=True) as reader:
                keys = [block.key(row) for block in reader.blocks() for row in range(len(block)) if block.names[row]]
            self._assembler.resume(state.index, state.recipes, keys, state.end)
            self._file.truncate(state.end)
        finally:
            old.close()

    def __len__(self) -> int:
        """Exemplars so far, those that were there before included."""
        return len(self._assembler)

    def add(self, exemplar: Exemplar) -> None:
        """Takes an exemplar; raises LimitError, and takes nothing, for one beyond the caps or of a name that is there.

        Writes a block whenever one is full; raises OutputError where the disk refuses.
        """
        if self._closed:
            raise OutputError(f"{self.path}: the writer is closed")
        self._assembler.add(exemplar)

    def commit(self) -> None:
        """Makes the file as it stands a whole one, on the disk; more may be added. Costs an index and a trailer."""
        self._assembler.finish()
        self._file.sync()
        self._kept = self._assembler.offset

    def close(self) -> None:
        """Commits and, for a new file, puts it in place. More than once does no harm."""
        if self._closed:
            return
        try:
            if not (self._append and self._assembler.offset == self._kept and not self._assembler.waiting):
                self.commit()
            if not self._append:
                self._file.rename(self.path)
        except BaseException:
            self.abort()
            raise
        self._closed = True
        self._file.close()

    def abort(self, *, keep_partial: bool = False) -> None:
        """Gives up: a new file is removed (unless ``keep_partial``: for ``resume``), an appended one as it was."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._append:
                self._file.truncate(self._kept)
                self._file.sync()
        finally:
            self._file.close(remove=not self._append and not keep_partial)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._synced += len(data)
        if self._synced >= 1 << 20:  # a block of photographs; many small ones share one sync
            self._file.sync()
            self._synced = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()
