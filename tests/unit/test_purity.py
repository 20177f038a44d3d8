"""Consensus is exact: the protocol's folders know no floats, no clocks, no randomness, no files, no set order."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONSENSUS = ("chain", "consensus", "precompiles", "bridge")
PURE = (*CONSENSUS, "pouw")
FORBIDDEN_MODULES = {"datetime", "time", "random", "secrets", "os", "socket", "threading", "asyncio", "subprocess"}
FORBIDDEN_CALLS = {"open", "float", "input", "print", "eval", "exec", "set"}
COMPILER = "pouw/compiler"  # runs once, before a graph exists; it reads weights and calibrates
FLOAT_BLAS = "pouw/backends"  # exact products through float32 below 2^24, proven and self-tested


def modules(folders: tuple[str, ...]) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def violations(tree: ast.AST, *, floats: bool) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from ((node.lineno, f"imports {name}") for name in names if name.split(".")[0] in FORBIDDEN_MODULES)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            yield node.lineno, f"calls {node.func.id}"
        if isinstance(node, ast.Set | ast.SetComp) and not _is_membership(node, tree):
            yield node.lineno, "makes a set"
        if isinstance(node, ast.Global):
            yield node.lineno, "changes a global"
        if floats and isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield node.lineno, "divides with /"
        if floats and isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield node.lineno, f"float {node.value}"


def _is_membership(node: ast.AST, tree: ast.AST) -> bool:
    """`x in {a, b}` and `{a, b} == {c}` have no order."""
    return any(
        isinstance(parent, ast.Compare) and node in [parent.left, *parent.comparators] for parent in ast.walk(tree)
    )


@pytest.mark.parametrize("path", modules(PURE), ids=lambda path: str(path.relative_to(ROOT)))
def test_protocol_is_pure(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    if relative.startswith(COMPILER):
        pytest.skip("the compiler runs before a graph exists")
    floats = not relative.startswith(FLOAT_BLAS)
    found = list(violations(ast.parse(path.read_text()), floats=floats))
    assert found == []


@pytest.mark.parametrize(
    "source", ["1 / 2", "x = 0.5", "open('f')", "import time", "for a in {1, 2}: pass", "from random import random"]
)
def test_the_check_itself_finds(source: str) -> None:
    assert list(violations(ast.parse(source), floats=True))


def test_membership_in_a_set_is_allowed() -> None:
    assert not list(violations(ast.parse("x in {1, 2}"), floats=True))
