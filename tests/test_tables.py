"""The tables in the pages are those of the results in benchmarks/results: `python benchmarks/tables.py` writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import tables


@pytest.mark.parametrize("path", tables.pages(), ids=lambda path: str(path.relative_to(tables.ROOT)))
def test_pages_quote_the_results(path: Path) -> None:
    text = path.read_text("utf-8")
    assert tables.renewed(text) == text


def test_every_table_is_on_a_page() -> None:
    shown = {found[2] for path in tables.pages() for found in tables.PLACE.finditer(path.read_text("utf-8"))}
    assert shown == set(tables.TABLES)
    assert len(shown) == 9


def test_a_table_replaces_what_stands_in_its_place() -> None:
    page = "before\n<!-- table: rate -->\nold\n<!-- /table -->\nafter\n"
    assert tables.renewed(page) == f"before\n<!-- table: rate -->\n{tables.rate()}\n<!-- /table -->\nafter\n"


def test_a_table_as_markdown() -> None:
    expected = "| a | b |\n|---|--:|\n| x | 1 |\n| y |  |"
    assert tables.markdown(("a", "b"), [["x", "1"], ["y", ""]]) == expected
