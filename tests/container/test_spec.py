"""Every MUST of spec/FORMAT.md has a number, and every number a test that is marked with it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from escort_codec import limits
from escort_codec.coding import codings
from escort_codec.container import layout

ROOT = Path(__file__).parents[2]
SPEC = (ROOT / "spec" / "FORMAT.md").read_text("utf-8")


def demanded() -> list[str]:
    return re.findall(r"\((M\d+)\)", SPEC)


def proven() -> set[str]:
    """The arguments of ``pytest.mark.must(...)`` on test functions, read without running them."""
    found: set[str] = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.must":
                    found.update(str(ast.literal_eval(argument)) for argument in mark.args)
    return found


def test_every_sentence_with_must_has_a_number() -> None:
    for sentence in re.split(r"(?<=[.|])\s", SPEC.replace("\n", " ")):
        if "MUST" in sentence and not sentence.strip().startswith("Each sentence"):
            assert re.search(r"\(M\d+\)", sentence), sentence


def test_numbers_are_used_once_and_without_a_gap() -> None:
    numbers = [int(name[1:]) for name in demanded()]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


def test_every_demand_has_a_test_and_no_test_an_unknown_one() -> None:
    assert set(demanded()) - proven() == set(), "demands without a test"
    assert proven() - set(demanded()) == set(), "tests of demands that the spec does not make"


def test_the_spec_names_the_caps_of_the_program() -> None:
    text = SPEC.replace(",", "")
    for name in dir(limits):
        if name.startswith("MAX_"):
            assert re.search(rf"\b{getattr(limits, name)}\b", text), name


def test_the_spec_names_signature_chunks_and_codings() -> None:
    assert layout.SIGNATURE.hex(" ").upper() in SPEC
    for kind in layout.KNOWN:
        assert f"`{kind.decode()}`" in SPEC
    for coding in codings:
        assert re.search(rf"^\| {coding.number} \| `{coding.name}`", SPEC, re.MULTILINE)
