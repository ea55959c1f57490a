"""Every package that is imported is declared: an undeclared one works only by another's grace."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
FOR_USERS = ("local", "schema", "hub", "dask")
"""Extras without which a part of the package says what to install."""

OPTIONAL = {
    "PIL": "pictures in variables; who has none has not imported it",
    "keyring": "keys in the system's keyring, where it is installed",
    "nbconvert": "it imports what exports notebooks as scripts, and nobody else does",
    "nbformat": "comes with nbconvert",
    "nest_asyncio2": "ipykernel's own patch of the loop, which is looked for only",
    "pydantic_core": "comes with pydantic, of the extra schema",
    "typing_extensions": "comes with pydantic, of the extra schema",
}


@cache
def imported_packages(folder: Path) -> frozenset[str]:
    """Top-level packages that the files of a folder import, but for the standard library's."""
    files = list(folder.rglob("*.py"))
    names = {name for path in files for name in _imports(path.read_text(encoding="utf-8"))}
    local = {path.stem for path in files} | {"nbllm"}
    return frozenset(names - local - sys.stdlib_module_names)


def _imports(text: str) -> Iterable[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@cache
def project() -> Any:
    tomllib: Any = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def declared(*extras: str) -> set[str]:
    """Distributions that nbllm names for itself and for these extras, those in extras too."""
    texts = list(project()["dependencies"])
    waiting = list(extras)
    while waiting:
        for text in project()["optional-dependencies"][waiting.pop()]:
            needed = Requirement(text)
            texts.append(text)
            waiting += needed.extras if needed.name == "nbllm" else ()
    return {_normal(Requirement(text).name) for text in texts}


def distributions(package: str) -> set[str]:
    """Of those that are installed, which hold the package."""
    return {_normal(name) for name in _installed().get(package, [package])}


@cache
def _installed() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def undeclared(packages: frozenset[str], *extras: str) -> set[str]:
    names = declared(*extras)
    return {package for package in packages if not distributions(package) & names}


def test_what_the_package_imports_is_declared() -> None:
    everyday = imported_packages(ROOT / "nbllm") - OPTIONAL.keys()
    assert undeclared(everyday, *FOR_USERS) == set()
    optional = {"dask", "distributed", "huggingface_hub", "jinja2", "llama_cpp", "pydantic"}
    assert undeclared(everyday) == optional


def test_what_the_tests_import_is_declared() -> None:
    assert undeclared(imported_packages(ROOT / "tests"), "test") == set()


def test_what_is_declared_is_imported() -> None:
    imported = imported_packages(ROOT / "nbllm")
    used = {name for package in imported for name in distributions(package)}
    assert declared(*FOR_USERS) - used == set()


def test_optional_packages_are_named_with_their_reason_as_long_as_they_are_used() -> None:
    assert OPTIONAL.keys() <= imported_packages(ROOT / "nbllm")


def test_type_checkers_find_the_types() -> None:
    assert (ROOT / "nbllm" / "py.typed").exists()
    assert "Typing :: Typed" in project()["classifiers"]
