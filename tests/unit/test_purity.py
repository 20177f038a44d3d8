"""Consensus is exact: the protocol's folders know no floats, no clocks, no randomness, no files, no set order."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONSENSUS = ("chain", "consensus", "precompiles", "bridge")
PURE = (*CONSENSUS, "pouw")
FORBIDDEN_MODULES = {"datetime", "time", "random", "secrets", "os", "socket", "threading", "asyncio", "subprocess"}
FORBIDDEN_CALLS = {"open", "float", "input", "print", "eval", "exec"}
ORDERING = {"list", "tuple", "enumerate", "iter", "next", "zip", "map"}  # what makes a set's order visible
COMPILER = "pouw/compiler"  # runs once, before a graph exists; it reads weights and calibrates
FLOAT_BLAS = "pouw/backends"  # exact products through float32 below 2^24, proven and self-tested


def modules(folders: tuple[str, ...]) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def violations(tree: ast.AST, *, floats: bool) -> Iterator[tuple[int, str]]:
    sets = set(names_of_sets(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from ((node.lineno, f"imports {name}") for name in names if name.split(".")[0] in FORBIDDEN_MODULES)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            yield node.lineno, f"calls {node.func.id}"
        yield from ((place.lineno, "iterates over a set") for place in iterated(node) if makes_set(place, sets))
        if isinstance(node, ast.Global):
            yield node.lineno, "changes a global"
        if floats and isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield node.lineno, "divides with /"
        if floats and isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield node.lineno, f"float {node.value}"


def iterated(node: ast.AST) -> list[ast.expr]:
    """What a node goes through in order; a set comprehension over a set makes no order visible."""
    if isinstance(node, ast.For):
        return [node.iter]
    if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
        return [generator.iter for generator in node.generators]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ORDERING:
        return node.args
    return [node.value] if isinstance(node, ast.Starred) else []


def makes_set(node: ast.expr, names: set[str]) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in {"set", "frozenset"}
    return isinstance(node, ast.Set | ast.SetComp) or ast.unparse(node) in names


def names_of_sets(tree: ast.AST) -> Iterator[str]:
    """Variables and attributes that are given a set, by value or by annotation."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and makes_set(node.value, set()):
            yield from (ast.unparse(target) for target in node.targets)
        if not isinstance(node, ast.AnnAssign | ast.arg) or node.annotation is None:
            continue
        if ast.unparse(node.annotation).split("[")[0] in {"set", "frozenset", "AbstractSet"}:
            yield node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)


@pytest.mark.parametrize("path", modules(PURE), ids=lambda path: str(path.relative_to(ROOT)))
def test_protocol_is_pure(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    if relative.startswith(COMPILER):
        pytest.skip("the compiler runs before a graph exists")
    floats = not relative.startswith(FLOAT_BLAS)
    found = list(violations(ast.parse(path.read_text()), floats=floats))
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "1 / 2",
        "x = 0.5",
        "open('f')",
        "import time",
        "from random import random",
        "for a in {1, 2}: pass",
        "x = set(y)\nfor a in x: pass",
        "def f(x: frozenset[int]): return [a for a in x]",
        "self.x: set[int] = set()\ntuple(self.x)",
        "print(*{1, 2})",
    ],
)
def test_the_check_itself_finds(source: str) -> None:
    assert list(violations(ast.parse(source), floats=True))


@pytest.mark.parametrize("source", ["x in {1, 2}", "sorted({1, 2})", "y = set(x)\nlen(y)"])
def test_a_set_without_its_order_is_allowed(source: str) -> None:
    assert not list(violations(ast.parse(source), floats=True))
