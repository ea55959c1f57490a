"""The magics with RPC servers, in a kernel's shell."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from rpc_server import StartServer


def test_devices_and_ways_to_load_with_a_server(
    serve: StartServer, shell: InteractiveShell
) -> None:
    server = serve(1024)
    devices: Any = shell.run_line_magic("llm_devices", f"--rpc {server.endpoint}")
    row = devices[devices["device"] == server.label].iloc[0]
    assert (row["type"], row["memory (MiB)"], row["free (MiB)"]) == ("RPC server", 1024, 1024)
    assert row["good for"] == "models that need up to 768 MiB"
    fit: Any = shell.run_line_magic("llm_fit", f"--rpc {server.endpoint}")
    there = fit[fit["device"] == server.label]
    assert len(there) == len(fit[fit["device"] == "CPU"])
    assert there["fits"].any()
    assert f"{server.label} (MiB)" in fit
    assert f"%llm_load would use {server.label}: All layers fit." in fit.attrs["notes"][0]


def test_a_model_on_a_server_is_loaded_asked_and_unloaded(
    serve: StartServer, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(1024)
    flags = f"smollm2 --rpc {server.endpoint} --ctx 512 --threads 1"
    model: Any = shell.run_line_magic("llm_load", flags)
    assert model.info.device == server.label
    shell.run_cell_magic("llm", "-n 4 --temperature 0", "Hello")
    models: Any = shell.run_line_magic("llm_models", "")
    assert server.label in set(models["loaded on"].dropna())
    assert shell.user_ns["_llm"].text
    throughput = model._activity.tokens_by_device()
    assert throughput[server.label] == 4
    other: Any = shell.run_line_magic("llm_load", f"{flags} --as other")
    assert other.info.device == server.label, "the idle one made room on its server"
    assert not model.usable
    shell.run_line_magic("llm_unload", "")
    assert shell.run_line_magic("llm_load", flags).info.device == server.label
    shell.run_line_magic("llm_unload", "")
