"""The marks ``slow`` and ``browser``: listed names are files, and ``make test-fast`` leaves them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import FAST, MARKED, TESTS, marks_of

PATTERNS = [pattern for patterns in MARKED.values() for pattern in patterns]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_name_in_the_list_is_a_test_file(pattern: str) -> None:
    assert any(path.name.startswith("test_") for path in TESTS.glob(pattern))


def test_files_have_the_marks_of_the_list() -> None:
    assert marks_of(TESTS / "cil" / "run" / "test_checkpoint.py") == ["slow"]
    assert marks_of(TESTS / "viewer" / "test_browser.py") == ["browser"]
    assert marks_of(TESTS / "codec" / "test_hint.py") == []
    assert marks_of(Path("/elsewhere/test_packaging.py")) == []


def test_every_test_that_needs_a_browser_is_marked() -> None:
    for path in TESTS.rglob("test_*.py"):
        if "pytestmark = needs_browser\n" in path.read_text("utf-8"):
            assert "browser" in marks_of(path), path


def test_the_makefile_leaves_the_marked_files_out() -> None:
    assert f'-m "{FAST}"' in (TESTS.parent / "Makefile").read_text("utf-8")
