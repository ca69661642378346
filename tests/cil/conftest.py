"""Fixtures of the tests of training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.cil.small_runs import draw_small


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn data set that tests may read, but not change."""
    return draw_small(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread for torch: quicker for small networks, and sums of floats are the same in all runs of a module."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
