"""The marks ``slow`` and ``browser``, and the groups: listed names are files, ``make test-fast`` leaves the marked out,
and one process runs a group."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import FAST, MARKED, ONE_PROCESS, TESTS, group_of, marks_of

PATTERNS = [pattern for patterns in MARKED.values() for pattern in patterns]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_name_in_the_list_is_a_test_file(pattern: str) -> None:
    assert any(path.name.startswith("test_") for path in TESTS.glob(pattern))


def test_files_have_the_marks_of_the_list() -> None:
    assert marks_of(TESTS / "cil" / "run" / "test_checkpoint.py") == ["slow"]
    assert marks_of(TESTS / "viewer" / "test_browser.py") == ["browser"]
    assert marks_of(TESTS / "codec" / "test_hint.py") == []
    assert marks_of(Path("/elsewhere/test_packaging.py")) == []


def test_files_of_a_group_exist() -> None:
    assert all((TESTS / name).is_file() for name in ONE_PROCESS)
    assert group_of(TESTS / "engine" / "test_ray.py") == "engine/test_ray.py"
    assert group_of(TESTS / "test_marks.py") == group_of(Path("/elsewhere/test_ray.py")) == ""


def test_pytest_xdist_knows_the_groups(request: pytest.FixtureRequest) -> None:
    """It reads them from the ends of the names, which a release of pytest may stop giving it without a word."""
    grouped = [item for item in request.session.items if group_of(item.path)]
    assert all(item.get_closest_marker("xdist_group") for item in grouped)
    if hasattr(request.config, "workerinput"):
        assert all(item.nodeid.endswith(f"@{group_of(item.path)}") for item in grouped)


def test_every_test_that_needs_a_browser_is_marked() -> None:
    for path in TESTS.rglob("test_*.py"):
        if "pytestmark = needs_browser\n" in path.read_text("utf-8"):
            assert "browser" in marks_of(path), path


def test_the_makefile_leaves_the_marked_files_out() -> None:
    assert f'-m "{FAST}"' in (TESTS.parent / "Makefile").read_text("utf-8")
