"""The rules of OpenAI's Chat Completions, and the ways in which other servers differ."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbllm.cloud.transport.sse import ServerSentEvent
from nbllm.cloud.vendors.openai import OpenAIAdapter
from nbllm.core.errors import InterruptedStreamError
from nbllm.core.types import (
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
)

ADAPTER = OpenAIAdapter()
SERVER = "http://localhost:8000/v1"
END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


@pytest.fixture
def model(info: Any) -> Any:
    return info(api="chat", model="gpt-x")


@pytest.fixture
def server(info: Any) -> Any:
    return info(base_url=SERVER)


def delta(**values: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": values, "finish_reason": None}]}


def frames(*values: Any, done: bool = True) -> bytes:
    lines = [json.dumps(value) for value in values] + ["[DONE]"] * done
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def test_usage_comes_last_with_empty_choices(model: Any, read: Any) -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    _, result = read(
        ADAPTER, model, frames(delta(content="Hi"), END, {"choices": [], "usage": usage})
    )
    assert result.usage.prompt_tokens == 10
    assert result.usage.completion_tokens == 7
    assert result.usage.cached_tokens == 4
    assert result.usage.reasoning_tokens == 3
    assert result.usage.cost_usd is None


def test_deepseeks_name_for_cached_tokens_is_known(server: Any, read: Any) -> None:
    usage = {"prompt_tokens": 10, "prompt_cache_hit_tokens": 4}
    assert read(ADAPTER, server, frames({**END, "usage": usage}))[1].usage.cached_tokens == 4


def test_empty_choices_without_usage_before_the_end_are_nothing(model: Any, read: Any) -> None:
    filters = {"choices": [], "prompt_filter_results": [{}]}
    events, result = read(
        ADAPTER, model, frames(filters, delta(content="Hi"), {"choices": []}, END)
    )
    assert (events, result.text) == ([TextDelta("Hi")], "Hi")


def test_the_first_delta_may_have_null_content(model: Any, read: Any) -> None:
    first = delta(role="assistant", content=None, refusal=None, tool_calls=None)
    events, _ = read(ADAPTER, model, frames(first, delta(content=""), delta(content="Hi"), END))
    assert events == [TextDelta("Hi")]


def test_the_padding_field_is_ignored(model: Any, read: Any) -> None:
    padded = {**delta(content="Hi"), "obfuscation": "x" * 20}
    assert read(ADAPTER, model, frames(padded, END))[1].text == "Hi"


def test_tool_calls_come_in_pieces(model: Any, read: Any) -> None:
    def piece(index: int, **function: str) -> dict[str, Any]:
        return {"index": index, "function": function}

    first = {**piece(0, name="f", arguments=""), "id": "a", "type": "function"}
    second = {**piece(1, name="g", arguments=""), "id": "b", "type": "function"}
    chunks = [
        delta(tool_calls=[first]),
        delta(tool_calls=[piece(0, arguments='{"x"')]),
        delta(tool_calls=[second]),
        delta(tool_calls=[piece(1, arguments="{}"), piece(0, arguments=": 1}")]),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    ]
    events, result = read(ADAPTER, model, frames(*chunks))
    assert result.tool_calls == (ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", "{}"))
    assert result.finish_reason == "tool_calls"
    assert events == [
        ToolCallDelta(0, "", "a", "f"),
        ToolCallDelta(0, '{"x"'),
        ToolCallDelta(1, "", "b", "g"),
        ToolCallDelta(1, "{}"),
        ToolCallDelta(0, ": 1}"),
    ]


@pytest.mark.parametrize("index", [None, 0])
def test_calls_whose_index_is_missing_or_always_the_same_are_told_apart(
    model: Any, read: Any, index: int | None
) -> None:
    """Gemini's imitation of this API sends its calls so."""
    calls = [
        {"index": index, "id": name, "function": {"name": name, "arguments": "{}"}}
        for name in ("f", "g")
    ]
    _, result = read(ADAPTER, model, frames(delta(tool_calls=calls), END))
    assert result.tool_calls == (ToolCall("f", "f", "{}"), ToolCall("g", "g", "{}"))


def test_a_server_may_repeat_id_and_name(model: Any, read: Any) -> None:
    pieces = [
        {"index": 0, "id": "1", "function": {"name": "f", "arguments": part}}
        for part in ("", "{", "}")
    ]
    chunks = [delta(tool_calls=[piece]) for piece in pieces]
    assert read(ADAPTER, model, frames(*chunks, END))[1].tool_calls == (ToolCall("1", "f", "{}"),)


def test_the_older_function_call_is_a_tool_call(model: Any, read: Any) -> None:
    chunks = [
        delta(function_call={"name": "f", "arguments": ""}),
        delta(function_call={"arguments": "{}"}),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "function_call"}]},
    ]
    result = read(ADAPTER, model, frames(*chunks))[1]
    assert (result.tool_calls, result.finish_reason) == ((ToolCall("", "f", "{}"),), "tool_calls")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("something_new", "other"),
    ],
)
def test_finish_reasons(model: Any, read: Any, raw: str, reason: str) -> None:
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": raw}]}
    result = read(ADAPTER, model, frames(delta(content="Hi"), end))[1]
    assert (result.finish_reason, result.raw_finish_reason) == (reason, raw)


def test_a_refusal_says_so(model: Any, read: Any) -> None:
    chunks = [delta(content=None, refusal="I can"), delta(refusal="not."), END]
    result = read(ADAPTER, model, frames(*chunks))[1]
    assert (result.finish_reason, result.refusal, result.text) == ("refusal", "I cannot.", "")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_of_other_servers_is_apart_from_the_answer(
    server: Any, read: Any, field: str
) -> None:
    chunks = [
        delta(content=None, **{field: "Hm, "}),
        delta(content="", **{field: "yes."}),
        delta(content="Yes.", **{field: None}),
        END,
    ]
    events, result = read(ADAPTER, server, frames(*chunks))
    assert events == [ReasoningDelta("Hm, "), ReasoningDelta("yes."), TextDelta("Yes.")]
    assert (result.reasoning, result.text) == ("Hm, yes.", "Yes.")
    assert result.parts == (ReasoningPart("Hm, yes."), TextPart("Yes."))


def test_both_names_for_reasoning_at_once_count_once(server: Any, read: Any) -> None:
    both = delta(reasoning="Hm.", reasoning_content="Hm.", reasoning_details=[{"text": "Hm."}])
    assert read(ADAPTER, server, frames(both, END))[1].reasoning == "Hm."


def test_content_as_a_list_is_read(server: Any, read: Any) -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    chunks = [delta(content=[thinking]), delta(content=[{"type": "text", "text": "Yes."}]), END]
    result = read(ADAPTER, server, frames(*chunks))[1]
    assert (result.reasoning, result.text) == ("Hm.", "Yes.")


def test_only_the_first_choice_counts(model: Any, read: Any) -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "B"}, "finish_reason": "length"}]}
    result = read(ADAPTER, model, frames(other, delta(content="A"), END, other))[1]
    assert (result.text, result.finish_reason) == ("A", "stop")


def test_log_probabilities_of_all_chunks_are_in_the_result(model: Any, read: Any) -> None:
    other = {"token": "Ho", "logprob": -2.5, "bytes": [72, 111]}
    first = {"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": [other]}
    told = [{**delta(content="Hi")["choices"][0], "logprobs": {"content": [first]}}]
    more = [
        {**delta(content="!")["choices"][0], "logprobs": {"content": [{**other, "bytes": None}]}}
    ]
    _, result = read(ADAPTER, model, frames({"choices": told}, {"choices": more}, END))
    best = TokenLogprob("Hi", -0.1, b"Hi", (TokenLogprob("Ho", -2.5, b"Ho"),))
    assert result.logprobs == (best, TokenLogprob("Ho", -2.5))


def test_done_ends_the_stream(model: Any, ask: Any) -> None:
    parser = ADAPTER.stream_parser(model, ask())
    parser.feed(ServerSentEvent(json.dumps(END)))
    assert not parser.done
    parser.feed(ServerSentEvent("[DONE]"))
    assert parser.done


def test_a_stream_may_end_after_its_finish_reason(model: Any, read: Any) -> None:
    assert read(ADAPTER, model, frames(delta(content="Hi"), END, done=False))[1].text == "Hi"


def test_done_alone_is_no_end(model: Any, read: Any) -> None:
    with pytest.raises(InterruptedStreamError) as caught:
        read(ADAPTER, model, frames(delta(content="Hi")))
    assert caught.value.partial_text == "Hi"


def test_done_after_the_usage_is_an_end_though_no_finish_reason_came(
    server: Any, read: Any
) -> None:
    """Some models on OpenRouter end so, as recordings show."""
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    result = read(ADAPTER, server, frames(delta(content="Hi"), usage))[1]
    assert (result.text, result.finish_reason, result.raw_finish_reason) == ("Hi", "other", None)


def test_an_error_in_the_last_choice_is_raised(server: Any, read: Any) -> None:
    """OpenRouter tells so that the server behind it broke."""
    end = {
        "choices": [
            {
                "index": 0,
                "delta": {"content": ""},
                "finish_reason": "error",
                "error": {"code": 502, "message": "It broke"},
            }
        ]
    }
    with pytest.raises(Exception, match="It broke") as caught:
        read(ADAPTER, server, frames(delta(content="Hi"), end))
    assert (type(caught.value).__name__, caught.value.partial_text) == ("ServerError", "Hi")


def test_the_seed_is_in_the_result(model: Any, read: Any, ask: Any) -> None:
    assert read(ADAPTER, model, frames(END), request=ask(seed=7))[1].seed == 7
