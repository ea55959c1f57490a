"""Requests for OpenAI's Chat Completions, and for the servers that differ."""

from __future__ import annotations

from typing import Any

import pytest

from nbllm.cloud.vendors.openai import OpenAIAdapter
from nbllm.core.errors import InvalidOptionError, UnsupportedError
from nbllm.core.types import (
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
)

ADAPTER = OpenAIAdapter()
SERVER = "http://localhost:8000/v1"


@pytest.fixture
def model(info: Any) -> Any:
    return info(api="chat", model="gpt-x")


@pytest.fixture
def server(info: Any) -> Any:
    return info(base_url=SERVER)


def body(model: Any, request: Any, *, stream: bool = True) -> dict[str, Any]:
    sent = ADAPTER.generation_request(model, request, stream=stream)
    assert sent.path == "chat/completions"
    return dict(sent.body or {})


def test_the_key_travels_in_a_header() -> None:
    assert ADAPTER.key_headers("k") == {"authorization": "Bearer k"}


def test_the_smallest_request(model: Any, ask: Any) -> None:
    assert body(model, ask("Hi"), stream=False) == {
        "model": "gpt-x",
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_a_stream_asks_for_its_usage(model: Any, ask: Any) -> None:
    sent = body(model, ask())
    assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})


@pytest.mark.parametrize(
    ("base_url", "name", "key"),
    [
        (None, "gpt-4o", "max_completion_tokens"),
        ("https://api.openai.com/v1/", "gpt-4o", "max_completion_tokens"),
        ("https://eu.api.openai.com/v1", "o3", "max_completion_tokens"),
        ("https://me.openai.azure.com/openai/v1", "mine", "max_completion_tokens"),
        (SERVER, "llama", "max_tokens"),
        ("https://openrouter.ai/api/v1", "openai/gpt-5", "max_tokens"),
        (SERVER, "gpt-oss-20b", "max_tokens"),
        ("https://proxy.example.org/v1", "gpt-5-mini", "max_completion_tokens"),
        ("https://proxy.example.org/v1", "gpt-6.1", "max_completion_tokens"),
        ("https://proxy.example.org/v1", "o4-mini", "max_completion_tokens"),
        ("https://proxy.example.org/v1", "gpt-4.1", "max_tokens"),
        ("https://api.openai.com.evil.org/v1", "gpt-4.1", "max_tokens"),
    ],
)
def test_the_name_of_the_limit_is_the_one_that_the_server_knows(
    info: Any, ask: Any, base_url: str | None, name: str, key: str
) -> None:
    sent = body(info(base_url=base_url, model=name, api="chat"), ask(max_tokens=7))
    assert {k: sent[k] for k in sent if k.startswith("max_")} == {key: 7}


def test_sampling_parameters_are_sent_only_where_they_are_set(model: Any, ask: Any) -> None:
    chosen = {
        "temperature": 0.0,
        "top_p": 1.0,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "seed": 0,
    }
    sent = body(model, ask(**chosen, stop="END"))
    assert {key: sent[key] for key in chosen} == chosen
    assert sent["stop"] == ["END"]
    assert not chosen.keys() & body(model, ask()).keys()


def test_what_only_other_servers_know_is_not_sent_to_openai(
    model: Any, server: Any, ask: Any
) -> None:
    with pytest.raises(UnsupportedError, match="top_k"):
        body(model, ask(top_k=40))
    sent = body(server, ask(top_k=40, min_p=0.1, repeat_penalty=1.1))
    assert (sent["top_k"], sent["min_p"]) == (40, 0.1)
    assert sent["repeat_penalty"] == sent["repetition_penalty"] == 1.1


def test_biases_and_log_probabilities_have_openais_names(model: Any, ask: Any) -> None:
    sent = body(model, ask(logit_bias={15043: -100, 7: 2.5}, logprobs=3))
    assert sent["logit_bias"] == {"15043": -100, "7": 2.5}
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 3)
    with pytest.raises(UnsupportedError, match=r"token ids only \(got ' Paris'\)"):
        body(model, ask(logit_bias={" Paris": 1.0}))


def test_llama_cpps_samplers_go_to_servers_like_it_only(model: Any, server: Any, ask: Any) -> None:
    chosen = {"dry_multiplier": 0.8, "xtc_probability": 0.5, "mirostat": 2, "ignore_eos": True}
    sent = body(server, ask(**chosen, stop_tokens=[2]))
    assert {key: sent[key] for key in chosen} == chosen
    assert sent["stop_token_ids"] == (2,)
    with pytest.raises(UnsupportedError, match="mirostat"):
        body(model, ask(**chosen))


def test_deadlines_and_retries_are_not_sent(model: Any, ask: Any) -> None:
    sent = body(model, ask(connect_timeout=1.0, stall_timeout=1.0, max_retry_seconds=1.0))
    assert sent.keys() == body(model, ask()).keys()


def test_tools_and_their_choice(model: Any, ask: Any) -> None:
    tool = Tool("f", "Does it.", {"type": "object"})
    sent = body(model, ask(tools=(tool,), tool_choice="f"))
    function = {"name": "f", "description": "Does it.", "parameters": {"type": "object"}}
    assert sent["tools"] == [{"type": "function", "function": function}]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert body(model, ask(tools=(tool,), tool_choice="required"))["tool_choice"] == "required"


def test_structured_output_is_asked_for_natively(model: Any, ask: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    style = body(model, ask(response_schema=schema))["response_format"]
    assert style["type"] == "json_schema"
    assert style["json_schema"]["strict"] is True
    assert style["json_schema"]["schema"]["required"] == ["a"]


def test_extra_is_laid_over_the_body(model: Any, ask: Any) -> None:
    extra = {"stream_options": {"include_obfuscation": False}, "store": True, "stop": None}
    sent = body(model, ask(extra=extra, stop=("END",)))
    assert sent["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert (sent["store"], sent["stop"]) == (True, None)


def test_images_come_from_bytes_or_an_address(model: Any, ask: Any) -> None:
    parts = (
        TextPart("Look:"),
        ImagePart("image/png", data=b"\x89PNG"),
        ImagePart(url="https://example.org/cat.jpg"),
    )
    sent = body(model, ask((Message("user", parts),)))["messages"][0]["content"]
    assert sent == [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
        {"type": "image_url", "image_url": {"url": "https://example.org/cat.jpg"}},
    ]
    with pytest.raises(UnsupportedError, match="needs bytes or an address"):
        body(model, ask((Message("user", (ImagePart(),)),)))


TURNS = (
    Message("system", "Be brief."),
    Message(
        "assistant",
        (
            ReasoningPart("Hm.", "signed"),
            TextPart("Let me see."),
            ToolCall("1", "f", '{"a": 1}', "sig"),
            ToolCall("2", "g", ""),
        ),
    ),
    Message("tool", (ToolResult("1", "f", "one"), ToolResult("2", "g", "two"))),
)


def test_a_conversation_with_tools_goes_back(model: Any, ask: Any) -> None:
    assert body(model, ask(TURNS))["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
                {"id": "2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "one"},
        {"role": "tool", "tool_call_id": "2", "content": "two"},
    ]


def test_other_servers_get_the_reasoning_behind_a_call_and_its_signature(
    server: Any, ask: Any
) -> None:
    turn = body(server, ask(TURNS))["messages"][1]
    assert turn["reasoning_content"] == "Hm."
    signature = {"google": {"thought_signature": "sig"}}
    assert turn["tool_calls"][0]["extra_content"] == signature
    assert "extra_content" not in turn["tool_calls"][1]


def test_a_tools_message_holds_results_only(model: Any, ask: Any) -> None:
    with pytest.raises(InvalidOptionError, match="ToolResult"):
        body(model, ask((Message("tool", "sunny"),)))
