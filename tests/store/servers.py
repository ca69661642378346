"""Servers for tests on 127.0.0.1: files over HTTP with ranges, which may break off, and S3 (moto)."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


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
                self.wfile.write(data)
                how.sent += len(data)
                left -= len(data)
        if breaks:
            self.close_connection = True


@contextmanager
def serving(folder: Path) -> Iterator[WebServer]:
    """A server of ``folder`` while the block runs."""
    server = WebServer(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


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
