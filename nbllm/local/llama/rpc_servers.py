"""RPC servers: processes, mostly of other machines, whose devices llama.cpp uses as if its own.

llama.cpp's client has no time limits, and ends its process where a server refuses or is lost. The
process is ended here instead, with ``SERVER_STATUS`` and the problem as its last line. So it is
where a server is silent: within 4 seconds before it is used, within 30 in a load, and in a step
within 15 and what ``Stage`` allows it.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import psutil

from nbllm.local.installation import RPC_BUILD
from nbllm.local.ipc.liveness import Stage
from nbllm.local.ipc.worker_process import SERVER_PROBLEM, SERVER_STATUS
from nbllm.local.llama.ggml_devices import ggml_function

__all__ = ["ServerError", "add_servers", "give_up", "watch_servers"]

_CONNECT_SECONDS = 3.0
_ANSWER_SECONDS = 4.0
_LOOK_SECONDS = 1.0
_LOAD_SECONDS = 30.0  # a server may read and check a large tensor that it has kept
_STEP_SECONDS = 15.0
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


# ---------------------------------------------------------------- silence


def watch_servers(load: Stage, steps: Sequence[Stage]) -> None:
    """End the process where a server is silent for too long in a load or a step; from now on.

    A frozen program's system goes on to accept and confirm what is sent, until its buffers are
    full, so what is computed is given a time.
    """
    threading.Thread(target=_watch, args=(load, steps), daemon=True).start()


def _watch(load: Stage, steps: Sequence[Stage]) -> None:
    seen, silent = object(), 0.0
    while True:
        time.sleep(_LOOK_SECONDS)
        marks = [stage.mark for stage in (load, *steps)]
        moved = marks, _moved_bytes()
        silent = silent + _LOOK_SECONDS if moved == seen else 0.0
        seen = moved
        if _added and silent > _patience_seconds(load, steps):
            _frozen(silent)


def _patience_seconds(load: Stage, steps: Sequence[Stage]) -> float:
    _, load_seconds = load.mark
    if load_seconds is not None:
        return _LOAD_SECONDS + (0.0 if sys.platform == "linux" else load_seconds)
    allowed = [seconds for _, seconds in (stage.mark for stage in steps) if seconds is not None]
    return _STEP_SECONDS + max(allowed) if allowed else float("inf")


def _frozen(seconds: float) -> NoReturn:
    waiting = [each.endpoint for each in _connections() if each.waits]
    servers = " or ".join(dict.fromkeys(waiting or _added))
    give_up(
        f"the RPC server {servers} stopped responding ({seconds:.0f} s without an answer). Start "
        "it again there (ggml-rpc-server), or load the model without it"
    )


def _moved_bytes() -> object:
    """What came and went over the connections, and from disk; nothing where it is not known."""
    read = 0
    with suppress(psutil.Error, AttributeError):  # macOS does not count, and a container may not
        read = psutil.Process().io_counters().read_bytes
    return [each.moved for each in _connections()], read


class _Connection(NamedTuple):
    """A connection to a server: what was moved over it, and whether the server is to speak."""

    endpoint: str
    moved: tuple[int, int]
    waits: bool


# Of the fields of ``tcp_info`` in linux/tcp.h: since when was nothing sent, since when did nothing
# come (milliseconds), the bytes that were confirmed, and those that came.
_TCP_INFO = struct.Struct("=44xI4xI64xQQ")


def _connections() -> list[_Connection]:
    """llama.cpp's connections to the servers; none where the system does not tell of them."""
    if sys.platform != "linux":
        return []
    found: list[_Connection] = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile, or connects to nothing
            if str(link.readlink()).startswith("socket:"):
                found += _to_server(os.dup(int(link.name)))
    return found


def _to_server(descriptor: int) -> list[_Connection]:
    with socket.socket(fileno=descriptor) as connection:
        if connection.family != socket.AF_INET:
            return []
        host, port = connection.getpeername()
        endpoint = f"{host}:{port}"
        return [_described(endpoint, connection)] if endpoint in _added else []


def _described(endpoint: str, connection: socket.socket) -> _Connection:
    told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    sent, came, *moved = _TCP_INFO.unpack(told.ljust(_TCP_INFO.size, b"\0"))
    return _Connection(endpoint, (moved[0], moved[1]), waits=sent < came)


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
