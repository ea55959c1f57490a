"""A server of llama.cpp's RPC backend, for tests and benchmarks; of the build that has it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FOLDER = os.environ.get("NBLLM_RPC_BUILD", "")
"""What ``build_rpc.py`` has filled."""

LIBRARIES = Path(FOLDER) / "llama_cpp" / "lib"


@dataclass(frozen=True)
class Server:
    """A running server."""

    endpoint: str
    process: subprocess.Popen[bytes]

    @property
    def label(self) -> str:
        """What its device is called."""
        return f"RPC {self.endpoint}"

    def freeze(self) -> None:
        """Have the system stop it; its connections stay."""
        self.process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(10)


StartServer = Callable[[int], Server]


def start_server(mebibytes: int) -> Server:
    """Start one that claims to have so much memory, with one thread, and wait until it listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
    limit = {
        "LD_PRELOAD": str(LIBRARIES / "device_memory.so"),
        "NBLLM_DEVICE_MIB": str(mebibytes),
    }
    process = subprocess.Popen(
        [LIBRARIES / "ggml-rpc-server", "-H", "127.0.0.1", "-p", str(port), "-t", "1"],
        env=os.environ | limit,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while not _listens(port):
        if time.monotonic() > deadline:
            process.kill()
            raise TimeoutError("the server does not listen")
        time.sleep(0.05)
    return Server(f"127.0.0.1:{port}", process)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
