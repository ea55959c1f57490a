"""The rules of OpenAI's Responses API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbllm.cloud.transport.sse import ServerSentEvent
from nbllm.cloud.vendors.openai import OpenAIAdapter
from nbllm.core.errors import InterruptedStreamError, ModelError, UnsupportedError
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
)

ADAPTER = OpenAIAdapter()
USAGE = {
    "input_tokens": 10,
    "output_tokens": 7,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens_details": {"reasoning_tokens": 3},
}


@pytest.fixture
def model(info: Any) -> Any:
    return info(api="responses", model="gpt-x")


def body(model: Any, request: Any, *, stream: bool = True) -> dict[str, Any]:
    sent = ADAPTER.generation_request(model, request, stream=stream)
    assert sent.path == "responses"
    return dict(sent.body or {})


def text(delta: str) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "output_index": 0, "delta": delta}


def end(kind: str = "completed", **values: Any) -> dict[str, Any]:
    response = {"status": kind, "error": None, "usage": USAGE, **values}
    return {"type": f"response.{kind}", "response": response}


def frames(*values: Any) -> bytes:
    """Named events with sequence numbers, and no ``[DONE]``."""
    return b"".join(
        f"event: {v['type']}\ndata: {json.dumps({**v, 'sequence_number': i})}\n\n".encode()
        for i, v in enumerate(values)
    )


# ---------------------------------------------------------------- requests


def test_the_smallest_request_keeps_nothing_on_the_server(model: Any, ask: Any) -> None:
    assert body(model, ask("Hi"), stream=False) == {
        "model": "gpt-x",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        "store": False,
    }


def test_options(model: Any, ask: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    sent = body(
        model,
        ask(max_tokens=5, temperature=0.0, response_schema=schema, reasoning_effort="low", seed=7),
    )
    assert sent["max_output_tokens"] == 5
    assert sent["temperature"] == 0.0
    assert sent["text"]["format"]["type"] == "json_schema"
    assert sent["text"]["format"]["schema"]["required"] == ["a"]
    assert sent["reasoning"] == {"effort": "low"}
    assert "seed" not in sent
    assert not {"temperature", "max_output_tokens", "text"} & body(model, ask()).keys()


def test_extra_may_ask_for_a_summary_of_the_reasoning(model: Any, ask: Any) -> None:
    sent = body(model, ask(reasoning_effort="low", extra={"reasoning": {"summary": "auto"}}))
    assert sent["reasoning"] == {"effort": "low", "summary": "auto"}


def test_what_this_api_lacks_is_refused_with_the_remedy(model: Any, ask: Any) -> None:
    with pytest.raises(UnsupportedError, match=r'stop.*set api to "chat"'):
        body(model, ask(stop=("END",)))
    with pytest.raises(UnsupportedError, match=r"top_k; leave it unset$"):
        body(model, ask(top_k=5))


def test_a_conversation_goes_back_in_order_with_its_reasoning(model: Any, ask: Any) -> None:
    messages = (
        Message("system", "Be brief."),
        Message("user", (TextPart("Look:"), ImagePart(data=b"\x89PNG"))),
        Message(
            "assistant",
            (
                ReasoningPart("Hm.", "rs_1|sealed"),
                ReasoningPart("Foreign.", "c2lnbmVk"),
                TextPart("Let me see."),
                ToolCall("c1", "f", ""),
            ),
        ),
        Message("tool", (ToolResult("c1", "f", "sunny"),)),
        Message("system", "Be kind."),
    )
    sent = body(model, ask(messages, tools=(Tool("f", "F.", {"type": "object"}),)))
    assert sent["instructions"] == "Be brief."
    assert sent["tools"][0] == {
        "type": "function",
        "name": "f",
        "description": "F.",
        "parameters": {"type": "object"},
        "strict": False,
    }
    image = "data:image/png;base64,iVBORw=="
    assert sent["input"] == [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look:"},
                {"type": "input_image", "image_url": image, "detail": "auto"},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": "sealed",
        },
        {"role": "assistant", "content": "Let me see."},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
        {"role": "system", "content": [{"type": "input_text", "text": "Be kind."}]},
    ]


# ---------------------------------------------------------------- streams


def test_named_events_make_the_answer(model: Any, read: Any) -> None:
    created = {"type": "response.created", "response": {"status": "in_progress", "error": None}}
    events, result = read(ADAPTER, model, frames(created, text("Hel"), text("lo"), end()))
    assert events == [TextDelta("Hel"), TextDelta("lo")]
    assert (result.text, result.finish_reason, result.raw_finish_reason) == (
        "Hello",
        "stop",
        "completed",
    )
    assert result.usage.prompt_tokens == 10
    assert result.usage.completion_tokens == 7
    assert result.usage.cached_tokens == 4
    assert result.usage.reasoning_tokens == 3


def test_the_end_needs_no_done(model: Any, ask: Any) -> None:
    parser = ADAPTER.stream_parser(model, ask())
    parser.feed(ServerSentEvent(json.dumps(text("Hi"))))
    assert not parser.done
    parser.feed(ServerSentEvent(json.dumps(end()), "response.completed"))
    assert parser.done


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("new", "other")],
)
def test_an_incomplete_answer_says_why(model: Any, read: Any, reason: str, expected: str) -> None:
    last = end("incomplete", incomplete_details={"reason": reason})
    result = read(ADAPTER, model, frames(text("Hi"), last))[1]
    assert (result.finish_reason, result.raw_finish_reason) == (expected, reason)


def test_a_refusal_says_so(model: Any, read: Any) -> None:
    refused = {"type": "response.refusal.delta", "output_index": 0, "delta": "I cannot."}
    result = read(ADAPTER, model, frames(refused, end()))[1]
    assert (result.finish_reason, result.refusal, result.text) == ("refusal", "I cannot.", "")


def test_tool_calls(model: Any, read: Any) -> None:
    item = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": ""}
    arguments = {"type": "response.function_call_arguments.delta", "output_index": 0}
    chunks = [
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {**arguments, "delta": '{"x"'},
        {**arguments, "delta": ": 1}"},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": {**item, "arguments": '{"x": 1}'},
        },
    ]
    events, result = read(ADAPTER, model, frames(*chunks, end()))
    assert result.tool_calls == (ToolCall("c1", "f", '{"x": 1}'),)
    assert result.finish_reason == "tool_calls"
    assert events == [
        ToolCallDelta(0, "", "c1", "f"),
        ToolCallDelta(0, '{"x"'),
        ToolCallDelta(0, ": 1}"),
    ]
    assert read(ADAPTER, model, frames(chunks[3], end()))[1].tool_calls == result.tool_calls
    assert read(ADAPTER, model, frames(chunks[0], chunks[3], end()))[1] == result


def test_summaries_of_reasoning_are_apart_and_can_be_sent_back(
    model: Any, read: Any, ask: Any
) -> None:
    summary = {"type": "response.reasoning_summary_text.delta", "output_index": 0}
    item = {"type": "reasoning", "id": "rs_1", "summary": []}
    chunks = [
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {**summary, "summary_index": 0, "delta": "First"},
        {**summary, "summary_index": 0, "delta": "."},
        {**summary, "summary_index": 1, "delta": "Second."},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": {**item, "encrypted_content": "sealed"},
        },
        text("Yes."),
    ]
    events, result = read(ADAPTER, model, frames(*chunks, end()))
    assert result.reasoning == "First.\n\nSecond."
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == result.reasoning
    assert result.parts[0] == ReasoningPart("First.\n\nSecond.", "rs_1|sealed")
    sent = body(model, ask((Message("user", "?"), result.message)))["input"]
    assert sent[1]["encrypted_content"] == "sealed"
    assert sent[2] == {"role": "assistant", "content": "Yes."}


def test_reasoning_of_open_models_is_read(model: Any, read: Any) -> None:
    chunk = {"type": "response.reasoning_text.delta", "output_index": 0, "content_index": 0}
    result = read(ADAPTER, model, frames({**chunk, "delta": "Hm."}, text("Yes."), end()))[1]
    assert (result.reasoning, result.text) == ("Hm.", "Yes.")


@pytest.mark.parametrize(
    "error",
    [
        {"type": "error", "code": "server_error", "message": "It broke", "param": None},
        {"type": "error", "error": {"type": "server_error", "message": "It broke"}},
        {
            "type": "response.failed",
            "response": {
                "status": "failed",
                "error": {"code": "server_error", "message": "It broke"},
            },
        },
    ],
    ids=["flat", "nested", "failed"],
)
def test_an_error_in_the_stream_may_be_flat_or_nested(
    model: Any, read: Any, error: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match="It broke") as caught:
        read(ADAPTER, model, frames(text("Hi"), error))
    assert type(caught.value).__name__ == "ServerError"
    assert caught.value.partial_text == "Hi"
    assert caught.value.retryable


def test_a_cancelled_answer_is_an_error(model: Any, read: Any) -> None:
    with pytest.raises(ModelError, match="cancelled"):
        read(ADAPTER, model, frames(text("Hi"), end("cancelled")))


def test_keepalive_and_tools_that_run_at_openai_are_skipped(model: Any, read: Any) -> None:
    others = [
        {"type": "keepalive"},
        {"type": "response.web_search_call.searching", "output_index": 0},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "new_call"}},
        {"type": "response.output_item.done", "output_index": 0, "item": {"type": "new_call"}},
        {"type": "response.function_call_arguments.delta", "output_index": 9, "delta": "{}"},
    ]
    result = read(ADAPTER, model, frames(*others, text("Hi"), end()))[1]
    assert (result.text, result.tool_calls) == ("Hi", ())


def test_an_answer_that_only_the_last_event_has_is_shown(model: Any, read: Any) -> None:
    output = [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}]
    events, result = read(ADAPTER, model, frames(end(output=output)))
    assert (events, result.text) == ([TextDelta("Hi")], "Hi")


def test_a_stream_without_its_last_event_is_interrupted(model: Any, read: Any) -> None:
    done = {"type": "response.output_text.done", "output_index": 0, "text": "Hi"}
    with pytest.raises(InterruptedStreamError, match=r"response\.completed"):
        read(ADAPTER, model, frames(text("Hi"), done))


def test_no_seed_is_claimed(model: Any, read: Any, ask: Any) -> None:
    assert read(ADAPTER, model, frames(end()), request=ask(seed=7))[1].seed is None
