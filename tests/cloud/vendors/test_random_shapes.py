"""Random and damaged answers never raise anything but nbllm's own errors."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbllm.cloud.transport.sse import ServerSentEvent
from nbllm.cloud.vendors import adapter_for
from nbllm.core.errors import ModelError, NbllmError
from nbllm.core.types import GenerationRequest, Message, ModelInfo
from nbllm.testing import fake_info

REQUEST = GenerationRequest((Message("user", "?"),), model=fake_info())
MODELS = {
    "chat": ModelInfo(name="m", model_type="openai", local=False, api="chat"),
    "responses": ModelInfo(name="m", model_type="openai", local=False, api="responses"),
    "anthropic": ModelInfo(name="m", model_type="anthropic", local=False),
    "gemini": ModelInfo(name="m", model_type="gemini", local=False),
}
PROTOCOLS = pytest.mark.parametrize("protocol", MODELS)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    st.text(max_size=3),
    st.sampled_from(["stop", "text", "tool_use", "thinking", "reasoning", "message", "🎉"]),
)
KEYS = st.sampled_from(
    [
        "type",
        "error",
        "message",
        "content",
        "choices",
        "delta",
        "index",
        "finish_reason",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "id",
        "usage",
        "prompt_tokens",
        "reasoning",
        "refusal",
        "response",
        "output",
        "status",
        "item",
        "output_index",
        "summary",
        "text",
        "encrypted_content",
        "content_block",
        "signature",
        "input",
        "stop_reason",
        "stop_details",
        "candidates",
        "parts",
        "functionCall",
        "args",
        "thoughtSignature",
        "thought",
        "promptFeedback",
        "blockReason",
        "finishReason",
        "usageMetadata",
        "data",
        "embedding",
        "values",
        "models",
        "code",
        "details",
        "retryDelay",
        "param",
        "meta",
    ]
)
SHAPES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
KINDS = st.sampled_from(
    [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
        "response.output_text.delta",
        "response.output_item.added",
        "response.output_item.done",
        "response.function_call_arguments.delta",
        "response.refusal.delta",
        "response.reasoning_summary_text.delta",
        "response.completed",
        "response.failed",
        "response.incomplete",
    ]
)


# A good stream with one of everything that a parser looks at.
RICH: dict[str, list[Any]] = {
    "chat": [
        {
            "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}],
            "usage": {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}},
        },
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {
                        "content": [{"type": "thinking", "thinking": [{"text": "Hm"}]}],
                        "reasoning_content": "Hm",
                        "refusal": "No",
                        "tool_calls": [
                            {
                                "index": 0,
                                "id": "1",
                                "function": {"name": "f", "arguments": "{}"},
                                "extra_content": {"google": {"thought_signature": "s"}},
                            }
                        ],
                        "function_call": {"name": "g", "arguments": "{}"},
                    },
                }
            ]
        },
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ],
    "responses": [
        {"type": "response.output_text.delta", "delta": "Hi"},
        {
            "type": "response.output_item.added",
            "output_index": 1,
            "item": {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""},
        },
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"},
        {
            "type": "response.reasoning_summary_text.delta",
            "output_index": 2,
            "summary_index": 0,
            "delta": "Hm",
        },
        {
            "type": "response.output_item.done",
            "output_index": 2,
            "item": {
                "type": "reasoning",
                "id": "rs",
                "encrypted_content": "x",
                "summary": [{"type": "summary_text", "text": "Hm"}],
            },
        },
        {
            "type": "response.incomplete",
            "response": {
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
                "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}],
                "usage": {"input_tokens": 1, "input_tokens_details": {"cached_tokens": 1}},
            },
        },
    ],
    "anthropic": [
        {"type": "message_start", "message": {"usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "H"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "i"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "thinking_delta", "thinking": "Hm"},
        },
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "signature_delta", "signature": "s"},
        },
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        },
        {"type": "content_block_stop", "index": 2},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "refusal", "stop_details": {"explanation": "No"}},
            "usage": {"output_tokens": 3, "output_tokens_details": {"thinking_tokens": 1}},
        },
        {"type": "message_stop"},
    ],
    "gemini": [
        {
            "candidates": [
                {
                    "index": 0,
                    "content": {
                        "parts": [
                            {"text": "Hm", "thought": True, "thoughtSignature": "s"},
                            {"functionCall": {"name": "f", "args": {"a": 1}, "id": "1"}},
                        ]
                    },
                }
            ],
            "usageMetadata": {"promptTokenCount": 1, "thoughtsTokenCount": 2},
        },
        {"promptFeedback": {"blockReason": "SAFETY"}},
        {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "SAFETY"}]},
    ],
}


@PROTOCOLS
@settings(max_examples=150, deadline=None)
@given(values=st.lists(st.tuples(KINDS, SHAPES), min_size=1, max_size=4))
def test_no_shape_raises_anything_but_our_errors(
    protocol: str, values: list[tuple[str, Any]]
) -> None:
    info = MODELS[protocol]
    parser = adapter_for(info).stream_parser(info, REQUEST)
    with suppress(NbllmError):
        for kind, value in values:
            typed = {**value, "type": kind} if isinstance(value, dict) else value
            parser.feed(ServerSentEvent(json.dumps(typed), kind))
        parser.finish()


@PROTOCOLS
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_change_of_a_real_stream_raises_anything_but_our_errors(
    protocol: str, data: st.DataObject
) -> None:
    """One value somewhere in a good stream is replaced by one of another type, or removed."""
    values = copy.deepcopy(RICH[protocol])
    places = list(_places(values))
    parent, key = data.draw(st.sampled_from(places))
    if isinstance(parent, dict) and data.draw(st.booleans()):
        del parent[key]
    else:
        parent[key] = data.draw(SHAPES)
    parser = adapter_for(MODELS[protocol]).stream_parser(MODELS[protocol], REQUEST)
    with suppress(NbllmError):
        for value in values:
            parser.feed(ServerSentEvent(json.dumps(value)))
        parser.finish()


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


@PROTOCOLS
@settings(max_examples=100, deadline=None)
@given(body=SHAPES, status=st.integers(300, 599))
def test_no_body_of_an_error_raises_anything(protocol: str, body: Any, status: int) -> None:
    info = MODELS[protocol]
    adapter = adapter_for(info)
    error = adapter.parse_error(info, status, {}, json.dumps(body).encode())
    assert isinstance(error, ModelError)
    assert len(str(error)) < 3000


@PROTOCOLS
@settings(max_examples=100, deadline=None)
@given(body=SHAPES)
def test_no_other_answer_raises_anything_but_our_errors(protocol: str, body: Any) -> None:
    info = MODELS[protocol]
    adapter = adapter_for(info)
    data = json.dumps(body).encode()
    for read in (
        lambda: adapter.parse_answer(info, REQUEST, data),
        lambda: adapter.parse_embeddings(info, [data]),
        lambda: adapter.parse_count(info, data),
        lambda: adapter.parse_list(info, data),
    ):
        with suppress(NbllmError):
            read()


@pytest.mark.parametrize("protocol", ["anthropic", "gemini"])
def test_no_depth_raises_anything_but_our_errors(protocol: str) -> None:
    """What can just be read may be too deep to be written again."""
    for depth in range(50, 1100, 3):
        deep = f"{'[' * depth}{']' * depth}"
        call = f'{{"type":"tool_use","name":"f","input":{{"a":{deep}}}}}'
        events = {
            "anthropic": [
                f'{{"type":"content_block_start","index":0,"content_block":{call}}}',
                '{"type":"content_block_stop","index":0}',
            ],
            "gemini": [
                f'{{"candidates":[{{"content":{{"parts":[{{"functionCall":'
                f'{{"name":"f","args":{{"a":{deep}}}}}}}]}}}}]}}'
            ],
        }
        parser = adapter_for(MODELS[protocol]).stream_parser(MODELS[protocol], REQUEST)
        with suppress(NbllmError):
            for data in events[protocol]:
                parser.feed(ServerSentEvent(data))
