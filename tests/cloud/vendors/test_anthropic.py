"""The rules of Anthropic's Messages API.

Mid-stream errors and version 2026-10-21 were never recorded: they are written after the vendor's
documentation.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbllm.cloud.transport.sse import ServerSentEvent
from nbllm.cloud.vendors.anthropic import AnthropicAdapter
from nbllm.core.errors import InterruptedStreamError, ModelError, OverloadedError, UnsupportedError
from nbllm.core.types import (
    ImagePart,
    Message,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    VendorPart,
)

ADAPTER = AnthropicAdapter()


@pytest.fixture
def model(info: Any) -> Any:
    return info("anthropic", model="claude-x")


def body(model: Any, request: Any, *, stream: bool = True) -> dict[str, Any]:
    return dict(ADAPTER.generation_request(model, request, stream=stream).body or {})


def frames(*values: Any) -> bytes:
    """Named events, whose JSON the vendor often pads with spaces."""
    return b"".join(
        f"event: {value['type']}\ndata: {json.dumps(value)}    \n\n".encode() for value in values
    )


def start(usage: Any = None) -> dict[str, Any]:
    return {"type": "message_start", "message": {"content": [], "usage": usage or {}}}


def block(index: int, content: Any, *deltas: Any) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text_block(index: int, *pieces: str) -> list[dict[str, Any]]:
    deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
    return block(index, {"type": "text", "text": ""}, *deltas)


def end(reason: str = "end_turn", usage: Any = None, **more: Any) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None, **more}
    return [
        {"type": "message_delta", "delta": delta, "usage": usage or {"output_tokens": 7}},
        {"type": "message_stop"},
    ]


# ---------------------------------------------------------------- requests


def test_the_key_and_the_pinned_version_travel_in_headers(model: Any, ask: Any) -> None:
    assert ADAPTER.key_headers("k") == {"x-api-key": "k"}
    for request in (
        ADAPTER.generation_request(model, ask(), stream=True),
        ADAPTER.count_request(model, ask()),
        ADAPTER.list_request(model, None),
    ):
        assert request.headers == {"anthropic-version": "2023-06-01"}


def test_the_smallest_request_has_the_limit_that_the_api_insists_on(model: Any, ask: Any) -> None:
    assert body(model, ask("Hi", prompt_caching=False), stream=False) == {
        "model": "claude-x",
        "max_tokens": 16_384,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }
    assert body(model, ask(max_tokens=5))["max_tokens"] == 5
    assert body(model, ask())["stream"] is True


@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        (None, "v1/messages"),
        ("https://api.anthropic.com/", "v1/messages"),
        ("http://localhost:8000", "v1/messages"),
        ("https://api.anthropic.com/v1/", "messages"),
    ],
)
def test_a_base_url_may_have_the_version_or_not(
    info: Any, ask: Any, base_url: str | None, path: str
) -> None:
    model = info("anthropic", base_url=base_url)
    assert ADAPTER.generation_request(model, ask(), stream=True).path == path


def test_sampling_parameters_are_sent_only_where_they_are_set(model: Any, ask: Any) -> None:
    names = {"temperature", "top_p", "top_k", "stop_sequences"}
    assert not names & body(model, ask()).keys()
    sent = body(model, ask(temperature=0.0, top_p=0.9, top_k=5, stop="END"))
    assert {name: sent[name] for name in names} == {
        "temperature": 0.0,
        "top_p": 0.9,
        "top_k": 5,
        "stop_sequences": ["END"],
    }


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_a_400_about_sampling_of_version_2026_10_21_is_explained(model: Any, name: str) -> None:
    """Never recorded."""
    error = {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": f"{name}: Extra inputs are not permitted",
        },
    }
    told = str(ADAPTER.parse_error(model, 400, {}, json.dumps(error).encode()))
    assert f"Leave {name} unset" in told


def test_what_the_vendor_lacks_is_refused_and_a_seed_is_left_out(model: Any, ask: Any) -> None:
    with pytest.raises(UnsupportedError, match="presence_penalty"):
        body(model, ask(presence_penalty=0.5))
    assert body(model, ask(seed=7)) == body(model, ask())


def test_system_is_top_level_and_turns_of_one_role_are_merged(model: Any, ask: Any) -> None:
    messages = (
        Message("system", "Be brief."),
        Message("user", "One."),
        Message("user", "Two."),
        Message("assistant", (TextPart("Three."), TextPart(""), ToolCall("t1", "f", '{"a": 1}'))),
        Message("user", "Four."),
        Message("tool", (ToolResult("t1", "f", "broken", is_error=True),)),
    )
    sent = body(model, ask(messages, prompt_caching=False))
    assert sent["system"] == "Be brief."
    assert sent["messages"] == [
        {
            "role": "user",
            "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Three."},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "content": "broken",
                    "is_error": True,
                },
                {"type": "text", "text": "Four."},
            ],
        },
    ]


def test_images(model: Any, ask: Any) -> None:
    parts = (
        ImagePart("image/webp", data=b"RIFF"),
        ImagePart(url="https://example.org/cat.jpg"),
        ImagePart(url="data:image/gif;base64,R0lG"),
    )
    sent = body(model, ask((Message("user", parts),)))["messages"][0]["content"]
    assert [image["source"] for image in sent] == [
        {"type": "base64", "media_type": "image/webp", "data": "UklGRg=="},
        {"type": "url", "url": "https://example.org/cat.jpg"},
        {"type": "base64", "media_type": "image/gif", "data": "R0lG"},
    ]


@pytest.mark.parametrize(
    ("effort", "thinking", "config"),
    [
        ("low", {"type": "adaptive", "display": "summarized"}, {"effort": "low"}),
        ("4096", {"type": "enabled", "budget_tokens": 4096}, None),
        ("none", {"type": "disabled"}, None),
    ],
)
def test_reasoning_effort(model: Any, ask: Any, effort: str, thinking: Any, config: Any) -> None:
    sent = body(model, ask(reasoning_effort=effort))
    assert (sent["thinking"], sent.get("output_config")) == (thinking, config)


def test_structured_output_is_asked_for_natively(model: Any, ask: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    config = body(model, ask(response_schema=schema, reasoning_effort="low"))["output_config"]
    assert config == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": {**schema, "additionalProperties": False}},
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("f", {"type": "tool", "name": "f"}),
    ],
)
def test_tools(model: Any, ask: Any, choice: str, sent: Any) -> None:
    tools = (Tool("f", "F.", {"type": "object"}),)
    asked = body(model, ask(tools=tools, tool_choice=choice, prompt_caching=False))
    assert asked["tools"] == [
        {"name": "f", "description": "F.", "input_schema": {"type": "object"}}
    ]
    assert asked["tool_choice"] == sent


def test_counting_sends_what_counts(model: Any, ask: Any) -> None:
    request = ADAPTER.count_request(model, ask(max_tokens=5, temperature=0.5, stop=("END",)))
    assert request.path == "v1/messages/count_tokens"
    assert request.body.keys() == {"model", "messages"}
    assert ADAPTER.parse_count(model, b'{"input_tokens": 11}') == 11


def test_the_list_has_pages(model: Any) -> None:
    assert ADAPTER.list_request(model, None).path == "v1/models?limit=1000"
    assert ADAPTER.list_request(model, "a/b&c").path.endswith("&after_id=a%2Fb%26c")
    page = {
        "data": [{"id": "claude-9", "max_input_tokens": 1_000_000}, {"id": "claude-8"}],
        "has_more": True,
        "last_id": "claude-8",
    }
    models, following = ADAPTER.parse_list(model, json.dumps(page).encode())
    assert [(m.name, m.context_length) for m in models] == [
        ("claude-9", 1_000_000),
        ("claude-8", None),
    ]
    assert following == "claude-8"
    page["has_more"] = False
    assert ADAPTER.parse_list(model, json.dumps(page).encode())[1] is None


# ---------------------------------------------------------------- streams


def test_named_events_make_the_answer(model: Any, read: Any) -> None:
    events, result = read(ADAPTER, model, frames(start(), *text_block(0, "Hel", "lo"), *end()))
    assert events == [TextDelta("Hel"), TextDelta("lo")]
    assert (result.text, result.finish_reason, result.raw_finish_reason) == (
        "Hello",
        "stop",
        "end_turn",
    )


def test_usage_comes_in_two_parts_and_the_cache_is_input(model: Any, read: Any) -> None:
    first = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 30,
        "output_tokens": 1,
    }
    last = {
        "input_tokens": None,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 3},
    }
    usage = read(ADAPTER, model, frames(start(first), *end(usage=last)))[1].usage
    assert usage.prompt_tokens == 60
    assert usage.cached_tokens == 30
    assert usage.completion_tokens == 7
    assert usage.reasoning_tokens == 3


def test_output_counts_are_cumulative_not_added(model: Any, read: Any) -> None:
    deltas = [
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": count}}
        for count in (3, 5)
    ]
    body = frames(start({"input_tokens": 1, "output_tokens": 1}), *deltas, *end())
    assert read(ADAPTER, model, body)[1].usage.completion_tokens == 7


def test_thinking_is_apart_from_the_answer_and_goes_back_signed(
    model: Any, read: Any, ask: Any
) -> None:
    thinking = block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Hm, "},
        {"type": "thinking_delta", "thinking": "yes."},
        {"type": "signature_delta", "signature": "signed"},
    )
    events, result = read(
        ADAPTER, model, frames(start(), *thinking, *text_block(1, "Yes."), *end())
    )
    assert events == [ReasoningDelta("Hm, "), ReasoningDelta("yes."), TextDelta("Yes.")]
    assert (result.reasoning, result.text) == ("Hm, yes.", "Yes.")
    assert result.parts == (ReasoningPart("Hm, yes.", "signed"), TextPart("Yes."))
    assert body(model, ask((result.message,)))["messages"][0]["content"] == [
        {"type": "thinking", "thinking": "Hm, yes.", "signature": "signed"},
        {"type": "text", "text": "Yes."},
    ]


def test_reasoning_of_others_is_not_sent(model: Any, ask: Any) -> None:
    parts = (
        ReasoningPart("Hm."),
        ReasoningPart("Hm.", "rs_1|sealed"),
        VendorPart("gemini", "{}"),
        TextPart("Yes."),
    )
    sent = body(model, ask((Message("assistant", parts),)))["messages"][0]["content"]
    assert sent == [{"type": "text", "text": "Yes."}]


def test_tool_calls_come_in_pieces_of_json(model: Any, read: Any) -> None:
    call = block(
        0,
        {"type": "tool_use", "id": "t1", "name": "f", "input": {}},
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"x"'},
        {"type": "input_json_delta", "partial_json": ": 1}"},
    )
    none = block(1, {"type": "tool_use", "id": "t2", "name": "g", "input": {}})
    whole = block(2, {"type": "tool_use", "id": "t3", "name": "h", "input": {"y": 2}})
    events, result = read(ADAPTER, model, frames(start(), *call, *none, *whole, *end("tool_use")))
    assert result.tool_calls == (
        ToolCall("t1", "f", '{"x": 1}'),
        ToolCall("t2", "g", "{}"),
        ToolCall("t3", "h", '{"y": 2}'),
    )
    assert result.finish_reason == "tool_calls"
    assert events[:3] == [
        ToolCallDelta(0, "", "t1", "f"),
        ToolCallDelta(0, '{"x"'),
        ToolCallDelta(0, ": 1}"),
    ]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("something_new", "other"),
    ],
)
def test_stop_reasons(model: Any, read: Any, raw: str, reason: str) -> None:
    result = read(ADAPTER, model, frames(start(), *text_block(0, "Hi"), *end(raw)))[1]
    assert (result.finish_reason, result.raw_finish_reason) == (reason, raw)


def test_a_refusal_says_why(model: Any, read: Any) -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "Not this."}
    result = read(ADAPTER, model, frames(start(), *end("refusal", stop_details=details)))[1]
    assert (result.finish_reason, result.refusal) == ("refusal", "Not this.")
    details["explanation"] = None
    assert read(ADAPTER, model, frames(*end("refusal", stop_details=details)))[1].refusal == "bio"
    assert read(ADAPTER, model, frames(*end("refusal")))[1].refusal


def test_citations_and_pings_are_skipped(model: Any, read: Any) -> None:
    citation = {"type": "citations_delta", "citation": {"type": "char_location"}}
    cited = block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Hi"}, citation)
    ping = {"type": "ping"}
    result = read(ADAPTER, model, frames(ping, start(), ping, *cited, ping, *end()))[1]
    assert result.text == "Hi"


def test_a_paused_turn_can_be_sent_back_whole(model: Any, read: Any, ask: Any) -> None:
    search = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"title": "É"}]}
    redacted = {"type": "redacted_thinking", "data": "sealed"}
    pieces = [{"type": "input_json_delta", "partial_json": p} for p in ('{"query"', ': "é"}')]
    blocks = [*block(0, redacted), *block(1, search, *pieces), *block(2, found)]
    _, result = read(
        ADAPTER, model, frames(start(), *blocks, *text_block(3, "So"), *end("pause_turn"))
    )
    assert (result.text, result.finish_reason, result.tool_calls) == ("So", "pause", ())
    assert body(model, ask((result.message,)))["messages"][0]["content"] == [
        redacted,
        {**search, "input": {"query": "é"}},
        found,
        {"type": "text", "text": "So"},
    ]


def test_an_error_event_under_a_200_is_raised_with_the_partial_text(model: Any, read: Any) -> None:
    """Never recorded."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(OverloadedError) as caught:
        read(ADAPTER, model, frames(start(), *text_block(0, "Hi"), error))
    assert (caught.value.partial_text, caught.value.retryable) == ("Hi", True)


def test_an_error_event_may_be_no_json(model: Any, ask: Any) -> None:
    with pytest.raises(ModelError, match="It broke"):
        ADAPTER.stream_parser(model, ask()).feed(ServerSentEvent("It broke", "error"))


def test_a_stream_without_message_stop_is_interrupted(model: Any, read: Any) -> None:
    with pytest.raises(InterruptedStreamError, match="message_stop") as caught:
        read(ADAPTER, model, frames(start(), *text_block(0, "Hi"), end()[0]))
    assert caught.value.partial_text == "Hi"


def test_message_stop_ends_the_stream(model: Any, ask: Any) -> None:
    parser = ADAPTER.stream_parser(model, ask())
    parser.feed(ServerSentEvent(json.dumps(end()[0])))
    assert not parser.done
    parser.feed(ServerSentEvent('{"type": "message_stop"}', "message_stop"))
    assert parser.done
