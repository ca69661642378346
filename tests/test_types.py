"""Types that users' type checkers read alike: no public name of ``escort_codec`` is left to their inference.

``pyright --verifytypes`` (CONTRIBUTING.md) is the full check; the rule that mypy does not know is checked here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "escort_codec"
MODULES = [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))]


def public(name: str) -> bool:
    """Whether a name is checked: constants in capitals and type aliases read alike, and other checks see the rest."""
    return name[:1].islower()


def plain(value: ast.expr, parameters: frozenset[str]) -> bool:
    """Whether every checker infers the same type: of a literal, or of a parameter, whose type is declared."""
    if isinstance(value, ast.UnaryOp):
        value = value.operand
    return isinstance(value, ast.Constant) or (isinstance(value, ast.Name) and value.id in parameters)


def flat(target: ast.expr) -> Iterator[ast.expr]:
    """A target's names and attributes."""
    if isinstance(target, ast.Tuple | ast.List):
        for each in target.elts:
            yield from flat(each)
    else:
        yield target


def name_of(target: ast.expr, *, of_self: bool) -> str:
    """The name that an assignment declares, in a class's or module's body or on ``self``; empty for another target."""
    if of_self:
        found = isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"
        return target.attr if found and isinstance(target, ast.Attribute) else ""
    return target.id if isinstance(target, ast.Name) else ""


def faults(body: list[ast.stmt], *, of_self: bool, parameters: frozenset[str]) -> tuple[set[str], set[str]]:
    """(names that are declared with a type, names that are assigned something whose type is inferred)."""
    typed, inferred = set(), set()
    for statement in body:
        for node in ast.walk(statement) if of_self else [statement]:
            if isinstance(node, ast.AnnAssign):
                typed.add(name_of(node.target, of_self=of_self))
            elif isinstance(node, ast.AugAssign):
                inferred.add(name_of(node.target, of_self=of_self))
            elif isinstance(node, ast.Assign):
                whole = {name_of(target, of_self=of_self) for target in node.targets}
                parts = {name_of(each, of_self=of_self) for target in node.targets for each in flat(target)}
                inferred |= parts if not plain(node.value, parameters) else parts - whole
    return typed, inferred


def untyped(tree: ast.Module) -> list[str]:
    """The public names of a module, its classes and their instances that have no declared type but need one."""
    typed, inferred = faults(tree.body, of_self=False, parameters=frozenset())
    found = [name for name in inferred - typed if public(name)]
    for owner in (node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")):
        typed, inferred = faults(owner.body, of_self=False, parameters=frozenset())
        for method in (node for node in owner.body if isinstance(node, ast.FunctionDef)):
            arguments = method.args
            every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
            parameters = frozenset(each.arg for each in every if each.annotation)
            more = faults(method.body, of_self=True, parameters=parameters)
            typed, inferred = typed | more[0], inferred | more[1]
        found += [f"{owner.name}.{name}" for name in inferred - typed if public(name)]
    return sorted(found)


@pytest.mark.parametrize("module", MODULES)
def test_public_names_have_declared_types(module: str) -> None:
    tree = ast.parse((PACKAGE / module).read_text("utf-8"))
    assert untyped(tree) == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("log = make()", ["log"]),
        ("log: Final = make()", []),
        ("LOG = make()\n_log = make()\ncount = -1", []),
        ("class A:\n low, high = 0, 1\n top = 2", ["A.high", "A.low"]),
        ("class A:\n def f(self, a: int, b):\n  self.a, self.b = a, b", ["A.a", "A.b"]),
        ("class A:\n def f(self, a: int, b):\n  self.a = a\n  self.b = b\n  self._c = f()", ["A.b"]),
        ("class A:\n a: int\n def f(self):\n  self.a = f()\n  self.b: int = f()\n  if self.a:\n   self.b += 1", []),
        ("class A:\n def f(self):\n  self.a = 0\n def g(self):\n  self.a += 1", ["A.a"]),
        ("class _A:\n def f(self):\n  self.a = f()", []),
    ],
)
def test_what_needs_a_type(source: str, names: list[str]) -> None:
    assert untyped(ast.parse(source)) == names
