"""Servers that are loaded in one word, by their address or their kind, over real connections."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from nbllm.cloud.servers import chosen
from nbllm.core.errors import (
    ApiConnectionError,
    AuthenticationError,
    ModelLoadError,
    ModelNotFoundError,
    NbllmError,
)
from nbllm.core.model_manager import ModelManager
from nbllm.core.naming.providers import PROVIDERS, server_entry
from nbllm.core.types import ModelInfo

OLLAMA = ("llama3.2:latest", "qwen3:8b", "qwen3:0.6b", "hf.co/org/repo:Q4_K_M")


@pytest.fixture
def serving(threaded_server: Callable[[Any], str]) -> Callable[..., tuple[str, list[Any]]]:
    """Starts a server with these models; gives its address and what it was asked."""

    def start(*names: str, status: int = 200, body: Any = None) -> tuple[str, list[Any]]:
        asked: list[Any] = []

        async def script(request: Any, connection: Any) -> None:
            asked.append(request)
            listed = {"object": "list", "data": [{"id": name} for name in names]}
            known = request.path == "/v1/models"
            await connection.answer(status if known else 404, listed if body is None else body)

        return threaded_server(script), asked

    return start


def load(name: str, **options: Any) -> ModelInfo:
    """What ``name`` is loaded as."""

    async def work() -> ModelInfo:
        async with ModelManager() as manager:
            _, info = await manager.load_model(name, **options)
            assert (await manager.load_model(name, **options))[1] == info, "loaded once"
            assert len(manager.list_loaded_models()) == 1
            return info

    return asyncio.run(work())


def failure(name: str) -> NbllmError:
    with pytest.raises(NbllmError) as caught:
        load(name)
    return caught.value


ENDS = ["", "/", "/v1", "/v1/", "/v1/chat/completions", "/v1/models", "/v1/models?x=1", "/api/tags"]


@pytest.mark.parametrize("end", ENDS)
def test_the_one_model_of_an_address_is_taken(serving: Any, end: str) -> None:
    url, _ = serving("only-one")
    info = load(url + end)
    assert (info.name, info.model, info.source) == ("only-one", "only-one", "server")
    assert info.base_url in (url, f"{url}/v1")
    assert load(url.removeprefix("http://") + end).name == "only-one"


def test_it_is_called_as_its_file_or_its_alias(serving: Any) -> None:
    url, _ = serving("/models/phi-3.gguf")
    assert load(url).name == "phi-3"
    assert load(url, alias="phi").name == "phi"


def test_an_address_of_several_lists_what_to_type(serving: Any) -> None:
    url, _ = serving(*OLLAMA)
    error = failure(f"{url}/v1")
    assert isinstance(error, ModelLoadError)
    lines = re.findall(r"%llm_load (\S+)", str(error))
    assert lines == [f"{url}/v1#{name}" for name in OLLAMA]
    for line, name in zip(lines, OLLAMA, strict=True):
        assert load(line).model == name
    many, _ = serving(*(f"m{number}" for number in range(50)))
    assert "has 50 models" in str(failure(many))
    assert "and 30 more" in str(failure(many))


@pytest.mark.parametrize(
    ("typed", "model"),
    [
        ("llama3.2", "llama3.2:latest"),
        ("LLAMA3.2", "llama3.2:latest"),
        ("qwen3:8b", "qwen3:8b"),
        ("qwen3:0", "qwen3:0.6b"),
        ("hf.co/org/repo", "hf.co/org/repo:Q4_K_M"),
        ("repo:q4_k_m", "hf.co/org/repo:Q4_K_M"),
    ],
)
@pytest.mark.parametrize("form", ["{port}", "127.0.0.1:{port}", "http://127.0.0.1:{port}/v1/"])
def test_a_kind_of_server_stands_before_the_name(
    serving: Any, monkeypatch: pytest.MonkeyPatch, form: str, typed: str, model: str
) -> None:
    url, _ = serving(*OLLAMA)
    host = form.format(port=url.rpartition(":")[2])
    monkeypatch.setenv("OLLAMA_HOST", f":{host}" if host.isdigit() else host)
    info = load(f"ollama/{typed}")
    assert (info.name, info.model) == (f"ollama/{typed}", model)


def test_a_model_that_a_server_has_not_is_told(
    serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = serving(*OLLAMA)
    monkeypatch.setenv("OLLAMA_HOST", url)
    for typed in ("ollama", "ollama/"):
        assert re.findall(r"%llm_load (\S+)", str(failure(typed)))[0] == "ollama/llama3.2:latest"
    ambiguous = failure("ollama/qwen3")
    assert isinstance(ambiguous, ModelNotFoundError)
    assert ambiguous.suggestions == ("ollama/qwen3:8b", "ollama/qwen3:0.6b")
    absent = failure("ollama/llama4")
    assert "ollama pull llama4" in str(absent)
    assert "has llama3.2:latest, qwen3:8b" in str(absent)
    assert "'ollama/llama3.2:latest'" in str(absent)
    empty, _ = serving()
    monkeypatch.setenv("OLLAMA_HOST", empty)
    assert "has no model" in str(failure("ollama"))
    assert "ollama pull NAME" in str(failure("ollama"))
    assert "ollama pull phi4" in str(failure("ollama/phi4"))


def test_a_server_that_is_not_there_says_how_to_start_it(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{unused_tcp_port}")
    error = failure("ollama/llama3.2")
    assert isinstance(error, ApiConnectionError)
    assert f"no server answers at http://127.0.0.1:{unused_tcp_port}/v1" in str(error)
    assert "Start Ollama in a terminal" in str(error)
    assert str(error).endswith("\n    ollama serve")
    assert "Is the server running" in str(failure(f"http://127.0.0.1:{unused_tcp_port}"))


def test_whoever_has_no_list_is_asked_for_what_was_named(serving: Any) -> None:
    url, _ = serving(status=404, body={"detail": "Not Found"})
    assert load(f"{url}#mine").model == "mine"
    error = failure(url)
    assert f"name one: %llm_load {url}#MODEL" in str(error)
    page, _ = serving(body=b"<html>Welcome</html>")
    assert "If it is a server of models" in str(failure(page))


def test_no_key_leaves_for_an_address_that_was_typed(
    serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = [each.api_key_env for each in PROVIDERS if each.api_key_env]
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", *variables):
        monkeypatch.setenv(variable, "sk-not-for-you-123456")
    url, asked = serving("m")
    load(url)
    load(f"{url}/v1#m")
    monkeypatch.setenv("OLLAMA_HOST", url)
    load("ollama/m")
    assert asked
    assert not any("sk-not" in str(request.headers) for request in asked)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")  # now the key's owner says so
    load(url)
    assert "sk-not" in str(asked[-1].headers)


def test_a_server_that_wants_a_key_says_where_to_put_it(serving: Any) -> None:
    url, _ = serving(status=401, body={"error": {"message": "Invalid API key"}})
    error = failure(url)
    assert isinstance(error, AuthenticationError)
    assert '"api_key_env"' in str(error)


def test_keys_of_clouds_go_to_their_own_hosts_only() -> None:
    from nbllm.core.api_keys import is_allowed

    for provider in PROVIDERS:
        if provider.api_key_env:
            scheme, _, rest = str(provider.base_url).partition("://")
            assert is_allowed(provider.api_key_env, f"{scheme}://{rest.partition('/')[0]}")


def test_a_cloud_is_not_asked_for_its_list_where_a_model_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = failure("openrouter/meta-llama/llama-3.3-70b-instruct:free")
    assert "OPENROUTER_API_KEY" in str(error)
    entry = server_entry("groq/llama-3.1-8b-instant")
    assert entry is not None
    assert (entry.base_url, entry.model) == (
        "https://api.groq.com/openai/v1",
        "llama-3.1-8b-instant",
    )


@pytest.mark.parametrize(
    ("typed", "base_url", "model_type"),
    [
        ("localhost:1234", "http://localhost:1234", "lm-studio"),
        ("localhost:11434/v1", "http://localhost:11434/v1", "ollama"),
        ("http://0.0.0.0:8000/v1", "http://localhost:8000/v1", "openai-compatible"),
        ("[::1]:8080", "http://[::1]:8080", "openai-compatible"),
        ("gpu-box:8000", "http://gpu-box:8000", "openai-compatible"),
        ("HTTP://GPU:8000/V1", "http://gpu:8000/V1", "openai-compatible"),
        ("https://api.openai.com/v1", "https://api.openai.com/v1", "openai"),
        ("https://api.anthropic.com", "https://api.anthropic.com", "anthropic"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1", "openrouter"),
    ],
)
def test_addresses_are_read_in_every_form(typed: str, base_url: str, model_type: str) -> None:
    entry = server_entry(typed)
    assert entry is not None
    assert (entry.base_url, entry.model_type, entry.model) == (base_url, model_type, None)


@pytest.mark.parametrize(
    "typed",
    ["llama3:8b", "phi3:3.8b", "a/b", "C:8", "name", "http://", "http://[::1", "https://u:p@h/v1"],
)
def test_other_names_are_no_servers(typed: str) -> None:
    assert server_entry(typed) is None


def test_several_that_may_be_meant_are_never_guessed() -> None:
    entry = server_entry("ollama/q")
    assert entry is not None
    with pytest.raises(ModelNotFoundError):
        chosen(entry, ["qwen", "qwq"])
