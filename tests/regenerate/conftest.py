"""The tiny models, written once a session. No Hub: every test runs as where there is no network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model`` (Stable Diffusion 1's layout) and ``controlnet``."""
    from tests.regenerate.random_models import write_sd

    folder = tmp_path_factory.mktemp("sd")
    write_sd(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model`` (Stable Diffusion XL's layout) and ``controlnet``."""
    from tests.regenerate.random_models import write_sdxl

    folder = tmp_path_factory.mktemp("sdxl")
    write_sdxl(folder)
    return folder
