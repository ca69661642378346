"""``escort view``: what its server answers and refuses, and the page that it exports."""

from __future__ import annotations

import gzip
import http.client
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from escort_cli import view_page
from escort_cli.view_server import ViewServer
from escort_codec import Exemplar, Writer
from escort_codec.coding.context import load_prior
from escort_codec.errors import LimitError, OutputError, UsageError

NAME = "a <b> & ü.escx"


def write_file(path: Path, count: int = 3) -> Path:
    rng = np.random.default_rng(count)
    with Writer(path) as writer:
        for number in range(count):
            writer.add(Exemplar.from_edges(rng.random((9, 12)) < 0.2, label="cat", name=f"{number}.png", seeds=(0,)))
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ViewServer]:
    with ViewServer([write_file(tmp_path / NAME), write_file(tmp_path / "b.escx", 4)]) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: ViewServer, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    """The answer to a request for a path under the token, or for one that begins with a slash as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path if path.startswith("/") else f"/{server.token}/{path}", headers=named)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


FIRST = "files/0.escx"


def test_the_page_names_the_files_and_needs_nothing_from_elsewhere(server: ViewServer) -> None:
    answer, body = ask(server, "")
    page = body.decode()
    assert answer.status == 200
    assert answer.getheader("Content-Type") == "text/html; charset=utf-8"
    assert FIRST in page
    assert "a \\u003cb> & \\u00fc.escx" in page
    for name in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert name.startswith("data:") or ask(server, name)[0].status == 200
    policy = answer.getheader("Content-Security-Policy") or ""
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.getheader("Referrer-Policy") == "no-referrer"  # the address holds the token


def test_the_prior_is_that_of_the_codec(server: ViewServer) -> None:
    answer, body = ask(server, view_page.PRIOR)
    assert answer.getheader("Content-Encoding") is None
    assert gzip.decompress(body) == load_prior(1).tobytes()


@pytest.mark.parametrize(
    ("asked", "status", "place"),
    [
        ("bytes=0-9", 206, (0, 10)),
        ("bytes=5-5", 206, (5, 6)),
        ("bytes=10-", 206, (10, None)),
        ("bytes=-7", 206, (-7, None)),
        ("bytes=-100000", 206, (0, None)),
        ("bytes=20-100000", 206, (20, None)),
        ("bytes=100000-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=9-5", 200, (0, None)),
        ("bytes=-", 200, (0, None)),
        ("bytes=0-1,4-5", 200, (0, None)),
        ("lines=0-1", 200, (0, None)),
    ],
)
def test_ranges(
    server: ViewServer, tmp_path: Path, asked: str, status: int, place: tuple[int, int | None] | None
) -> None:
    data = (tmp_path / NAME).read_bytes()
    answer, body = ask(server, FIRST, Range=asked)
    assert answer.status == status
    if place is None:
        assert answer.getheader("Content-Range") == f"bytes */{len(data)}"
        return
    wanted = data[slice(*place)]
    assert body == wanted
    if status == 206:
        start = data.index(wanted) if len(wanted) > 1 else 5
        assert answer.getheader("Content-Range") == f"bytes {start}-{start + len(wanted) - 1}/{len(data)}"
    head, nothing = ask(server, FIRST, "HEAD", Range=asked)
    assert nothing == b""
    assert [head.getheader(name) for name in ("Content-Length", "Content-Range")] == [
        answer.getheader(name) for name in ("Content-Length", "Content-Range")
    ]


def test_a_file_that_changes_has_another_tag(server: ViewServer, tmp_path: Path) -> None:
    before, _ = ask(server, FIRST, Range="bytes=0-9")
    tag = before.getheader("ETag") or ""
    assert ask(server, FIRST, Range="bytes=0-9", If_Range=tag)[0].status == 206
    write_file(tmp_path / "new.escx", 5).replace(tmp_path / NAME)
    after, body = ask(server, FIRST, Range="bytes=0-9", If_Range=tag)
    assert (after.status, body) == (200, (tmp_path / NAME).read_bytes())
    assert after.getheader("ETag") not in ("", None, tag)
    (tmp_path / NAME).unlink()
    assert ask(server, FIRST)[0].status == 404


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1", "127.0.0.1:1", "localhost", ""])
def test_another_host_is_refused(server: ViewServer, host: str) -> None:
    """A page elsewhere whose name was made to mean 127.0.0.1 sends its own name."""
    assert ask(server, "", Host=host)[0].status == 421


def test_this_machines_names_are_taken(server: ViewServer) -> None:
    for name in ("127.0.0.1", "localhost"):
        assert ask(server, "", Host=f"{name}:{server.server_address[1]}")[0].status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//",
        "/files/1.escx",
        "/x/",
        "/x/style.css",
        "../style.css",
        "files/2.escx",
        "files/../files/0.escx",
        "files/0",
    ],
)
def test_nothing_else_is_there(server: ViewServer, path: str) -> None:
    answer, body = ask(server, path)
    assert answer.status == 404
    assert server.token not in body.decode()


def test_the_token_must_be_right_and_end_with_a_slash(server: ViewServer) -> None:
    for token in (server.token[:-1], server.token + "x", server.token.swapcase(), "é"):
        assert ask(server, f"/{quote(token)}/")[0].status == 404
    assert ask(server, f"/{server.token}")[0].status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(server: ViewServer, method: str) -> None:
    answer, _ = ask(server, "", method)
    assert answer.status == 405
    assert answer.getheader("Allow") == "GET, HEAD"


def test_tokens_differ_and_only_this_machine_is_served(server: ViewServer, tmp_path: Path) -> None:
    with ViewServer([tmp_path / "b.escx"]) as other:
        assert other.token != server.token
        assert len(other.token) >= 32
        assert other.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_or_none(server: ViewServer, tmp_path: Path) -> None:
    for port in (server.server_address[1], -1, 65536):
        with pytest.raises(UsageError) as caught:
            ViewServer([tmp_path / "b.escx"], int(port))
        assert caught.value.setting == "port"


def run_view(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", "view", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_command_refuses_what_is_no_escx_file(tmp_path: Path) -> None:
    (tmp_path / "photo.escx").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    for name in ("photo.escx", "missing.escx", ""):
        done = run_view("--no-open", tmp_path / name)
        assert done.returncode == 1
        assert re.fullmatch(r"escort view: .+\n", done.stderr)
        assert str(tmp_path / name) in done.stderr


def test_the_command_serves_until_ctrl_c(tmp_path: Path) -> None:
    write_file(tmp_path / "a.escx")
    # A shell's job in the background would start the tests, and so the command, with Ctrl-C ignored.
    heeding = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('cli', run_name='__main__')"
    )
    command = [sys.executable, "-c", heeding, "view", str(tmp_path / "a.escx"), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.match(r"http://127\.0\.0\.1:(\d+)/([\w-]{32,})/ ", line)
        assert match, line
        connection = http.client.HTTPConnection("127.0.0.1", int(match[1]), timeout=10)
        connection.request("GET", f"/{match[2]}/")
        assert connection.getresponse().status == 200
        connection.close()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")


def test_a_browser_that_goes_away_does_not_end_the_server(
    server: ViewServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", server.server_address[1])) as connection:
        connection.sendall(b"GET / HT")
    with socket.create_connection(("127.0.0.1", server.server_address[1])) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
    assert ask(server, "")[0].status == 200
    assert capsys.readouterr().err == ""


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_file(tmp_path / NAME)
    out = tmp_path / "page.html"
    assert view_page.export_page([path, write_file(tmp_path / "b.escx", 4)], out) == 7
    page = out.read_text("utf-8")
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert page.count("<script") == page.count("</script>") == 5
    with pytest.raises(OutputError, match="exists already"):
        view_page.export_page([path], out)
    assert out.read_text("utf-8") == page
    for cap, least in (("MOST_EXEMPLARS", 2), ("MOST_BYTES", 10)):
        monkeypatch.setattr(view_page, cap, least)
        with pytest.raises(LimitError, match="too many for one page"):
            view_page.export_page([path], tmp_path / "other.html")
        monkeypatch.undo()
    assert sorted(each.name for each in tmp_path.glob("*.html")) == ["page.html"]


def test_export_by_the_command(tmp_path: Path) -> None:
    path, out = write_file(tmp_path / "a.escx"), tmp_path / "page.html"
    done = run_view(path, "--export", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{out}: 3 exemplars of 1 file, {out.stat().st_size:,} bytes\n"
    done = run_view(path, "--export", out)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--force" in done.stderr
    assert run_view(path, "--export", out, "--force").returncode == 0
    path.write_bytes(path.read_bytes()[:-20])
    done = run_view(path, "--export", tmp_path / "other.html")
    assert done.returncode == 1
    assert not (tmp_path / "other.html").exists()
