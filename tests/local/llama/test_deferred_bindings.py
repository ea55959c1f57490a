"""A worker starts without what llama_cpp imports for its high-level classes."""

from __future__ import annotations

import subprocess
import sys

import pytest

STARTED = ["nbllm.local.worker", "nbllm.local.measuring.dry_run_process"]


@pytest.mark.parametrize("module", STARTED)
def test_a_process_imports_the_low_level_bindings_only(module: str) -> None:
    """Whoever asks for the rest of the package has it all the same."""
    script = (
        f"import sys, {module}; loaded = [*sys.modules]; from llama_cpp import Llama, llama_cpp"
    )
    script += "; print(Llama.__module__, llama_cpp.__name__, *loaded)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    high, low, *loaded = done.stdout.split()
    assert (high, low) == ("llama_cpp.llama", "llama_cpp.llama_cpp")
    assert "llama_cpp.llama_cpp" in loaded
    assert not {"jinja2", "llama_cpp.llama"} & {*loaded}
