"""The server of ``escort view``: the viewer's page and the files, for this machine alone."""

from __future__ import annotations

import hmac
import logging
import os
import re
import secrets
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from escort_cli.view_page import POLICY, served_files
from escort_codec.errors import EscortError, UsageError
from escort_codec.untrusted import open_file

_LOG: Final = logging.getLogger(__name__)
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_TYPES: Final = {
    "": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".gz": "application/gzip",
}
_PIECE: Final = 1 << 18  # bytes that are sent at once


class Resource(NamedTuple):
    """The answer at one address: bytes, or a file that is opened for each request."""

    type: str
    body: bytes | Path


class ViewServer(ThreadingHTTPServer):
    """Serves the viewer and some files on 127.0.0.1, to clients that know ``address``.

    ``address`` holds a random token; requests without it, for another host (a page elsewhere that rebinds its name to
    127.0.0.1) or with another method than GET and HEAD are refused. Raises UsageError if the port is not available.
    """

    daemon_threads = True

    def __init__(self, files: Sequence[Path], port: int = 0) -> None:
        if not 0 <= port <= 0xFFFF:
            raise UsageError("give 0 to 65535", setting="port", value=port)
        self.resources: dict[str, Resource] = {}
        entries = []
        for number, path in enumerate(files):
            url = f"files/{number}.escx"
            self.resources[url] = Resource("application/octet-stream", path.resolve())
            entries.append({"name": path.name, "url": url})
        for name, body in served_files(entries).items():
            self.resources[name] = Resource(_TYPES[Path(name).suffix], body)
        self.policy = POLICY
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as exc:
            raise UsageError(f"cannot be served on: {exc.strerror or exc}", setting="port", value=port) from exc
        number = self.server_address[1]
        self.hosts = {f"127.0.0.1:{number}", f"localhost:{number}"}
        self.address = f"http://127.0.0.1:{number}/{self.token}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Logs broken connections for debugging: a browser that disconnects is not an error."""
        _LOG.debug("a request from %s broke off", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: ViewServer
    protocol_version = "HTTP/1.1"
    server_version = "escort"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:
        """Sends what the address names, or a range of it."""
        if resource := self._resource():
            self._send(resource)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        """Refuses the method."""
        self.close_connection = True  # a body may follow
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"})

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Logs requests for debugging only."""
        _LOG.debug(format, *args)

    def _resource(self) -> Resource | None:
        """The requested resource; None after a refusal."""
        if self.headers.get("Host") not in self.server.hosts:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
            return None
        _, token, *rest = (*urlsplit(self.path).path.split("/", 2), "")[:3]
        name = unquote(rest[0]) if rest else ""
        known = hmac.compare_digest(token.encode(), self.server.token.encode())
        resource = self.server.resources.get(name) if known and self.path.count("/") > 1 else None
        if resource is None:
            self._refuse(HTTPStatus.NOT_FOUND)
        return resource

    def _send(self, resource: Resource) -> None:
        if isinstance(resource.body, bytes):
            self._head(HTTPStatus.OK, {"Content-Type": resource.type, "Content-Length": str(len(resource.body))})
            if self.command != "HEAD":
                self.wfile.write(resource.body)
            return
        try:
            file = open_file(resource.body, EscortError, follow=True)
        except EscortError:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with file:
            state = os.fstat(file.fileno())
            tag = f'"{state.st_ino:x}-{state.st_size:x}-{state.st_mtime_ns:x}"'
            headers = {"Content-Type": resource.type, "Accept-Ranges": "bytes", "ETag": tag}
            status, start, end = self._range(state.st_size, tag)
            if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self._refuse(status, {"Content-Range": f"bytes */{state.st_size}", "ETag": tag})
                return
            if status == HTTPStatus.PARTIAL_CONTENT:
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{state.st_size}"
            self._head(status, headers | {"Content-Length": str(end - start)})
            if self.command == "HEAD":
                return
            file.seek(start)
            while start < end and (piece := file.read(min(_PIECE, end - start))):
                self.wfile.write(piece)
                start += len(piece)
            if start < end:  # the file was truncated in the meantime
                self.close_connection = True

    def _range(self, size: int, tag: str) -> tuple[HTTPStatus, int, int]:
        """(status, first byte, end) of the answer. Several ranges, and other units, get the whole file (RFC 9110)."""
        match = _RANGE.fullmatch(self.headers.get("Range", "").strip())
        if not match or match[0] == "bytes=-" or self.headers.get("If-Range", tag) != tag:
            return HTTPStatus.OK, 0, size
        first, last = match[1], match[2]
        if not first:
            start, end = max(0, size - int(last)), size
        else:
            start, end = int(first), min(size, int(last) + 1) if last else size
            if last and int(last) < start:
                return HTTPStatus.OK, 0, size
        if start >= end:
            return HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, 0
        return HTTPStatus.PARTIAL_CONTENT, start, end

    def _refuse(self, status: HTTPStatus, headers: dict[str, str] | None = None) -> None:
        body = f"{status.value} {status.phrase}\n".encode()
        self._head(status, {"Content-Type": "text/plain", "Content-Length": str(len(body)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
