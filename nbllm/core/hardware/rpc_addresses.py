"""The addresses of RPC servers: what they are known by, whatever name somebody types."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address

from nbllm.core.errors import InvalidOptionError
from nbllm.core.hardware.time_limit import Answer, answer_within
from nbllm.core.load_options import LoadOptions

__all__ = ["address_of", "server_addresses"]

_NAME_SECONDS = 3.0


def server_addresses(options: LoadOptions) -> tuple[str, ...]:
    """The "address:port" of each RPC server that the options name; each once.

    Raises as ``address_of`` does.
    """
    return tuple(dict.fromkeys(address_of(server, options) for server in options.rpc or ()))


def address_of(server: str, options: LoadOptions) -> str:
    """The "address:port" of an RPC server, which llama.cpp connects to.

    Raises ``InvalidOptionError`` where the host is unknown, or has a public address and the options
    do not allow that.
    """
    host, _, port = server.rpartition(":")
    found: Answer[list[IPv4Address]] = answer_within(
        _NAME_SECONDS, f"address of {host}", lambda: _addresses(host), list
    )
    if not found.value:
        problem = f"the host of {server} is unknown; give its name or IPv4 address"
        raise InvalidOptionError("rpc", problem)
    public = [address for address in found.value if address.is_global]
    if public and not options.rpc_public:
        raise InvalidOptionError(
            "rpc",
            f"{server} is at the public address {public[0]}, and RPC is neither encrypted nor "
            "authenticated: whoever is on the way reads the prompts and can take over both "
            "machines. Use a VPN or an SSH tunnel, or allow it by rpc_public=True (--rpc-public)",
        )
    return f"{found.value[0]}:{port}"


def _addresses(host: str) -> list[IPv4Address]:
    """llama.cpp's client knows no IPv6."""
    found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    return [IPv4Address(str(address[0])) for *_, address in found]
