"""The installed llama-cpp-python: whether nbllm can use it, and how to get one that it can."""

from __future__ import annotations

import re
from importlib.util import find_spec

from nbllm.core.errors import MissingDependencyError

__all__ = ["LOWEST_VERSION", "REINSTALL", "RPC_BUILD", "check_installation"]

LOWEST_VERSION = "0.3.35"
"""The first whose bindings have all that nbllm calls; the extra ``local`` asks for the same."""

REINSTALL = (
    "pip install --force-reinstall --no-cache-dir --no-deps "
    "--no-binary llama-cpp-python llama-cpp-python"
)
"""Compiles it for the processor of this machine. pip's cache may hold one for another."""

RPC_BUILD = (
    'Install a build with it: CMAKE_ARGS="-DGGML_RPC=on" pip install --force-reinstall '
    "--no-cache-dir --no-deps --no-binary llama-cpp-python llama-cpp-python"
)
"""Compiles it with the backend for RPC servers; options for GPUs go into CMAKE_ARGS as well."""

_ALTERNATIVES = (
    "pip compiles it, which needs a C++ compiler and takes some minutes.",
    "Without a compiler, from conda-forge: conda install -c conda-forge llama-cpp-python",
    "Without a compiler, from its makers, who have wheels for many systems, and for CUDA: "
    'pip install --only-binary llama-cpp-python "nbllm[local]" '
    "--extra-index-url https://abetlen.github.io/llama-cpp-python/whl/cpu",
    "Without llama.cpp: a model in the cloud (%llm_load gpt-4o), or one of a server such as "
    "Ollama (%llm_load ollama/llama3.2).",
)


def check_installation() -> None:
    """Raise ``MissingDependencyError`` where there is no llama-cpp-python that nbllm can use."""
    installed = _installed_version()
    if installed is None or _numbers(installed) < _numbers(LOWEST_VERSION):
        raise MissingDependencyError(
            f"llama-cpp-python>={LOWEST_VERSION}" if installed else "llama-cpp-python",
            purpose="Running a model on this machine",
            extra="local",
            installed=installed or "",
            alternatives=_ALTERNATIVES,
        )


def _installed_version() -> str | None:
    """Its version; that of a build under another package's name is taken as new enough."""
    if find_spec("llama_cpp") is None:
        return None
    from importlib import metadata  # it takes 20 ms, and workers need no more than the constants

    try:
        return metadata.version("llama-cpp-python")
    except metadata.PackageNotFoundError:
        return LOWEST_VERSION


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))
