"""Which of OpenAI's two APIs answers, embeddings, counts and lists."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from nbllm.cloud.vendors import adapter_for
from nbllm.cloud.vendors.openai import OpenAIAdapter, api_for
from nbllm.core.errors import InvalidOptionError, ProtocolError, UnsupportedError

ADAPTER = OpenAIAdapter()
SERVER = "http://localhost:8000/v1"


def encoded(data: Any) -> bytes:
    return json.dumps(data).encode()


# ---------------------------------------------------------------- the choice


@pytest.mark.parametrize(
    ("api", "base_url", "options", "expected"),
    [
        (None, None, {}, "responses"),
        (None, "https://api.openai.com/v1", {"temperature": 0.5}, "responses"),
        (None, None, {"stop": ("END",)}, "chat"),
        (None, None, {"seed": 0}, "chat"),
        (None, None, {"presence_penalty": 0.5}, "chat"),
        (None, SERVER, {}, "chat"),
        ("responses", SERVER, {}, "responses"),
        ("chat", None, {}, "chat"),
        ("responses", None, {"seed": 1}, "responses"),
    ],
)
def test_the_api_that_serves_the_server_and_the_request_best(
    info: Any, ask: Any, api: str | None, base_url: str | None, options: Any, expected: str
) -> None:
    model = info(api=api, base_url=base_url)
    assert api_for(model, ask(**options)) == expected
    path = ADAPTER.generation_request(model, ask(**options), stream=True).path
    assert path == {"chat": "chat/completions", "responses": "responses"}[expected]


def test_an_unknown_api_is_refused(info: Any, ask: Any) -> None:
    with pytest.raises(InvalidOptionError, match='"chat" or "responses"'):
        api_for(info(api="completions"), ask())


def test_an_unknown_vendor_is_refused(info: Any) -> None:
    with pytest.raises(InvalidOptionError, match="cohere"):
        adapter_for(info("cohere"))


@pytest.mark.parametrize("name", ["gpt-6-turbo", "o9", "claude-opus-9-5", "gemini-9.9-ultra", "x"])
@pytest.mark.parametrize("vendor", ["openai", "anthropic", "gemini"])
def test_no_model_name_is_refused(info: Any, ask: Any, vendor: str, name: str) -> None:
    model = info(vendor, name="alias", model=name)
    request = adapter_for(model).generation_request(model, ask(), stream=True)
    assert name in f"{request.path} {request.body}"


# ---------------------------------------------------------------- embeddings


def test_embeddings_are_asked_for_as_base64(info: Any) -> None:
    (request,) = ADAPTER.embedding_requests(info(), ["a", "b"])
    assert request.path == "embeddings"
    assert request.body == {"model": "my-model", "encoding_format": "base64", "input": ["a", "b"]}


def test_more_than_2048_inputs_are_split_in_order(info: Any) -> None:
    texts = [str(number) for number in range(5000)]
    requests = ADAPTER.embedding_requests(info(), texts)
    assert [len(r.body["input"]) for r in requests] == [2048, 2048, 904]
    assert [text for r in requests for text in r.body["input"]] == texts


def test_more_than_300000_tokens_are_split(info: Any) -> None:
    texts = ["é" * 50_000] * 7  # 100,000 bytes each, and no more tokens than that
    requests = ADAPTER.embedding_requests(info(), texts)
    assert [len(r.body["input"]) for r in requests] == [3, 3, 1]
    (alone,) = ADAPTER.embedding_requests(info(), ["x" * 400_000])
    assert len(alone.body["input"]) == 1


def test_no_texts_are_no_request(info: Any) -> None:
    assert ADAPTER.embedding_requests(info(), []) == []
    assert ADAPTER.parse_embeddings(info(), []).vectors.shape[0] == 0


def vector(*values: float, base: bool = True) -> Any:
    packed = base64.b64encode(np.array(values, "<f4").tobytes()).decode()
    return packed if base else list(values)


@pytest.mark.parametrize("base", [True, False], ids=["base64", "numbers"])
def test_vectors_of_several_requests_come_back_in_order(info: Any, base: bool) -> None:
    def answer(*pairs: tuple[int, float]) -> bytes:
        data = [{"index": i, "embedding": vector(x, -x, base=base)} for i, x in pairs]
        return encoded({"data": data, "usage": {"prompt_tokens": 5}})

    result = ADAPTER.parse_embeddings(info(), [answer((1, 2.0), (0, 1.0)), answer((0, 3.0))])
    assert result.vectors.tolist() == [[1.0, -1.0], [2.0, -2.0], [3.0, -3.0]]
    assert result.vectors.dtype == np.float32
    assert (result.usage.prompt_tokens, result.model) == (10, "my-model")


def test_vectors_without_an_index_keep_their_order(info: Any) -> None:
    answer = encoded({"data": [{"embedding": vector(2.0)}, {"embedding": vector(1.0)}]})
    assert ADAPTER.parse_embeddings(info(), [answer]).vectors.tolist() == [[2.0], [1.0]]


@pytest.mark.parametrize(
    "data",
    [
        [{"embedding": "not base64!"}],
        [{"embedding": "AAA="}],
        [{"embedding": ["a"]}],
        [{"embedding": None}],
        [{"embedding": vector(1.0)}, {"embedding": vector(1.0, 2.0)}],
        [{"embedding": [1.0, None]}],
        [{"embedding": vector(float("nan"))}],
        [{"embedding": vector(float("inf"))}],
        "data",
    ],
)
def test_what_is_no_vector_is_a_protocol_error(info: Any, data: Any) -> None:
    with pytest.raises(ProtocolError, match=r"embedding|data"):
        ADAPTER.parse_embeddings(info(), [encoded({"data": data})])


def test_anthropic_says_what_to_use_instead(info: Any) -> None:
    with pytest.raises(UnsupportedError, match="text-embedding-3-small"):
        adapter_for(info("anthropic")).embedding_requests(info("anthropic"), ["a"])


# ---------------------------------------------------------------- counts and lists


def test_openai_counts_and_other_servers_do_not(info: Any, ask: Any) -> None:
    request = ADAPTER.count_request(info(), ask(max_tokens=5, temperature=0.5))
    assert request is not None
    assert request.path == "responses/input_tokens"
    assert request.body.keys() == {"model", "input"}
    assert ADAPTER.parse_count(info(), encoded({"input_tokens": 11})) == 11
    assert ADAPTER.count_request(info(base_url=SERVER), ask()) is None


def test_the_list_has_every_model_with_its_context_where_the_server_tells(info: Any) -> None:
    asked = ADAPTER.list_request(info(), None)
    assert (asked.path, asked.method, asked.body) == ("models", "GET", None)
    data = [
        {"id": "gpt-9", "object": "model", "owned_by": "openai"},
        {"id": "vllm", "max_model_len": 4096},
        {"id": "openrouter", "context_length": 32_768},
        {"id": "groq", "context_window": 8192},
        {"id": "llama-server", "meta": {"n_ctx_train": 2048}},
        {"id": "null", "meta": None, "max_model_len": None},
    ]
    source = info(base_url=SERVER, api_key_env="MY_KEY")
    models, page = ADAPTER.parse_list(source, encoded({"data": data}))
    assert page is None
    assert {m.name: m.context_length for m in models} == {
        "gpt-9": None,
        "vllm": 4096,
        "openrouter": 32_768,
        "groq": 8192,
        "llama-server": 2048,
        "null": None,
    }
    assert {(m.base_url, m.api_key_env, m.source, m.local) for m in models} == {
        (SERVER, "MY_KEY", "server", False)
    }
    assert ADAPTER.parse_list(source, encoded(data))[0] == models


def test_an_error_under_a_200_is_raised(info: Any) -> None:
    body = encoded({"error": {"message": "No such model", "code": "model_not_found"}})
    for read in (
        lambda: ADAPTER.parse_embeddings(info(), [body]),
        lambda: ADAPTER.parse_count(info(), body),
        lambda: ADAPTER.parse_list(info(), body),
    ):
        with pytest.raises(Exception, match="No such model") as caught:
            read()
        assert type(caught.value).__name__ == "NotFoundError"
