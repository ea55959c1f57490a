"""What a public function takes, returns or raises can be imported from a public module."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import nbllm
import nbllm.core.errors
import nbllm.errors
import nbllm.testing
import nbllm.types

PUBLIC = (nbllm, nbllm.errors, nbllm.types, nbllm.testing)
NAMES = {name: getattr(module, name) for module in PUBLIC for name in module.__all__}
CALLED = ("__init__", "__call__", "__enter__", "__aenter__", "__iter__", "__getitem__")
MEMBERS = (property, classmethod, staticmethod)


def public_objects() -> Iterator[Any]:
    """Functions, classes and type aliases that the public modules name."""
    for module in PUBLIC:
        yield from (getattr(module, name) for name in module.__all__)


def docstrings() -> Iterator[str]:
    """Of the public functions and classes, and of the public members of these."""
    for value in public_objects():
        if inspect.isfunction(value) or inspect.isclass(value):
            yield value.__doc__ or ""
            members = vars(value) if inspect.isclass(value) else ()
            yield from (getattr(value, m).__doc__ or "" for m in members if not m.startswith("_"))


def annotations_of(value: Any) -> Iterator[tuple[ModuleType, str, str]]:
    """The annotations that a reader of ``value`` meets: their module, source, and place."""
    if inspect.isfunction(value):
        yield from _signature(inspect.unwrap(value), value.__name__)
    elif inspect.isclass(value):
        for each in value.__mro__:
            if each.__module__.startswith("nbllm"):
                yield from _class_annotations(each)


def _class_annotations(kind: type) -> Iterator[tuple[ModuleType, str, str]]:
    module = sys.modules[kind.__module__]
    for name, text in inspect.get_annotations(kind).items():
        if not name.startswith("_"):
            yield module, str(text), f"{kind.__name__}.{name}"
    for name, member in vars(kind).items():
        if name.startswith("_") and (name not in CALLED or is_dataclass(kind)):
            continue
        function = member.fget if isinstance(member, property) else member
        function = inspect.unwrap(getattr(function, "__func__", function))
        if inspect.isfunction(function):
            yield from _signature(function, f"{kind.__name__}.{name}")
            if name == "__init__":
                yield from _attributes(function, kind)


def _signature(function: Any, place: str) -> Iterator[tuple[ModuleType, str, str]]:
    for text in function.__annotations__.values():
        yield sys.modules[function.__module__], str(text), place


def _attributes(function: Any, kind: type) -> Iterator[tuple[ModuleType, str, str]]:
    """Of the public attributes that a constructor annotates: ``self.name: Type``."""
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        match node:
            case ast.AnnAssign(target=ast.Attribute(attr=name), annotation=annotation):
                if not name.startswith("_"):
                    text = ast.unparse(annotation)
                    yield sys.modules[kind.__module__], text, f"{kind.__name__}.{name}"
            case _:
                pass


@cache
def sources(module: ModuleType) -> tuple[dict[str, str], dict[str, str]]:
    """A module's own definitions (of aliases with their source), and the homes of its imports."""
    own: dict[str, str] = {}
    homes: dict[str, str] = {}
    for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            homes.update({alias.asname or alias.name: node.module for alias in node.names})
    for node in ast.parse(Path(str(module.__file__)).read_text()).body:
        match node:
            case ast.ClassDef(name=name):
                own[name] = ""
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                own[name] = ast.unparse(value)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                own[name] = ast.unparse(value)
            case _:
                pass
    return own, homes


def missing_names(module: ModuleType, text: str, place: str, seen: set[str]) -> Iterator[str]:
    """Names of nbllm's own types in an annotation that no public module has.

    Aliases are followed; so are names with an underscore, which are not asked for themselves.
    """
    for name in re.findall(r"[A-Za-z_]\w*", re.sub(r"'[^']*'|\"[^\"]*\"", "", text)):
        own, homes = sources(module)
        home = module
        while name not in own and homes.get(name, "").startswith("nbllm"):
            home = importlib.import_module(homes[name])
            own, homes = sources(home)
        if name not in own or own[name].startswith("TypeVar") or name in seen:
            continue
        seen.add(name)
        if not name.startswith("_") and NAMES.get(name) is not getattr(home, name):
            yield f"{home.__name__}.{name} ({place})"
        yield from missing_names(home, own[name], place, seen)


def test_what_a_public_function_takes_and_returns_can_be_imported() -> None:
    seen: set[str] = set()
    missing = [
        name
        for value in public_objects()
        for module, text, place in annotations_of(value)
        for name in missing_names(module, text, place, seen)
    ]
    assert not missing
    assert {"Placement", "ManagerEvent", "GenerationRecord", "Phase"} <= seen


@pytest.mark.parametrize("module", PUBLIC[1:], ids=lambda module: module.__name__)
def test_the_names_of_a_public_module_exist_once_and_explain_themselves(module: Any) -> None:
    assert len(module.__all__) == len(set(module.__all__))
    for name in module.__all__:
        value = getattr(module, name)
        assert value.__doc__ or not inspect.isclass(value), name


def test_every_error_is_public_and_stands_in_the_tree() -> None:
    defined = {
        name
        for name, value in vars(nbllm.core.errors).items()
        if inspect.isclass(value) and issubclass(value, Exception) and not name.startswith("_")
    }
    assert defined == set(nbllm.errors.__all__)
    tree = set(re.findall(r"\w+Error\b", nbllm.errors.__doc__ or ""))
    assert tree == defined


def test_errors_that_public_docstrings_name_are_public_or_built_in() -> None:
    named = {name for text in docstrings() for name in re.findall(r"Raises? ``(\w+)``", text)}
    assert "ModelNotFoundError" in named
    assert not {name for name in named if name not in NAMES and not hasattr(builtins, name)}


def test_public_members_have_a_docstring_of_their_own_or_of_the_class_that_declares_them() -> None:
    bare = [
        f"{value.__name__}.{name}"
        for value in public_objects()
        if inspect.isclass(value) and value.__module__.startswith("nbllm")
        for name, member in vars(value).items()
        if not name.startswith("_")
        and (isinstance(member, MEMBERS) or inspect.isfunction(member))
        and not inspect.getdoc(getattr(value, name))
    ]
    assert not bare


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Placements'"):
        nbllm.types.Placements  # noqa: B018 - the access is the test


def test_importing_the_types_loads_nothing_heavy() -> None:
    heavy = {"IPython", "httpx", "ipywidgets", "llama_cpp", "matplotlib", "pandas"}
    code = f"import nbllm.types, sys; print(sorted({heavy!r} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
