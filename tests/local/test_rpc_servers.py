"""RPC servers that cannot be used, as the installed llama.cpp and the network have it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbllm.core.errors import InvalidOptionError, ModelLoadError
from nbllm.core.hardware.rpc_addresses import address_of, server_addresses
from nbllm.core.openers import plan_model
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.types import LoadOptions, ModelInfo

SERVER = "box.example:50052"
Answer = Callable[..., list[Any]]


def resolving_to(*addresses: str) -> Answer:
    """A resolver that knows one host."""

    def resolve(host: str, *_: Any) -> list[Any]:
        if host != "box.example":
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, 1, 6, "", (address, 0)) for address in addresses]

    return resolve


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "172.20.0.9", "192.168.1.20", "169.254.3.4", "100.64.0.7"]
)
def test_private_addresses_are_used(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to(address))
    assert address_of(SERVER, LoadOptions(rpc=(SERVER,))) == f"{address}:50052"


@pytest.mark.parametrize("addresses", [("8.8.8.8",), ("10.0.0.5", "203.0.114.9")])
def test_public_addresses_need_an_explicit_yes(
    addresses: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to(*addresses))
    with pytest.raises(InvalidOptionError, match="neither encrypted") as caught:
        address_of(SERVER, LoadOptions(rpc=(SERVER,)))
    assert addresses[-1] in str(caught.value)
    assert "--rpc-public" in str(caught.value)
    allowed = LoadOptions(rpc=(SERVER,), rpc_public=True)
    assert address_of(SERVER, allowed) == f"{addresses[0]}:50052"


def test_an_unknown_host_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to("10.0.0.5"))
    with pytest.raises(InvalidOptionError, match="the host of nowhere:50052 is unknown"):
        address_of("nowhere:50052", LoadOptions(rpc=("nowhere:50052",)))


def test_two_names_of_an_address_are_one_server() -> None:
    options = LoadOptions(rpc=("localhost:50052", "127.0.0.1:50052", "localhost:50053"))
    assert server_addresses(options) == ("127.0.0.1:50052", "127.0.0.1:50053")


def test_a_llama_cpp_without_rpc_is_refused_with_the_remedy(bundled_gguf: Path) -> None:
    info = ModelInfo(
        name="smollm2",
        model_type="llama",
        local=True,
        path=bundled_gguf,
        load=LoadOptions(rpc=("127.0.0.1:50052",)),
    )
    with pytest.raises(ModelLoadError, match="built without RPC") as caught:
        plan_model(info, ResourceDetector().detect())
    assert "GGML_RPC=on" in str(caught.value)
