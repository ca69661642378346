"""Links of the repository's pages lead to files and headings that exist, and the site shows every page. No network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import escort_codec

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for folder in (".", "docs", "spec", "benchmarks", "benchmarks/results")
    for page in (ROOT / folder).glob("*.md")
)


def outside_code(page: Path) -> str:
    """The text of a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links: lower case, hyphens for spaces, no other signs."""
    headings = re.findall(r"^#+ (.+)$", outside_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """The targets of a page's links that stay in the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "`", outside_code(page)))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    wrong = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `small` page\n[a](#a-small-page) [b](#b) [c](c.md) [d](https://example.org) [`e`](page.md)\n")
    assert broken(page) == ["#b", "c.md"]


def test_the_site_shows_every_page_and_leaves_none_out() -> None:
    shown = set(re.findall(r"^ +- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    spec = {f"spec/{page.name}" for page in (ROOT / "spec").glob("*.md")}
    assert shown == spec | {page.name for page in (ROOT / "docs").glob("*.md")} | {"benchmarks/README.md"}


def test_pages_of_the_site_link_to_pages_of_the_site() -> None:
    folders = [ROOT / "docs", ROOT / "spec", ROOT / "benchmarks" / "results"]
    for page in PAGES:
        if page.parent in (*folders, ROOT / "benchmarks"):
            for link in links(page):
                target = (page.parent / link.partition("#")[0]).resolve() if link[0] != "#" else page
                assert target.parent in folders or target == ROOT / "benchmarks" / "README.md", (page, link)


def test_the_reference_has_every_public_name() -> None:
    text = (ROOT / "docs" / "reference.md").read_text("utf-8")
    listed = re.findall(r"^::: escort_codec\.(?:\w+\.)*(\w+)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(escort_codec.__all__)
    for path in re.findall(r"^::: (escort_codec\S+)\.\w+$", text, re.MULTILINE):
        assert (ROOT / (path.replace(".", "/") + ".py")).exists() or (ROOT / path.replace(".", "/")).is_dir()
