"""Kernels: the first edge maps of a process, decoded by many threads at once, and a cache that cannot be used."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from escort_codec import workers

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


def twice(x: int) -> int:
    """What the tests compile."""
    return 2 * x


Compile = Callable[[], tuple[Callable[[int], int], list[str]]]


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Compile:
    """Compiles ``twice`` with a cache in ``tmp_path / "cache"``: the kernel, and the lines about the cache."""
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", numba_locators())

    def compile_it() -> tuple[Callable[[int], int], list[str]]:
        workers._warn_once.cache_clear()
        caplog.clear()
        with caplog.at_level(logging.WARNING, "escort_codec"):
            found = workers.kernel(numba.int64(numba.int64), numba.int32(numba.int32))(twice)
        assert found(21) == 42
        return found, caplog.messages

    return compile_it


def numba_locators() -> list[type]:
    """The folder that is configured, and no other: the source tree of the tests is not to be written to."""
    from numba.core.caching import UserProvidedCacheLocator

    return [UserProvidedCacheLocator]


def hits(found: object) -> int:
    return sum(found.stats.cache_hits.values())  # type: ignore[attr-defined]


def test_a_whole_cache_is_used(compiled: Compile) -> None:
    assert compiled()[1] == []
    found, said = compiled()
    assert said == []
    assert hits(found) == 2


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("keep", ["nothing", "a part", "garbage", "a folder"])
def test_a_damaged_cache_ends_nothing_and_is_said_once(compiled: Compile, tmp_path: Path, kind: str, keep: str) -> None:
    compiled()
    for file in (tmp_path / "cache").rglob(f"*.{kind}"):
        data = file.read_bytes()
        if keep == "a folder":
            file.unlink()
            file.mkdir()
        else:
            file.write_bytes({"nothing": b"", "a part": data[: len(data) // 2], "garbage": b"\xff" * 99}[keep])
    found, said = compiled()
    assert hits(found) == 0
    (line,) = said
    assert "numba's cache" in line
    assert "compiled without it" in line


def test_a_cache_that_cannot_be_made_is_said_once(compiled: Compile, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder belongs")
    assert compiled()[1] == [
        "numba's cache folder cannot be written: kernels are compiled anew in each process (some seconds)"
    ]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit of file sizes")
def test_a_full_disk_ends_nothing_and_is_said_once(compiled: Compile) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        (line,) = compiled()[1]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "numba's cache cannot be used (File too large): kernels are compiled without it" in line


def test_a_fault_of_the_kernel_itself_is_raised() -> None:
    import numba

    with pytest.raises(numba.core.errors.TypingError):
        workers.kernel(numba.int64(numba.int64))(lambda x: x.nothing)
