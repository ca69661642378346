"""The examples of docs/library.md, run from top to bottom in an empty folder."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import escort_codec
from escort_codec import Exemplar, Reader, Writer, extract, merge, split
from tests.helpers import check_page

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


def test_every_example_gives_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_page(PAGE, more_than=40)


INTERNAL = {"file", "state", "block", "blocks", "table", "tables", "front"}  # for the container, as Reader says


def public(kind: type) -> set[str]:
    """The names of a class's methods, properties and fields, those that are set in ``__init__`` included."""
    names = {name for name in vars(kind) if not name.startswith("_")}
    code = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    names |= {
        node.attr
        for node in ast.walk(code)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
    }
    return {name for name in names if not name.startswith("_")} - INTERNAL


def test_the_page_imports_from_the_package_alone() -> None:
    modules = set(re.findall(r"(?:from|import) (escort\w*[\w.]*)", PAGE.read_text("utf-8")))
    assert modules == {"escort_codec"}


def test_every_public_name_has_an_example() -> None:
    shown = "\n".join(example.source for example in doctest.DocTestParser().get_examples(PAGE.read_text("utf-8")))
    missing = [name for name in escort_codec.__all__ if not re.search(rf"\b{name}\b", shown)]
    for kind in (Reader, Writer, Exemplar):
        missing += [f"{kind.__name__}.{name}" for name in public(kind) if not re.search(rf"\.{name}\b", shown)]
    for function in (Reader.__init__, Writer.__init__, Writer.abort, Writer.close, merge, split, extract):
        options = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
        missing += [f"{function.__qualname__}({name}=)" for name in options if f"{name}=" not in shown]
    assert missing == []
