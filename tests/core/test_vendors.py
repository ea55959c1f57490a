from __future__ import annotations

import pytest

from nbllm.core.naming.providers import vendor_model
from nbllm.core.vendors import SERVER_TYPES, VENDORS, protocol_of


@pytest.mark.parametrize(
    ("name", "vendor", "model"),
    [
        ("gpt-4o", "openai", None),
        ("gpt-6-astra", "openai", None),
        ("chatgpt-4o-latest", "openai", None),
        ("o3", "openai", None),
        ("o4-mini", "openai", None),
        ("text-embedding-3-small", "openai", None),
        ("ft:gpt-4o-mini:me::1", "openai", None),
        ("claude-opus-5-5", "anthropic", None),
        ("gemini-3.8-flash", "gemini", None),
        ("openai/anything-new", "openai", "anything-new"),
        ("anthropic/claude-sonnet-5-5", "anthropic", "claude-sonnet-5-5"),
        ("gemini/gemini-2.5-pro", "gemini", "gemini-2.5-pro"),
    ],
)
def test_the_vendor_is_told_from_the_name(name: str, vendor: str, model: str | None) -> None:
    info = vendor_model(name)
    assert info is not None
    assert (info.name, info.model_type, info.model) == (name, vendor, model)
    assert (info.local, info.source) == (False, "vendor")


@pytest.mark.parametrize(
    "name",
    [
        "gpt-oss-20b",
        "gpt-j-6b",
        "gpt-neox-20b",
        "gpt4all",
        "olmo-2",
        "o",
        "llama-3",
        "openai/",
        "meta/llama",
        "text-embedding-nomic",
        "",
    ],
)
def test_other_names_are_no_vendors(name: str) -> None:
    assert vendor_model(name) is None


def test_servers_speak_openais_protocol() -> None:
    assert {protocol_of(kind) for kind in SERVER_TYPES} == {"openai"}
    assert [protocol_of(vendor) for vendor in VENDORS] == list(VENDORS)
