"""What ``%load_ext nbllm`` costs, in fresh processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

LOAD = """
import json, os, sys, time
import psutil
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "storemagic")  # IPython's own part of loading extensions
modules, seen = set(sys.modules), []

def audit(event, arguments):
    flags = arguments[2] if event == "open" else 0
    if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR):
        seen.append(f"wrote {arguments[0]}")
    elif event.startswith(("socket.", "subprocess.", "os.fork", "os.mkdir", "os.rename")):
        seen.append(event)

sys.dont_write_bytecode = True
sys.addaudithook(audit)
memory = psutil.Process().memory_info().rss
began = time.process_time()  # whatever else the machine does
shell.run_line_magic("load_ext", "nbllm")
seconds = time.process_time() - began
memory = psutil.Process().memory_info().rss - memory
print(json.dumps([seconds, memory, seen, sorted(set(sys.modules) - modules)]))
os._exit(0)
"""


@pytest.fixture(scope="module")
def loads() -> list[tuple[float, int, list[str], list[str]]]:
    # Whoever imports a package for the second time finds it compiled.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def load() -> tuple[float, int, list[str], list[str]]:
        done = subprocess.run(
            [sys.executable, "-c", LOAD],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env=environment,
        )
        return tuple(json.loads(done.stdout.splitlines()[-1]))

    return [load() for _ in range(9)]


def test_it_takes_at_most_60_ms(loads) -> None:
    assert min(seconds for seconds, *_ in loads) <= 0.060


def test_it_takes_at_most_10_mib(loads) -> None:
    assert min(memory for _, memory, *_ in loads) <= 10 * 2**20


def test_it_writes_no_file_asks_no_network_and_starts_no_process(loads) -> None:
    assert not any(seen for _, _, seen, _ in loads)


def test_what_is_heavy_waits_until_it_is_used(loads) -> None:
    modules = {name.partition(".")[0] for name in loads[0][3]}
    heavy = {"pandas", "numpy", "matplotlib", "httpx", "ipywidgets", "llama_cpp", "pynvml"}
    heavy |= {"dask", "distributed"}
    assert not modules & heavy


def test_of_the_package_only_the_magics_and_their_words_are_imported(loads) -> None:
    """A line ``from nbllm.core.…`` on top of a magic's module can bring a hundred others along."""
    own = {name for name in loads[0][3] if name.startswith("nbllm.")}
    light = ("errors", "option_names", "paths", "suggest", "texts", "version", "words")
    rooms = ("nbllm.notebook", *(f"nbllm.core.{name}" for name in light))
    assert {name for name in own if not name.startswith(rooms)} == {"nbllm.core"}
    assert len(own) <= 60
