"""Paths and URLs of stores (``s3://``, ``gs://``, ``hf://``, ``https://``, ``memory://``) through fsspec; their errors.

A place is a ``Path`` or a ``Url``. Credentials and endpoints come from fsspec's configuration files and environment
variables. fsspec is imported when the first URL is used.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

from escort_codec.errors import EscortError, StoreError

_URL: Final = re.compile(r"(?:[a-z][a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_GLOB: Final = re.compile(r"[*?\[]")
_LOGGERS: Final = ("fsspec", "s3fs", "aiobotocore", "botocore", "gcsfs", "asyncio", "google", "huggingface_hub")
HTTP: Final = ("http", "https")


class Url(os.PathLike[str]):
    """A file or folder in a store. ``str`` hides passwords and signatures; ``os.fspath`` gives all."""

    __slots__ = ("_raw",)

    def __init__(self, raw: str) -> None:
        self._raw = raw

    @property
    def protocol(self) -> str:
        """The first protocol, such as ``s3``."""
        return re.split("::|://", self._raw, maxsplit=1)[0].lower()

    @property
    def name(self) -> str:
        """The last part of the path, without a query."""
        return PurePosixPath(self._path).name

    @property
    def stem(self) -> str:
        """``name`` without its ending."""
        return PurePosixPath(self._path).stem

    @property
    def suffix(self) -> str:
        """The ending of ``name``, with its dot."""
        return PurePosixPath(self._path).suffix

    @property
    def has_pattern(self) -> bool:
        """Whether the path has ``*``, ``?`` or ``[``; in a web address ``?`` begins the query."""
        return bool(_GLOB.search(self._path))

    @property
    def _path(self) -> str:
        if self.protocol in HTTP:
            return unquote(urlsplit(self._raw).path)
        return self._raw.split("://", 1)[1]

    def __fspath__(self) -> str:
        return self._raw

    def __str__(self) -> str:
        head, mark, rest = self._raw.partition("://")
        host, slash, path = rest.partition("/")
        query = self.protocol in HTTP and "?" in path
        return f"{head}{mark}{host.rpartition('@')[2]}{slash}{path.partition('?')[0] + '?...' if query else path}"

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and other._raw == self._raw

    def __hash__(self) -> int:
        return hash(self._raw)


Place: TypeAlias = Path | Url


def place(path: str | os.PathLike[str]) -> Place:
    """``path`` as a Url if it is one, else as a Path; ``file://`` is a path too."""
    if isinstance(path, Path | Url):
        return path
    text = os.fspath(path)
    if not _URL.match(text):
        return Path(text)
    if text.lower().startswith("file://"):
        return Path(unquote(text[7:]))
    return Url(text)


def connect(url: Url) -> tuple[Any, str]:
    """(fsspec's file system, the path in it). Raises StoreError for a missing package, an unknown protocol."""
    try:
        import fsspec
    except ImportError as exc:
        raise StoreError(f"{url}: needs fsspec, which is not installed: pip install 'escort[remote]'") from exc
    for name in _LOGGERS:
        if not (logger := logging.getLogger(name)).handlers:
            logger.addHandler(logging.NullHandler())  # errors are raised; without this they are on stderr too
    with store_errors(url, "opened"):
        return fsspec.core.url_to_fs(os.fspath(url))  # type: ignore[no-any-return]


def exists(path: Place) -> bool:
    """Whether there is a file or folder at ``path``. Raises StoreError if the store fails."""
    if isinstance(path, Path):
        return os.path.exists(path)  # noqa: PTH110 - Path.exists raises for a long name
    fs, name = connect(path)
    with store_errors(path, "looked up"):
        return bool(fs.exists(name))


def size_of(path: Place) -> int:
    """The bytes of a file. Raises OSError for a Path, StoreError for a Url."""
    if isinstance(path, Path):
        return path.stat().st_size
    fs, name = connect(path)
    with store_errors(path, "looked up"):
        return int(fs.info(name)["size"])


def same_place(one: Place, other: Place) -> bool:
    """Whether both are the same file, and it is there."""
    if isinstance(one, Path) and isinstance(other, Path):
        return exists(one) and exists(other) and one.samefile(other)
    return one == other


@contextmanager
def store_errors(url: object, done: str, error: type[EscortError] = StoreError) -> Iterator[None]:
    """Turns what fsspec and its stores raise into ``error``: "URL: cannot be ``done``: why", in one line."""
    try:
        yield
    except EscortError:
        raise
    except Exception as exc:  # each store has errors of its own
        raise error(f"{url}: cannot be {done}: {reason(exc)}") from exc


def reason(exc: BaseException) -> str:
    """What a store's error means, in a few words."""
    text = " ".join(str(exc).split())[:300]
    chain = f"{_chain(exc)} {text}"
    status = _status(exc)
    if isinstance(exc, ImportError):
        return f"{text or 'a package is missing'}: pip install 'escort[remote]'"
    if re.search(r"NoSuchBucket|bucket does not exist|No such bucket", chain, re.IGNORECASE):
        return "there is no such bucket"
    if isinstance(exc, PermissionError) or status in (401, 403) or "Credentials" in chain or "Forbidden" in chain:
        return f"no permission: check the credentials of the store ({status or text or type(exc).__name__})"
    if status in (404, 410) or (isinstance(exc, FileNotFoundError) and "Client" not in chain):
        return "there is no such file or bucket"
    if isinstance(exc, TimeoutError) or "Timeout" in chain:
        return "the store does not answer"
    if isinstance(exc, ConnectionError) or re.search("Connect|Disconnect|Payload|IncompleteRead", chain):
        return f"the connection was lost or refused ({text or type(exc).__name__})"
    if isinstance(exc, NotImplementedError):
        return "the store cannot do this"
    return text or type(exc).__name__


def _status(exc: BaseException | None) -> int | None:
    """The HTTP status that an error or one of its causes has."""
    for _ in range(6):
        if exc is None:
            break
        if isinstance(status := getattr(exc, "status", None), int):
            return status
        exc = exc.__cause__ or exc.__context__
    return None


def _chain(exc: BaseException | None) -> str:
    """The names of the types of an error and its causes."""
    names: list[str] = []
    while exc is not None and len(names) < 6:
        names.append(type(exc).__name__)
        exc = exc.__cause__ or exc.__context__
    return " ".join(names)
