"""The viewer's modules in node."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from escort_cli.view_page import LEARNED, PRIOR, learned_model, viewer_files

NODE = shutil.which("node")
HERE = Path(__file__).parent


@cache
def _version() -> int:
    if NODE is None:
        return 0
    shown = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=False).stdout
    return int(shown.strip().lstrip("v").partition(".")[0] or 0)


needs_node = pytest.mark.skipif(
    _version() < 18,
    reason="NOT TESTED: the viewer's modules need node 18 or newer (Debian: apt-get install nodejs)",
)


def run_node(what: str, folder: Path, *paths: Path) -> dict[str, Any]:
    """What ``dump.mjs`` answers; ``folder`` takes the prior and the model of learned pictures."""
    assert NODE is not None
    prior = folder / PRIOR
    prior.write_bytes(viewer_files()[PRIOR])
    (folder / LEARNED).write_bytes(learned_model())
    command = [NODE, str(HERE / "dump.mjs"), what, str(prior), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))
