"""Devices that are real to llama.cpp: RPC servers on the loopback, of a build that knows them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from IPython.core.interactiveshell import InteractiveShell
from rpc_server import FOLDER, LIBRARIES, Server, StartServer, start_server


@pytest.fixture(scope="session", autouse=True)
def rpc_build() -> Iterator[None]:
    """Workers use the build with RPC."""
    if not (LIBRARIES / "ggml-rpc-server").exists():
        pytest.skip("NBLLM_RPC_BUILD names no folder that tests/devices/build_rpc.py has filled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", FOLDER, prepend=os.pathsep)
        yield


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """A shell of the test's own, with the magics."""
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False
    shell.run_line_magic("load_ext", "nbllm")
    yield shell
    shell.run_line_magic("llm_unload", "--all")
    shell.run_line_magic("unload_ext", "nbllm")
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()


@pytest.fixture
def serve() -> Iterator[StartServer]:
    """Starts servers, each with so many MiB of memory to tell; they end with the test."""
    servers: list[Server] = []

    def start(mebibytes: int) -> Server:
        servers.append(start_server(mebibytes))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
