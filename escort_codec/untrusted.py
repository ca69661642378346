"""Untrusted files: opened without following links, read up to a cap; and JSON within limits.

A run folder, a manifest or a configuration can come from anywhere. The path may be a link to a private file, a folder,
a pipe that never ends, or text made to break its reader.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

from escort_codec.errors import EscortError

MAX_DEPTH: Final = 32
"""Lists and objects inside each other in a JSON text."""

_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # opening a pipe must not wait for its writer
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def open_file(path: Path, error: type[EscortError], *, most: int | None = None, follow: bool = False) -> BinaryIO:
    """A regular file of at most ``most`` bytes, to be read. A link is refused unless ``follow``.

    Raises ``error``, whose cause is a FileNotFoundError if nothing is there.
    """
    try:
        if not follow and path.is_symlink():
            raise OSError(errno.ELOOP, "")
        descriptor = os.open(path, _FLAGS & ~getattr(os, "O_NOFOLLOW", 0) if follow else _FLAGS)
    except (OSError, ValueError) as exc:
        raise error(f"{path}: cannot be read: {_reason(exc)}") from exc
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise error(f"{path}: cannot be read: {_kind(about.st_mode)}")
        if most is not None and about.st_size > most:
            raise error(f"{path}: cannot be read: it has {about.st_size:,} bytes, and {most:,} are the most")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: Path, error: type[EscortError], *, most: int, follow: bool = False) -> bytes:
    """The contents of a regular file of at most ``most`` bytes, as ``open_file`` opens it. Raises ``error``."""
    with open_file(path, error, most=most, follow=follow) as file:
        try:
            data = file.read(most + 1)
        except OSError as exc:
            raise error(f"{path}: cannot be read: {_reason(exc)}") from exc
    if len(data) > most:  # it grows while it is read
        raise error(f"{path}: cannot be read: it has more than {most:,} bytes")
    return data


def check_file(path: Path, error: type[EscortError]) -> None:
    """Raises ``error`` unless ``path`` is a regular file and no link: for libraries that open it themselves."""
    open_file(path, error).close()


def parse_json(text: bytes) -> Any:
    """The value of a JSON text in UTF-8, with or without a byte order mark.

    Raises ValueError, with a reason in a few words, for what RFC 8259 does not know (NaN, infinities, lone
    surrogates), whole numbers beyond 64 bits, floats beyond their range, and more than ``MAX_DEPTH`` levels.
    """
    try:
        value = json.loads(text.decode("utf-8-sig"), parse_constant=_no_constant, parse_float=_finite, parse_int=_whole)
    except json.JSONDecodeError as exc:
        raise ValueError(f"{exc.msg}, line {exc.lineno}, column {exc.colno}") from exc
    except UnicodeDecodeError as exc:
        raise ValueError("it is not UTF-8 text") from exc
    except RecursionError as exc:
        raise ValueError(f"it has more than {MAX_DEPTH} levels") from exc
    _check_texts(value, surrogates=b"\\ud" in text or b"\\uD" in text)
    return value


def _check_texts(value: Any, *, surrogates: bool) -> None:
    """Raises ValueError if the value is nested too deeply or, with ``surrogates``, a text in it has no UTF-8."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below += each.values()
                below += each if surrogates else ()
            elif isinstance(each, list):
                below += each
            elif surrogates and isinstance(each, str):
                try:
                    each.encode()
                except UnicodeEncodeError as exc:
                    raise ValueError("a text has half of a surrogate pair") from exc
        if not below:
            return
        level = below
    raise ValueError(f"it has more than {MAX_DEPTH} levels")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value


def _whole(text: str) -> int:
    value = int(text) if len(text) <= 20 else 1 << 64
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{text[:20]} is too large")
    return value


def _reason(exc: OSError | ValueError) -> str:
    if isinstance(exc, OSError) and exc.errno in (errno.ELOOP, errno.EMLINK, getattr(errno, "EFTYPE", errno.ELOOP)):
        return "it is a link, and links are not followed here"
    return (isinstance(exc, OSError) and exc.strerror) or str(exc)


def _kind(mode: int) -> str:
    return "it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file"
