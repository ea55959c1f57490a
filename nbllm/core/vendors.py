"""The vendor of a cloud model, told from the model's name; the protocol of a kind of server."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from nbllm.core.types import ModelInfo

__all__ = [
    "SERVER_TYPES",
    "VENDORS",
    "host_and_port",
    "protocol_of",
    "vendor_model",
]

VENDORS = ("openai", "anthropic", "gemini")

SERVER_TYPES = ("openai-compatible", "vllm", "llama-server", "lm-studio", "ollama", "openrouter")
"""Values of ``model_type`` for servers that speak OpenAI's protocol."""

_FAMILIES = {
    # Names that begin alike and are open weights, not served by OpenAI, are no vendor's.
    "openai": re.compile(r"(gpt-(?!oss|j-|neo)|chatgpt-|o\d(-|$)|text-embedding-(3|ada)|ft:gpt-)"),
    "anthropic": re.compile(r"claude-"),
    "gemini": re.compile(r"gemini-"),
}


def vendor_model(name: str) -> ModelInfo | None:
    """The entry for "vendor/model", or for a name of a vendor's family in any case; else None."""
    vendor, slash, model = name.partition("/")
    if slash and model and vendor in VENDORS and not _is_open(vendor, model):
        return ModelInfo(name=name, model_type=vendor, local=False, model=model, source="vendor")
    for family, pattern in _FAMILIES.items():
        if pattern.match(name.lower()):
            return ModelInfo(name=name.lower(), model_type=family, local=False, source="vendor")
    return None


def _is_open(vendor: str, model: str) -> bool:
    """Whether the name is that of open weights, which OpenAI itself does not serve."""
    elsewhere = os.environ.get("OPENAI_BASE_URL", "").strip()
    return vendor == "openai" and model.lower().startswith("gpt-oss") and not elsewhere


def host_and_port(info: ModelInfo) -> str:
    """Where a model behind HTTP is, without any user and password; "" where its vendor is meant."""
    try:
        return urlsplit(info.base_url or "").netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""


def protocol_of(model_type: str) -> str:
    """The vendor whose protocol models of this type are asked by."""
    return "openai" if model_type in SERVER_TYPES else model_type
