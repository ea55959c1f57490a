"""Where a model is served, and what is served there."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from urllib.parse import SplitResult, urlsplit, urlunsplit

import anyio
import httpx

from nbllm.cloud.adapter import Adapter, HttpRequest
from nbllm.cloud.transport.http_failures import silence
from nbllm.core.errors import InvalidOptionError, NotFoundError
from nbllm.core.naming.providers import PROVIDERS
from nbllm.core.types import ModelInfo
from nbllm.core.vendors import SERVER_TYPES, protocol_of

__all__ = [
    "base_url_of",
    "host_of",
    "list_all",
    "located",
    "needs_description",
    "seller_of",
    "served_model",
    "signer_of",
]

_USUAL = {each.model_type: each.usual_url for each in PROVIDERS if each.has_own_type}
_OPENAI_TYPES = ("openai", "openai-compatible")
_OLLAMA_PORTS = {"": "11434", "http": "80", "https": "443"}
_EVERYWHERE = ("", "0.0.0.0", "[::]")  # noqa: S104 - where a server listens, read as where it is
_HOST = re.compile(
    r"(?:(https?)://)?(\[[0-9a-f:.]+\]|[\w.-]*)(?::(\d{1,5}))?(/[\w./-]*)?",
    re.IGNORECASE | re.ASCII,
)


def located(info: ModelInfo, environment: Mapping[str, str] = os.environ) -> ModelInfo:
    """The model with its server's address, where its entry tells none and one is known."""
    if info.base_url is not None:
        return info
    address = _from_environment(info, environment) or _USUAL.get(info.model_type)
    return info if address is None else replace(info, base_url=address)


def _from_environment(info: ModelInfo, environment: Mapping[str, str]) -> str | None:
    if info.model_type in _OPENAI_TYPES:
        return environment.get("OPENAI_BASE_URL", "").strip() or None
    if info.model_type == "ollama":
        return _ollama_address(environment.get("OLLAMA_HOST", "").strip().strip("\"'"))
    return None


def _ollama_address(host: str) -> str | None:
    """The address that OLLAMA_HOST means: scheme, host and port, each of which may be left out.

    A server that listens on all addresses is asked on this machine.
    """
    found = _HOST.fullmatch(host) if host else None
    if found is None:
        return None
    scheme, name, port, path = (part or "" for part in found.groups())
    name = "localhost" if name in _EVERYWHERE else name
    scheme, port = scheme.lower(), port if 0 < int(port or 0) < 2**16 else ""
    port = port or _OLLAMA_PORTS[scheme]
    return f"{scheme or 'http'}://{name}:{port}{path.rstrip('/').removesuffix('/v1')}/v1"


def base_url_of(info: ModelInfo, default: str) -> str:
    """The address that requests are made from, without a slash at its end.

    A bare ``http://host:port`` means the protocol's usual path. Raises ``InvalidOptionError``.
    """
    if info.base_url is None:
        if info.model_type in SERVER_TYPES:
            raise InvalidOptionError(
                "base_url",
                f"{info.name} is of type {info.model_type}, so its config needs the address "
                "of the server, such as http://localhost:8000/v1; or set the environment variable "
                "OPENAI_BASE_URL",
            )
        return default
    parts = _split(info.base_url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidOptionError(
            "base_url",
            f"must be an address such as http://localhost:8000/v1 (got {info.base_url!r})",
        )
    path = parts.path.rstrip("/") or urlsplit(default).path
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def _split(url: str) -> SplitResult | None:
    """The parts of an address; None where it has a port or a host that cannot be."""
    try:
        parts = urlsplit(url)
        usable = parts.port != 0 and bool(httpx.URL(url).host)
    except (ValueError, httpx.InvalidURL):
        return None
    return parts if usable else None


def seller_of(info: ModelInfo, default: str) -> str:
    """Who asks a price for the model: the vendor, or the host of another server."""
    host = urlsplit(info.base_url or default).netloc.rpartition("@")[2]
    return info.model_type if host == urlsplit(default).netloc else host


def signer_of(info: ModelInfo, default: str) -> str:
    """Whose signatures come from where the model is served: a vendor, or the host of a server."""
    host = host_of(info.base_url or default)
    return protocol_of(info.model_type) if host == host_of(default) else host


def host_of(base_url: str | None) -> str:
    """The host that an address names, in lower case; empty where there is none."""
    return (urlsplit(base_url or "").hostname or "").lower()


_MOST_PAGES = 100


async def list_all(
    adapter: Adapter,
    info: ModelInfo,
    fetch: Callable[[HttpRequest], Awaitable[bytes]],
    seconds: float,
) -> list[ModelInfo]:
    """The models on all pages of the server's list, which may take ``seconds`` together."""
    models: list[ModelInfo] = []
    page: str | None = None
    with anyio.move_on_after(seconds):
        for _ in range(_MOST_PAGES):
            more, page = adapter.parse_list(info, await fetch(adapter.list_request(info, page)))
            models += more
            if page is None:
                break
        return models
    raise silence(info.name, seconds, first=True)


def needs_description(info: ModelInfo) -> bool:
    """Whether the server has to be asked what it serves."""
    return info.model_type in SERVER_TYPES and not (info.model and info.context_length)


def served_model(info: ModelInfo, listed: Sequence[ModelInfo]) -> ModelInfo:
    """``info`` with the model's id and context length, as far as the server tells them.

    A server of one model serves that one, whatever it is called here. Raises ``NotFoundError``
    where there are several and none has the name.
    """
    names = [served.name for served in listed]
    wanted = info.model or info.name
    if wanted in names:
        found = listed[names.index(wanted)]
    elif len(listed) == 1 and info.model is None:
        found = listed[0]
    elif not listed:
        return info
    else:
        raise NotFoundError(
            info.name,
            f"the server has no model {wanted!r}. It has {', '.join(names[:20])}: put one of them "
            "into the config as its model.",
        )
    return replace(
        info, model=found.name, context_length=info.context_length or found.context_length
    )
