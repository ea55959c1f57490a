"""The vendors, each in a line, and what servers speak.

All else that is a vendor's own is a folder of its name in ``nbllm.cloud.vendors``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from nbllm.core.types import ModelInfo

__all__ = [
    "SERVER_TYPES",
    "VENDORS",
    "Vendor",
    "host_and_port",
    "protocol_of",
]

_OPEN_GPT = r"(?!\W*(?:2\b|oss|j\b|neo|4all))"


@dataclass(frozen=True, slots=True)
class Vendor:
    """By what a vendor is known before anything of it is imported.

    ``ids`` matches the beginnings of its models' names, ``words`` those of what people call them,
    both in lower case. Its keys go to its ``hosts`` alone; the first is the usual one.
    """

    owner: str
    key_variable: str
    hosts: tuple[str, ...]
    ids: re.Pattern[str]
    words: re.Pattern[str]


VENDORS: Mapping[str, Vendor] = {
    "openai": Vendor(
        "OpenAI",
        "OPENAI_API_KEY",
        ("api.openai.com", "eu.api.openai.com", "us.api.openai.com"),
        # Names that begin alike and are open weights, not served by OpenAI, are no vendor's.
        re.compile(r"(gpt-(?!oss|j-|neo)|chatgpt-|o\d(-|$)|text-embedding-(3|ada)|ft:gpt-)"),
        re.compile(rf"(?:chat\W*)?gpt{_OPEN_GPT}|openai\Z|o[1-9](?:\b|\W)|codex"),
    ),
    "anthropic": Vendor(
        "Anthropic",
        "ANTHROPIC_API_KEY",
        ("api.anthropic.com",),
        re.compile(r"claude-"),
        re.compile(r"claude|anthropic\Z|(?:opus|sonnet|haiku|fable)\b"),
    ),
    "gemini": Vendor(
        "Google",
        "GEMINI_API_KEY",
        ("generativelanguage.googleapis.com",),
        re.compile(r"gemini-"),
        re.compile(r"gemini|google\W*(?:ai)?\Z|bard\b"),
    ),
}
"""By the ``model_type`` of their models, which names their folders too."""

SERVER_TYPES = ("openai-compatible", "vllm", "llama-server", "lm-studio", "ollama", "openrouter")
"""Values of ``model_type`` for servers that speak OpenAI's protocol."""


def host_and_port(info: ModelInfo) -> str:
    """Where a model behind HTTP is, without any user and password; "" where its vendor is meant."""
    try:
        return urlsplit(info.base_url or "").netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""


def protocol_of(model_type: str) -> str:
    """The vendor whose protocol models of this type are asked by."""
    return "openai" if model_type in SERVER_TYPES else model_type
