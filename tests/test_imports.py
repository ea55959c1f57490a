"""The package's modules form layers: none of them needs, in the end, itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nbllm

PACKAGE = Path(nbllm.__file__).parent


def _modules() -> dict[str, Path]:
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def _imports(path: Path) -> Iterator[str]:
    """All of them: at the top, in functions, and those that only type checkers see."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def _graph() -> dict[str, set[str]]:
    modules = _modules()
    return {
        name: {target for target in _imports(path) if target in modules and target != name}
        for name, path in modules.items()
    }


def _reach(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for target in graph[waiting.pop()] - seen:
            seen.add(target)
            waiting.append(target)
    return seen


def test_no_module_of_the_notebook_imports_itself_in_the_end() -> None:
    graph = _graph()
    notebook = [name for name in graph if name.startswith("nbllm.notebook")]
    circle = {name for name in notebook if name in _reach(graph, name)}
    assert {name: sorted(graph[name] & circle) for name in circle} == {}


def test_the_graph_knows_imports_of_every_kind() -> None:
    graph = _graph()
    assert "nbllm.notebook.session" in graph["nbllm.notebook.asking.live_answer"]  # at the top
    assert "nbllm.notebook.loop" in graph["nbllm.notebook.session"]  # in a function too
    assert "nbllm.notebook.session" in graph["nbllm.notebook.asking.question"]  # for types
