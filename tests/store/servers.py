"""Servers for tests on 127.0.0.1: files over HTTP with ranges, which may break off, and S3 (moto)."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

S = TypeVar("S", bound=socketserver.BaseServer)


@dataclass
class Behaviour:
    """How the server answers, and what it was asked."""

    requests: list[str] = field(default_factory=list)
    break_off: int = -1  # of the next answers, how many end in the middle; -1: none
    ranges: bool = True
    status: int = 0
    sent: int = 0


class WebServer(ThreadingHTTPServer):
    """Serves ``folder``; each request is noted as ``GET /name bytes=0-9``."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.behaviour = Behaviour()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        how = self.server.behaviour
        wanted = self.headers.get("Range", "")
        how.requests.append(f"{self.command} {self.path} {wanted}".strip())
        file = self.server.folder / self.path.lstrip("/").partition("?")[0]
        status = how.status or (200 if file.is_file() else 404)
        if status != 200:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        size = file.stat().st_size
        start, end = 0, size
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted) if how.ranges else None
        if match:
            start, end = int(match[1]), min(size, int(match[2]) + 1)
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if not body:
            return
        breaks = how.break_off > 0
        how.break_off -= breaks
        with file.open("rb") as opened:
            opened.seek(start)
            left = (end - start) // 2 if breaks else end - start
            while left and (data := opened.read(min(left, 1 << 20))):
                try:
                    self.wfile.write(data)
                except OSError:  # the client has heard enough
                    self.close_connection = True
                    return
                how.sent += len(data)
                left -= len(data)
        if breaks:
            self.close_connection = True


@contextmanager
def running(server: S) -> Iterator[S]:
    """A server that answers, in a thread, while the block runs."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving(folder: Path) -> Iterator[WebServer]:
    """A server of ``folder`` while the block runs."""
    with running(WebServer(folder)) as server:
        yield server


ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""The credentials of tests; AWS_ENDPOINT_URL is added."""


@contextmanager
def serving_s3() -> Iterator[str]:
    """The address of an S3 server that keeps everything in this process's memory."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


class _Forwarder(socketserver.BaseRequestHandler):
    """Passes bytes on in both directions, until the client says what the server is to cut off."""

    server: BreakingProxy

    def handle(self) -> None:
        with socket.create_connection(self.server.behind) as upstream:
            back = threading.Thread(target=self._back, args=(upstream,), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while data := self.request.recv(1 << 16):
                    self.server.seen += data[:400]
                    if self.server.cut in data:
                        upstream.shutdown(socket.SHUT_RDWR)
                        break
                    upstream.sendall(data)

    def _back(self, upstream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := upstream.recv(1 << 16):
                self.request.sendall(data)


class BreakingProxy(socketserver.ThreadingTCPServer):
    """Stands before a server and cuts the connection when a request has ``cut`` in it."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, behind: str, cut: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarder)
        host, _, port = behind.removeprefix("http://").partition(":")
        self.behind, self.cut, self.seen = (host, int(port)), cut, b""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def breaking(behind: str, cut: bytes) -> Iterator[BreakingProxy]:
    """A proxy while the block runs."""
    with running(BreakingProxy(behind, cut)) as server:
        yield server
