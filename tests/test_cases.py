"""Situations that people have met with their folders, as shell scripts beside what is expected of each.

``python -m tests.test_cases NAME`` writes what a case prints now, to be read before it is committed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.warm import warm_escort

FOLDER = Path(__file__).with_name("cases")
NAMES = sorted(path.stem for path in FOLDER.glob("*.sh") if path.stem != "prelude")
PLAIN = ("encodings", "resumed")
"""Cases that choose the encoding of the output, or kill the program: ``escort`` is started as usual."""
LIMIT = 600  # seconds: many times what any case takes


@pytest.fixture(scope="module")
def warm() -> Iterator[Path]:
    """The folder of an ``escort`` that starts quickly."""
    with tempfile.TemporaryDirectory() as folder, warm_escort(Path(folder)) as programs:
        yield programs


def printed(name: str, folder: Path, warm: Path | None = None) -> str:
    """What a case prints when it is run in ``folder``, perhaps with the ``escort`` in ``warm``."""
    script = f'. "{FOLDER / "prelude.sh"}"\n{(FOLDER / f"{name}.sh").read_text("utf-8")}'
    places = ([warm] if warm else []) + [Path(sys.executable).parent, os.environ["PATH"]]
    path = os.pathsep.join(map(str, places))
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path, "COLUMNS": "120", "LC_ALL": "C.UTF-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LIMIT,
        check=False,
    )
    return done.stdout.decode("utf-8", "backslashreplace")


@pytest.mark.parametrize("name", NAMES)
def test_case(name: str, warm: Path, tmp_path: Path) -> None:
    assert printed(name, tmp_path, None if name in PLAIN else warm) == (FOLDER / f"{name}.out").read_text("utf-8")


def test_each_case_has_what_is_expected() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.out")) == NAMES


if __name__ == "__main__":
    for each in sys.argv[1:] or NAMES:
        with tempfile.TemporaryDirectory() as place:
            (FOLDER / f"{each}.out").write_text(printed(each, Path(place)), "utf-8")
