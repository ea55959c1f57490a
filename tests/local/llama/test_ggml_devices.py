"""Builds of llama.cpp that choose their code at run time are told where it is."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp
import pytest

from nbllm.local.llama import ggml_devices
from nbllm.local.llama.ggml_devices import ggml_function, start_backends


class Ggml:
    """ggml with so many backends at hand; notes where it is told to look for more."""

    def __init__(self, registered: int) -> None:
        self.folders: list[str] = []
        self.ggml_backend_reg_count: Any = lambda: registered
        self.ggml_backend_load_all_from_path: Any = lambda path: self.folders.append(path.decode())


def test_backends_in_libraries_of_their_own_are_found_in_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ggml = Ggml(registered=0)
    monkeypatch.setattr(ggml_devices, "libllama", ggml)
    start_backends()
    assert ggml.folders == [str(Path(llama_cpp.__file__).parent / "lib")]


def test_backends_that_are_linked_in_are_not_loaded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    ggml = Ggml(registered=1)
    monkeypatch.setattr(ggml_devices, "libllama", ggml)
    start_backends()
    assert ggml.folders == []


def test_where_a_library_shows_only_its_own_functions_ggmls_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ggml_devices, "libllama", object())
    assert ggml_function("ggml_backend_reg_count", ctypes.c_size_t)() >= 1
