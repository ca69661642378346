"""All errors that escort raises on purpose, in one tree.

    EscortError                    exit code 1
    ├── UsageError                 exit code 2: a wrong setting or argument; knows the setting
    │   ├── UnknownNameError       no coding, regenerator, learner ... has that name
    │   └── ConfigError            a wrong training configuration
    ├── LimitError                 a value above a cap of the format, in writing
    ├── SourceError                the data folder: missing, empty, unreadable
    │   └── ImageError             one image file: not an image, damaged, too large
    │       └── FidelityError      what is kept of it is too little
    ├── FormatError                the .escx file; knows the chunk and the offset
    │   ├── NotEscxError           the signature is missing or was damaged in transfer
    │   ├── VersionError           a major version that this reader does not know
    │   ├── IncompleteError        the end is missing: still being written, writer killed, or cut off
    │   └── DamagedError           a checksum, length, bound or field is wrong
    ├── CodingError                coded bytes that are not an edge map
    ├── BusyError                  another process is writing this file
    ├── StoreError                 a URL: no such bucket, no permission, connection lost
    ├── EngineError                Ray is missing, cannot be reached, or a worker failed
    ├── OutputError                a file cannot be written, or exists already
    ├── RegenerationError          one image could not be regenerated
    │   └── ModelError             a model is missing or of the wrong kind
    └── TrainingError              a run that cannot continue

Each message is one line: what is wrong, where, and what to do. It uses the names that settings have in the library, in
backquotes inside a sentence ("give more `seeds`"); the command line replaces them by its flags.
"""

from __future__ import annotations


class EscortError(Exception):
    """The root of all errors of escort. ``exit_code`` is that of the command line."""

    exit_code = 1


class UsageError(EscortError):
    """A wrong setting or argument.

    ``setting`` is the name of the setting in the library, or ""; ``value`` is its value; ``message`` is the rest of the
    line. ``UsageError("at least 1", setting="workers", value=0)`` reads
    "workers = 0: at least 1"; the command line shows "--workers 0: at least 1".
    """

    exit_code = 2

    def __init__(self, message: str, *, setting: str = "", value: object = None) -> None:
        super().__init__(message)
        self.message = message
        self.setting = setting
        self.value = value

    def __str__(self) -> str:
        if not self.setting:
            return self.message
        return (
            f"{self.setting}: {self.message}"
            if self.value is None
            else f"{self.setting} = {self.value!r}: {self.message}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_usage, (type(self), self.message, self.setting, self.value)


def _rebuild_usage(kind: type[UsageError], message: str, setting: str, value: object) -> UsageError:
    return kind(message, setting=setting, value=value)


class UnknownNameError(UsageError):
    """A name that is not in its registry."""


class LimitError(EscortError):
    """A value above a cap of the format (see ``escort_codec.limits``), refused before it is written."""


class SourceError(EscortError):
    """The data folder cannot be used."""


class ImageError(SourceError):
    """One image file cannot be used. The message begins with its path."""


class FidelityError(ImageError):
    """What is kept of an image is less than the setting ``min_fidelity`` asks for."""


class FormatError(EscortError):
    """A fault in an ``.escx`` file.

    ``chunk`` is the type of the chunk (``"BLCK"``) or ``""``, ``offset`` the byte where it begins or -1, ``path`` the
    file or ``""``. ``fault`` is the message without the path.
    """

    def __init__(self, message: str, *, chunk: str = "", offset: int = -1) -> None:
        where = f" ({f'{chunk} chunk ' if chunk else ''}at byte {offset})" if offset >= 0 else ""
        super().__init__(message + where)
        self.chunk = chunk
        self.offset = offset
        self.path = ""

    @property
    def fault(self) -> str:
        """What is wrong, and where in the file."""
        return str(self.args[0])

    def __str__(self) -> str:
        return f"{self.path}: {self.fault}" if self.path else self.fault

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.fault, self.chunk, self.offset, self.path)


def _rebuild(kind: type[FormatError], fault: str, chunk: str, offset: int, path: str) -> FormatError:
    """Unpickles a FormatError without adding the place to its message twice."""
    error = kind(fault)
    error.chunk, error.offset, error.path = chunk, offset, path
    return error


class NotEscxError(FormatError):
    """The signature is missing or was damaged in transfer."""


class VersionError(FormatError):
    """The major version of the file is unknown to this reader."""


class IncompleteError(FormatError):
    """The end of the file is missing: it is still being written, its writer was killed, or it was cut off."""


class DamagedError(FormatError):
    """A checksum, length, bound or field is wrong."""


class CodingError(EscortError):
    """Coded bytes that are not an edge map."""


class BusyError(EscortError):
    """Another process is writing this file."""


class StoreError(EscortError):
    """A store (a URL) refuses, is not there, or lost the connection."""


class EngineError(EscortError):
    """Ray is missing or cannot be reached, or a worker failed for no reason of ours."""


class OutputError(EscortError):
    """A file cannot be written, or exists already."""


class RegenerationError(EscortError):
    """An image could not be regenerated."""


class ModelError(RegenerationError):
    """A model is missing or of the wrong kind."""


class TrainingError(EscortError):
    """A training run cannot continue."""


class ConfigError(UsageError):
    """A wrong training configuration."""
