"""What a process imports until it can send its first request."""

from __future__ import annotations

import subprocess
import sys

import pytest

UNWANTED = ("click", "rich", "pygments")


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_httpx_brings_its_command_line_only_to_those_who_call_it() -> None:
    pytest.importorskip("rich")
    code = f"""
import sys
import nbllm.cloud.cloud_model, httpx
print([name for name in {UNWANTED} if name in sys.modules])
try:
    httpx.main(["--help"])
except SystemExit:
    pass
"""
    first, _, rest = run(code).partition("\n")
    assert first == "[]"
    assert "HTTP" in rest


def test_httpx_that_is_there_already_stays_as_it_is() -> None:
    code = "import httpx; before = httpx.main; import nbllm.cloud; print(httpx.main is before)"
    assert run(code) == "True\n"
