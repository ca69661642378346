"""``escort`` without the seconds that importing torch takes: a process that has imported it forks for each call.

    warm process   listens on a socket; for each call it forks, and the fork runs the command line as ``escort`` does
    program        what PATH has as ``escort``: sends words, folder, environment and streams, waits for the exit code

For tests that call it dozens of times and look at what it writes. It cannot be killed through the program, and has the
text encoding of the warm process.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HEAVY = (
    *("escort_cli.app", "escort_cil.learners", "escort_cil.trainer", "escort_codec.latent.kernels"),
    "escort_codec.regenerate.harmonic_kernels",
)
"""What takes its time to import."""
PROGRAM = """#!{python} -SEs
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as caller:
    caller.connect({address!r})
    call = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(caller, [len(call).to_bytes(8, "little")], [0, 1, 2])
    caller.sendall(call)
    sys.exit(caller.recv(1)[0])
"""


@contextmanager
def warm_escort(folder: Path) -> Iterator[Path]:
    """A folder for PATH with the program ``escort``, while the warm process runs. Both are in ``folder``."""
    address, programs = folder / "warm", folder / "bin"
    programs.mkdir()
    program = programs / "escort"
    program.write_text(PROGRAM.format(python=sys.executable, address=str(address)))
    program.chmod(0o755)
    with subprocess.Popen([sys.executable, "-m", "tests.warm", address], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield programs
        finally:
            process.terminate()


def serve(address: str) -> None:
    """Answers calls until it is terminated."""
    for name in HEAVY:
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        while True:
            caller, _ = server.accept()
            with caller:
                if not os.fork():
                    server.close()
                    answer(caller)
                    os._exit(0)
            os.waitpid(-1, os.WNOHANG)  # one of those that have answered


def answer(caller: socket.socket) -> None:
    """Runs one call in a process of its own and sends its exit code."""
    head, streams, _, _ = socket.recv_fds(caller, 8, 3)
    call = b""
    while len(call) < int.from_bytes(head, "little"):
        call += caller.recv(1 << 16)
    process = os.fork()
    if not process:
        caller.close()
        words, folder, environment = json.loads(call)
        run(words, folder, environment, streams)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    caller.sendall(bytes([code if code >= 0 else 128 - code]))


def run(words: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> None:
    """The command line, as ``escort`` begins and ends it. Never returns."""
    from escort_cli.app import main

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["escort", *words]
    code: object = 1
    try:
        main()
        code = 0
    except SystemExit as exc:
        code = exc.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    serve(sys.argv[1])
