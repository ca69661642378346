"""Small things that many tests share."""

from __future__ import annotations

import doctest
import os
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import escort_codec
from escort_codec.coding import EdgeMap
from escort_codec.container.verify import verify
from escort_codec.exemplar import Exemplar
from escort_codec.hint import encode_hint
from escort_codec.recipe import EdgeSettings, Recipe

HINTS = [
    encode_hint(np.full((h, w, 3), (9 * h, 7 * w, 99), np.uint8), side=8) for h, w in ((4, 8), (8, 8), (3, 1), (9, 5))
]
"""A few small hints."""


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder in memory where the system has such a thing: for tests that write hundreds of files and sync each."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def draw_edges(height: int, width: int, seed: int = 0) -> EdgeMap:
    """Curves one pixel wide that depend on ``seed``."""
    y, x = np.mgrid[0:height, 0:width]
    level = ((x * (3 + seed % 5) + y * y // (4 + seed % 7) + 11 * seed) // 40) % 2
    edges = np.zeros((height, width), np.bool_)
    edges[:, 1:] |= level[:, 1:] != level[:, :-1]
    return edges


def make_exemplars(count: int, *, start: int = 0, labels: int = 3, real_bytes: int = 60) -> list[Exemplar]:
    """``count`` exemplars of all kinds, sorted by key and numbered from ``start``: every fourth is real."""
    made = []
    for i in range(start, start + count):
        label, name = f"class-{labels * (i - start) // count}", f"sub/image-{i:06d}.jpg"
        if i % 4 == 3:
            data = np.random.default_rng(i).bytes(real_bytes + i % 50)
            made.append(Exemplar.from_image(data, label=label, name=name, size=(20 + i % 9, 30)))
        else:
            made.append(
                Exemplar.from_edges(
                    draw_edges(12 + i % 5, 17, i),
                    label=label,
                    name=name,
                    size=None if i % 3 else (50, 60),
                    prompt=f"a picture of {i % 7}" if i % 5 == 0 else None,
                    seeds=(0, 1, 2) if i % 2 else (7,),
                    hint=HINTS[i % len(HINTS)] if i % 3 else None,
                    edge_settings=EdgeSettings(low=50 + i % 2),
                    recipe=Recipe(preset="lowres") if i % 64 > 60 else Recipe(),
                    coding="rle",
                )
            )
    return made


def read_all(path: Path, *, recover: bool = False) -> list[Exemplar]:
    """Everything in a file."""
    with escort_codec.open(path, recover=recover) as reader:
        return list(reader)


def assert_whole(path: Path) -> int:
    """Verifies a file; the number of its exemplars."""
    verdict = verify(path)
    assert verdict.fault is None, verdict.fault
    assert verdict.size == path.stat().st_size
    return verdict.exemplars


def in_child(work: Callable[[], None]) -> int:
    """Runs ``work`` in a forked process; its exit code, or minus the signal that ended it. 99 is an exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn where pytest-xdist has threads
        pid = os.fork()
    if pid == 0:
        code = 99
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def check_page(page: Path, *, more_than: int) -> None:
    """Runs a page's examples as doctests in the current folder: all give what it shows, and there are enough."""
    result = doctest.testfile(
        str(page), module_relative=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, encoding="utf-8"
    )
    assert result.attempted > more_than
    assert result.failed == 0
