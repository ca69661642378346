"""The first edge maps of a process, decoded by many threads at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys, threading
sys.setswitchinterval(1e-5)
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from escort_codec.coding import codings
edges = np.zeros((3, 16), dtype=bool)
start = threading.Barrier(8)
def decode(number):
    start.wait()
    coding = codings.get("rle")
    return coding.decode(coding.encode(edges), edges.shape).sum()
with ThreadPoolExecutor(8) as threads:
    assert list(threads.map(decode, range(8))) == [0] * 8
print("done")
"""


def test_threads_may_use_the_codings_first() -> None:
    """In a new interpreter that has not imported numba: only one thread may import it."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.stdout == "done\n", ran.stderr
