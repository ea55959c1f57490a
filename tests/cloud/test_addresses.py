from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.cloud.addresses import base_url_of, located
from nbllm.core.kinds import place_of
from nbllm.core.types import ModelInfo
from nbllm.core.vendors import host_and_port


def entry(model_type: str, base_url: str | None = None) -> ModelInfo:
    return ModelInfo(name="m", model_type=model_type, local=False, base_url=base_url)


@pytest.mark.parametrize(
    ("model_type", "address"),
    [
        ("ollama", "http://localhost:11434/v1"),
        ("lm-studio", "http://localhost:1234/v1"),
        ("llama-server", "http://localhost:8080/v1"),
        ("vllm", "http://localhost:8000/v1"),
        ("openrouter", "https://openrouter.ai/api/v1"),
        ("openai", None),
        ("openai-compatible", None),
        ("anthropic", None),
        ("gemini", None),
    ],
)
def test_a_kind_of_server_has_a_usual_address(model_type: str, address: str | None) -> None:
    assert located(entry(model_type), {}).base_url == address
    own = entry(model_type, "http://lab:9/v1")
    environment = {"OPENAI_BASE_URL": "http://other/v1", "OLLAMA_HOST": "other"}
    assert located(own, environment) is own


def test_the_readers_environment_names_an_address() -> None:
    environment = {"OPENAI_BASE_URL": " http://localhost:4000/v1/ ", "OLLAMA_HOST": "gpu:1234"}
    for model_type in ("openai", "openai-compatible"):
        assert located(entry(model_type), environment).base_url == "http://localhost:4000/v1/"
    assert located(entry("ollama"), environment).base_url == "http://gpu:1234/v1"
    for model_type in ("anthropic", "gemini"):
        assert located(entry(model_type), environment).base_url is None
    assert located(entry("openai"), {"OPENAI_BASE_URL": " "}).base_url is None


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("", "http://localhost:11434/v1"),
        ("127.0.0.1", "http://127.0.0.1:11434/v1"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/v1"),
        ("0.0.0.0", "http://localhost:11434/v1"),
        ("0.0.0.0:5000", "http://localhost:5000/v1"),
        (":5000", "http://localhost:5000/v1"),
        ("[::]:5000", "http://localhost:5000/v1"),
        ("[::1]", "http://[::1]:11434/v1"),
        ("gpu.lan", "http://gpu.lan:11434/v1"),
        ("http://gpu.lan", "http://gpu.lan:80/v1"),
        ("https://gpu.lan", "https://gpu.lan:443/v1"),
        ("https://gpu.lan:8443/ollama/", "https://gpu.lan:8443/ollama/v1"),
        ("http://gpu.lan:11434/v1", "http://gpu.lan:11434/v1"),
        ('"127.0.0.1:5000"', "http://127.0.0.1:5000/v1"),
        ("  127.0.0.1  ", "http://127.0.0.1:11434/v1"),
        ("127.0.0.1:99999", "http://127.0.0.1:11434/v1"),
        ("127.0.0.1:0", "http://127.0.0.1:11434/v1"),
        ("ftp://gpu", "http://localhost:11434/v1"),
        ("a b c", "http://localhost:11434/v1"),
        ("user@gpu", "http://localhost:11434/v1"),
    ],
)
def test_ollamas_own_variable_is_read_as_ollama_reads_it(host: str, address: str) -> None:
    assert located(entry("ollama"), {"OLLAMA_HOST": host}).base_url == address


@given(st.text(max_size=30) | st.text(alphabet="htps:/.[]0123456789ab@-_\\? ", max_size=30))
def test_any_value_of_the_variable_gives_an_address(host: str) -> None:
    info = located(entry("ollama"), {"OLLAMA_HOST": host})
    parts = urlsplit(base_url_of(info, "https://api.openai.com/v1"))
    assert parts.hostname
    assert "@" not in parts.netloc
    assert parts.path.endswith("/v1")


@pytest.mark.parametrize(
    ("model_type", "base_url", "place"),
    [
        ("openai", None, "cloud"),
        ("openai", "https://api.openai.com/v1", "cloud"),
        ("openai", "http://localhost:8000/v1", "server"),
        ("openai", "http://127.0.0.1:8000/v1", "server"),
        ("openai", "http://127.9.9.9", "server"),
        ("openai", "http://[::1]:8000/v1", "server"),
        ("openai", "http://192.168.1.5:8000/v1", "server"),
        ("openai", "http://10.0.0.7/v1", "server"),
        ("openai", "http://gpu/v1", "server"),
        ("openai", "http://gpu.local/v1", "server"),
        ("anthropic", "http://localhost:8080", "server"),
        ("gemini", None, "cloud"),
        ("vllm", "https://models.example.org/v1", "server"),
        ("ollama", None, "server"),
        ("openai-compatible", "https://api.groq.com/openai/v1", "cloud"),
        ("openai-compatible", "http://localhost:1/v1", "server"),
        ("openrouter", None, "cloud"),
        ("openrouter", "https://openrouter.ai/api/v1", "cloud"),
        ("openai", "https://localhost.example.org/v1", "cloud"),
        ("openai", "http://[::1", "cloud"),
    ],
)
def test_what_is_near_is_a_server_and_no_cloud(
    model_type: str, base_url: str | None, place: str
) -> None:
    assert place_of(entry(model_type, base_url)) == place


def test_this_machine_is_neither() -> None:
    assert place_of(ModelInfo(name="m", model_type="llama", local=True)) is None


def test_where_a_server_is_does_not_show_who_asks() -> None:
    assert host_and_port(entry("vllm", "https://me:secret@Lab:8000/v1?x=1")) == "lab:8000"
    assert host_and_port(entry("openai")) == ""
    assert host_and_port(entry("openai", "http://[::1")) == ""
