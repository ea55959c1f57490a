"""A notebook whose folder was deleted meanwhile: everything that needs no file goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="Windows keeps a folder that is in use"),
    pytest.mark.skipif(
        sys.version_info[:3] == (3, 13, 0),
        reason="CPython 3.13.0 raises SystemError for a missing attribute of any module there",
    ),
]

NOTEBOOK = """
import os, sys
os.mkdir(sys.argv[1])
os.chdir(sys.argv[1])
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.history_manager.enabled = False
os.rmdir(sys.argv[1])

def run(cell):
    ran = shell.run_cell(cell)
    error = ran.error_before_exec or ran.error_in_exec
    print("==", cell, "->", type(error).__name__ if error else "ok")
    return error

for cell in sys.stdin.read().splitlines():
    run(cell)
"""

WORKS = [
    "%load_ext nbllm",
    "%llm_config seed=3 max_tokens=4",
    "%llm --chat trip Hello",
    "%llm_models",
    "%llm_chat",
    "%llm_chat show trip",
    "%llm_devices",
    "%llm_stats",
    "import nbllm; nbllm.ModelManager().list_available_models()",
    "%llm_unload",
]
FAILS = {
    "%llm_load x.gguf": "ModelFileError",
    "%llm_load ./blob": "ModelNotFoundError",
    "%llm_load smollm2 --config x.json": "ConfigError",
    "%llm_load smollm2 --adapter x.gguf": "InvalidOptionError",
    "%llm_chat save trip": "ConversationError",
    "%llm_chat export trip x.md": "ConversationError",
    "%llm_chat import x.json": "ConversationError",
    "%llm_config --save x.json": "ConfigError",
    "%llm_config --load x.json": "ConfigError",
    "%llm_stats --save x.csv": "UsageError",
    "nbllm.ModelManager.from_config('x.json')": "ConfigError",
    "nbllm.ModelManager().save_config('x.json')": "ConfigError",
    "%llm --model gpt-4o Hi": "AuthenticationError",
}


def test_what_needs_no_file_goes_on_and_the_rest_is_an_error_of_nbllm(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", NOTEBOOK, str(tmp_path / "gone")],
        input="\n".join([*WORKS, *FAILS]),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = [line for line in ran.stdout.splitlines() if line.startswith("== ")]
    expected = dict.fromkeys(WORKS, "ok") | FAILS
    assert told == [f"== {cell} -> {outcome}" for cell, outcome in expected.items()], ran.stdout
    assert "the current folder no longer exists" in ran.stdout
