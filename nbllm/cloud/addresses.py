"""Where servers are that a config names by their kind alone.

A config's ``base_url`` comes first, then the reader's own environment, in the variables and forms
that OpenAI's SDK and Ollama read too, then the port that a server of the kind usually has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace

from nbllm.core.naming.providers import PROVIDERS
from nbllm.core.types import ModelInfo

__all__ = ["located"]

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
