"""The structure of the product: which package may import which, no cycles, no torch too early, small modules."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("escort_codec", "escort_cil", "escort_cli")
LONGEST = 300

BELOW = {
    "escort_codec.coding": ("escort_codec",),
    "escort_codec.latent": ("escort_codec", "escort_codec.coding"),
    "escort_codec.container": ("escort_codec", "escort_codec.coding", "escort_codec.latent"),
    "escort_codec.regenerate": ("escort_codec", "escort_codec.coding", "escort_codec.latent"),
    "escort_codec.export": ("escort_codec", "escort_codec.container", "escort_codec.regenerate"),
    "escort_codec": ("escort_codec.coding", "escort_codec.container", "escort_codec.latent"),
    "escort_cil": tuple(
        f"escort_codec{part}" for part in ("", ".coding", ".container", ".latent", ".regenerate", ".export")
    ),
    "escort_cli": (
        "escort_cil",
        *(f"escort_codec{part}" for part in ("", ".container", ".latent", ".regenerate", ".export")),
    ),
}
"""By layer, the layers that it may import: a package with all in it, except those packages that are layers too."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def statements(module: str, *, inside_functions: bool) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported, or all but those for type checkers."""
    pending: list[ast.AST] = [tree_of(module)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            continue
        if isinstance(node, ast.stmt):
            yield node
        pending += ast.iter_child_nodes(node)


@cache
def imports(module: str, *, inside_functions: bool = False) -> frozenset[str]:
    """The product's modules that a module imports, without their parent packages."""
    found = set()
    for node in statements(module, inside_functions=inside_functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            assert node.module is not None
            found |= {
                name if (name := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            }
    return frozenset(found & set(MODULES))


def layer(module: str) -> str:
    return max((name for name in BELOW if module == name or module.startswith(f"{name}.")), key=len)


def cycles(edges: dict[str, frozenset[str]]) -> list[list[str]]:
    """Groups of modules that import each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in edges[module]:
            if other not in index:
                visit(other)
            if other in stack:
                low[module] = min(low[module], low[other])
        if low[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in edges:
        if module not in index:
            visit(module)
    return found


def test_no_modules_import_each_other() -> None:
    assert cycles({module: imports(module) for module in MODULES}) == []


def test_no_modules_import_each_other_inside_functions_either() -> None:
    """Except two patterns: a package exports names lazily, and kernels are compiled by the module that they serve."""
    edges = {
        module: frozenset(other for other in imports(module, inside_functions=True) if not other.endswith("kernels"))
        for module in MODULES
        if not exports_lazily(module)
    }
    edges = {module: others & set(edges) for module, others in edges.items()}
    assert cycles(edges) == []


def test_folders_of_training_do_not_import_each_other() -> None:
    edges: dict[str, set[str]] = defaultdict(set)
    for module in MODULES:
        if module.startswith("escort_cil."):
            others = {".".join(other.split(".")[:2]) for other in imports(module, inside_functions=True)}
            edges[".".join(module.split(".")[:2])] |= {name for name in others if name.startswith("escort_cil.")}
    assert cycles({name: frozenset(others) for name, others in edges.items()}) == []


def exports_lazily(module: str) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree_of(module).body)


def test_a_cycle_is_found() -> None:
    edges = {"a": frozenset({"b"}), "b": frozenset({"c"}), "c": frozenset({"b", "d"}), "d": frozenset[str]()}
    assert cycles(edges) == [["b", "c"]]


def test_layers_import_only_the_layers_below_them() -> None:
    wrong = [
        f"{module} imports {other}"
        for module in MODULES
        for other in imports(module, inside_functions=True)
        if layer(other) not in (layer(module), *BELOW[layer(module)])
    ]
    assert wrong == []


@pytest.mark.parametrize("module", sorted(name for name in MODULES if not name.endswith("__main__")))
def test_public_names_exist(module: str) -> None:
    """What ``__all__`` lists can be imported, and the lists that load names lazily agree with one another."""
    lists = [
        ast.literal_eval(node.value)
        for node in statements(module, inside_functions=False)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    if not lists:
        return
    loaded = importlib.import_module(module)
    assert all(hasattr(loaded, name) for name in lists[0])
    homes = getattr(loaded, "_HOME_OF", None)
    if homes is not None:
        assert set(homes) <= set(lists[0])
        typed = [node for node in ast.walk(tree_of(module)) if isinstance(node, ast.ImportFrom)]
        places = {alias.name: node.module for node in typed for alias in node.names}
        assert {name: f"{module}.{home}" for name, home in homes.items()} == {name: places[name] for name in homes}


def test_the_codec_imports_no_torch() -> None:
    """Nor does ``import escort_cil``. Only the modules behind the ControlNet regenerator may."""
    controlnet = "escort_codec.regenerate.controlnet."
    names = [name for name in MODULES if name.startswith("escort_codec") and not name.startswith(controlnet)]
    names += [
        f"{controlnet}options",
        f"{controlnet}presets",
        "escort_cil",
        "escort_cil.run.folder",
        "escort_cil.report",
    ]
    script = f"import importlib, sys\nfor name in {names!r}:\n"
    script += "    importlib.import_module(name)\n    assert 'torch' not in sys.modules, name\n"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_module_is_long() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_a_class_name_stands_for_one_class() -> None:
    found = defaultdict(list)
    for module in MODULES:
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(module)
    assert {name: modules for name, modules in found.items() if len(modules) > 1} == {}


def test_only_one_module_prints() -> None:
    """Everything that is shown passes through escort_cli.terminal, which escapes what a stranger's file may say."""
    found = [
        f"{module}: {ast.unparse(node)}"
        for module in MODULES
        if module != "escort_cli.terminal"
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call)
        and re.fullmatch(r"print|(typer|click)\.\w*echo|sys\.(stdout|stderr)\.(write|buffer.*)", ast.unparse(node.func))
    ]
    assert found == []


def test_names_are_imported_one_by_one() -> None:
    for module in MODULES:
        for node in ast.walk(tree_of(module)):
            assert not (isinstance(node, ast.ImportFrom) and node.names[0].name == "*"), module


def test_the_map_of_folders_is_the_tree() -> None:
    """Each path in docs/architecture.md exists, and each folder of the product is on the page."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = next(block for block in page.split("```") if block.lstrip().startswith("cli.py"))
    named = set()
    parent = ""
    for line in block.strip("\n").splitlines():
        names = [word for word in line.split() if word.endswith((".py", "/"))]
        if not line.startswith(" "):
            parent = names[0] if names[0].endswith("/") else ""
            named.add(names[0])
        else:
            named |= {parent + name for name in names}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    folders = {f"{path.parent.relative_to(ROOT).as_posix()}/" for path in MODULES.values()}
    assert {folder for folder in folders if folder not in named} == {"escort_codec/regenerate/controlnet/"}
    mentioned = set(re.findall(r"`([a-z_]+/[\w/.]+)`", page))
    assert {name for name in mentioned if "NAME" not in name and not (ROOT / name).exists()} == set()
