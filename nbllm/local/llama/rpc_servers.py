"""RPC servers: processes, mostly of other machines, whose devices llama.cpp uses as if its own.

llama.cpp's client has no time limits, and ends its process where a server refuses or is lost. The
process is ended here instead, with ``SERVER_STATUS`` and the problem as its last line.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from nbllm.local.installation import RPC_BUILD
from nbllm.local.ipc.worker_process import SERVER_PROBLEM, SERVER_STATUS
from nbllm.local.llama.backends import ggml_function

__all__ = ["ServerError", "add_servers", "give_up"]

_CONNECT_SECONDS = 3.0
_ANSWER_SECONDS = 4.0
_LOOK_SECONDS = 1.0
_OF_RPC = re.compile(r".*ggml-rpc.*?:\d+: ")  # where in llama.cpp's source it gives up
_Callback = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
_callbacks: list[Any] = []  # ctypes would free what C still calls
_added: list[str] = []


class ServerError(Exception):
    """An RPC server cannot be used; the reason is for reading."""


def add_servers(endpoints: Sequence[str]) -> None:
    """Put the devices of RPC servers ("address:port") behind the GPUs in ggml's list.

    Raises ``ServerError``. A server that does not speak llama.cpp's protocol, or not now, ends the
    process; from now on, so does the loss of a server.
    """
    new = [endpoint for endpoint in endpoints if endpoint not in _added]
    if not new:
        return
    add, register = _functions()
    for endpoint in new:
        _check_listens(endpoint)
        with _limited(endpoint):
            server = add(endpoint.encode())
        if not server:
            raise ServerError(f"the RPC server {endpoint} has no device")
        register(server)
        _added.append(endpoint)
    _on_abort(_lost)


def _functions() -> tuple[Any, Any]:
    backend = ggml_function("ggml_backend_reg_by_name", ctypes.c_void_p, ctypes.c_char_p)(b"RPC")
    if not backend:
        raise ServerError(f"the installed llama.cpp is built without RPC. {RPC_BUILD}")
    find = ggml_function(
        "ggml_backend_reg_get_proc_address", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p
    )
    address = find(backend, b"ggml_backend_rpc_add_server")
    add = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(address)
    return add, ggml_function("ggml_backend_register", None, ctypes.c_void_p)


def _check_listens(endpoint: str) -> None:
    """Raise ``ServerError`` where nothing accepts a connection."""
    reason = _unreachable(endpoint, _CONNECT_SECONDS)
    if reason is not None:
        raise ServerError(
            f"the RPC server {endpoint} does not answer: {reason}. Start it there "
            "(ggml-rpc-server -H ADDRESS -p PORT), or check the address and the firewall"
        )


def _unreachable(endpoint: str, seconds: float) -> str | None:
    host, _, port = endpoint.rpartition(":")
    try:
        socket.create_connection((host, int(port)), seconds).close()
    except TimeoutError:
        return "no response in time"
    except OSError as error:
        return (error.strerror or type(error).__name__).lower()
    return None


# ---------------------------------------------------------------- the end of the process


@contextmanager
def _limited(endpoint: str) -> Iterator[None]:
    """End the process where the server is silent, or llama.cpp gives up on it."""
    silence = (
        f"the RPC server {endpoint} accepts connections but does not answer. It serves one program "
        "at a time: unload the model that uses it, in this notebook or another, or start another "
        "server"
    )
    timer = threading.Timer(_ANSWER_SECONDS, give_up, (silence,))
    timer.daemon = True
    timer.start()
    _on_abort(
        lambda reason: give_up(
            f"the RPC server {endpoint} cannot be used: {reason}. It must be a ggml-rpc-server of "
            "the llama.cpp that is installed here; another version may speak another protocol"
        )
    )
    try:
        yield
    finally:
        timer.cancel()


def _lost(reason: str) -> None:
    gone = [each for each in _added if _unreachable(each, _LOOK_SECONDS)]
    servers = " or ".join(gone or _added)
    give_up(
        f"the RPC server {servers} was lost: {reason}. Start it again there (ggml-rpc-server), or "
        "load the model without it"
    )


def give_up(problem: str) -> NoReturn:
    """End the process with the problem told."""
    sys.stderr.write(f"{SERVER_PROBLEM}{problem}\n")
    sys.stderr.flush()
    os._exit(SERVER_STATUS)


def _on_abort(act: Callable[[str], None]) -> None:
    """Have ggml call ``act`` before it ends the process because of a server; from any thread.

    Where it ends it for another reason, that is written to the log as without this.
    """

    def called(message: bytes) -> None:
        reason = message.decode(errors="replace").strip()
        if _OF_RPC.match(reason):
            act(_OF_RPC.sub("", reason))
        sys.stderr.write(f"{reason}\n")
        sys.stderr.flush()

    _callbacks.append(_Callback(called))
    ggml_function("ggml_set_abort_callback", ctypes.c_void_p, _Callback)(_callbacks[-1])
