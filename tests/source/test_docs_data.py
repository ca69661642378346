"""The examples of docs/data.md, run from top to bottom in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import check_page

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_every_example_gives_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_page(PAGE, more_than=20)
