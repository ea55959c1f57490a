"""Every request body is one that the types of the vendor's own SDK allow, to the last key."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import typing_extensions as te

from nbllm.cloud.vendors import adapter_for
from nbllm.cloud.vendors.openai.chat_requests import chat_body
from nbllm.core.types import (
    GenerationOptions,
    GenerationRequest,
    ImagePart,
    Message,
    ModelInfo,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
)

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = Tool("weather", "The weather of a city.", SCHEMA)
CONVERSATION = (
    Message("system", "Be brief."),
    Message(
        "user",
        (
            TextPart("What is this?"),
            ImagePart(data=b"\x89PNG"),
            ImagePart("image/jpeg", url="https://example.org/cat.jpg"),
            ImagePart("image/jpeg", url="data:image/webp;base64,UklGRg=="),
        ),
    ),
    Message(
        "assistant",
        (
            ReasoningPart("Hm.", "c2lnbmVk"),
            TextPart("Let me look."),
            ToolCall("call_1", "weather", '{"city": "Rome"}', "c2ln"),
            ToolCall("call_2", "weather", "not json"),
        ),
    ),
    Message("tool", (ToolResult("call_1", "weather", "sunny"),)),
    Message("tool", (ToolResult("call_2", "weather", "broken", is_error=True),)),
    Message("user", "And now?"),
)
PLAIN = (Message("user", "Hello"),)
COMMON: dict[str, Any] = {"max_tokens": 5, "temperature": 0.5, "top_p": 0.9}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "every": [
        {},
        COMMON,
        {"tools": (TOOL,), "tool_choice": "auto"},
        {"tools": (TOOL,), "tool_choice": "required"},
        {"tools": (TOOL,), "tool_choice": "none"},
        {"tools": (TOOL,), "tool_choice": "weather"},
        {"response_schema": SCHEMA},
        {"reasoning_effort": "low"},
        {"reasoning_effort": "high", "response_schema": SCHEMA},
        {"reasoning_effort": "none"},
    ],
    "chat": [
        {"stop": ("END",), "seed": 7, "presence_penalty": 1.0, "frequency_penalty": 1.0},
    ],
    "responses": [{"seed": 7}],
    "anthropic": [{"stop": ("END",), "top_k": 5, "seed": 7}, {"reasoning_effort": "2048"}],
    "gemini": [
        {"stop": ("END",), "seed": 7, "top_k": 5, "presence_penalty": 1.0},
        {"reasoning_effort": "2048"},
    ],
}


def conforms(value: Any, wanted: Any, place: str = "body") -> list[str]:
    """What of a JSON value a type does not allow; keys that a TypedDict lacks count too."""
    origin, args = get_origin(wanted), get_args(wanted)
    if origin in (te.Required, te.NotRequired, Annotated):
        return conforms(value, args[0], place)
    if wanted in (Any, object):
        return []
    if origin in (Union, types.UnionType):
        return _any_conforms(value, args, place)
    if origin in (Literal, te.Literal):
        return [] if value in args else [f"{place} is {value!r}, none of {args}"]
    if te.is_typeddict(wanted):
        return _dict_conforms(value, wanted, place)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return [] if isinstance(value, dict) else [f"{place} is no object"]
    if (isinstance(origin, type) and issubclass(origin, Iterable)) or _is_sequence(wanted):
        if not isinstance(value, list):
            return [f"{place} is no list"]
        return [f for i, v in enumerate(value) for f in conforms(v, args[0], f"{place}[{i}]")]
    kind = (int, float) if wanted is float else origin or wanted
    fits = isinstance(value, kind) and (wanted is bool or not isinstance(value, bool))
    return [] if fits else [f"{place} is {value!r}, no {wanted}"]


def _is_sequence(wanted: Any) -> bool:
    return "SequenceNotStr" in repr(get_origin(wanted))


def _any_conforms(value: Any, kinds: tuple[Any, ...], place: str) -> list[str]:
    faults = [conforms(value, kind, place) for kind in kinds]
    return [] if [] in faults else max(faults, key=lambda found: len(found[0].split(" ")[0]))


def _dict_conforms(value: Any, wanted: Any, place: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{place} is {value!r}, no object"]
    hints = te.get_type_hints(wanted, include_extras=True)
    required = [key for key, hint in hints.items() if get_origin(hint) is te.Required]
    faults = [f"{place} lacks {key}" for key in required if key not in value]
    faults += [f"{place} has an unknown key {key}" for key in value if key not in hints]
    for key in value.keys() & hints.keys():
        faults += conforms(value[key], hints[key], f"{place}.{key}")
    return faults


def bodies(info: ModelInfo, protocol: str, *, stream: bool) -> list[dict[str, Any]]:
    adapter = adapter_for(info)
    return [
        dict(adapter.generation_request(info, request, stream=stream).body or {})
        for options in OPTIONS["every"] + OPTIONS[protocol]
        for messages in (PLAIN, CONVERSATION)
        for request in [GenerationRequest(messages, GenerationOptions(**options), model=info)]
    ]


def model(model_type: str, **values: Any) -> ModelInfo:
    return ModelInfo(name="some-model", model_type=model_type, local=False, **values)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("protocol", ["chat", "responses"])
def test_openai(protocol: str, stream: bool) -> None:
    pytest.importorskip("openai")
    from openai.types.chat import completion_create_params as chat
    from openai.types.responses import response_create_params as responses

    module = chat if protocol == "chat" else responses
    name = "CompletionCreateParams" if protocol == "chat" else "ResponseCreateParams"
    wanted = getattr(module, f"{name}{'Streaming' if stream else 'NonStreaming'}")
    for body in bodies(model("openai", api=protocol), protocol, stream=stream):
        assert conforms(body, wanted) == [], body


def test_openai_counting() -> None:
    pytest.importorskip("openai")
    from openai.types.responses.input_token_count_params import InputTokenCountParams

    info = model("openai")
    for options in OPTIONS["every"]:
        request = GenerationRequest(CONVERSATION, GenerationOptions(**options), model=info)
        asked = adapter_for(info).count_request(info, request)
        assert asked is not None
        assert conforms(asked.body, InputTokenCountParams) == []


@pytest.mark.parametrize("stream", [True, False])
def test_anthropic(stream: bool) -> None:
    pytest.importorskip("anthropic")
    from anthropic.types import message_create_params as params

    wanted = (
        params.MessageCreateParamsStreaming if stream else params.MessageCreateParamsNonStreaming
    )
    sampling = ("temperature", "top_p", "top_k")  # gone from the types, not from older models
    for body in bodies(model("anthropic"), "anthropic", stream=stream):
        kept = {key: value for key, value in body.items() if key not in sampling}
        assert conforms(kept, wanted) == [], body


def test_anthropic_counting() -> None:
    pytest.importorskip("anthropic")
    from anthropic.types import MessageCountTokensParams

    info = model("anthropic")
    for options in OPTIONS["every"]:
        request = GenerationRequest(CONVERSATION, GenerationOptions(**options), model=info)
        asked = adapter_for(info).count_request(info, request)
        assert asked is not None
        assert conforms(asked.body, MessageCountTokensParams) == []


def test_gemini() -> None:
    pytest.importorskip("google.genai")
    from google.genai import types as google

    kinds = {
        "systemInstruction": google.Content,
        "generationConfig": google.GenerationConfig,
        "toolConfig": google.ToolConfig,
    }
    for body in bodies(model("gemini"), "gemini", stream=True):
        for content in body.pop("contents"):
            google.Content.model_validate(content)
        for tool in body.pop("tools", []):
            google.Tool.model_validate(tool)
        for key, value in body.items():
            kinds[key].model_validate(value)


def test_the_checker_finds_what_is_wrong() -> None:
    """The checker itself can fail."""
    pytest.importorskip("openai")
    from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

    info = model("openai")
    request = GenerationRequest(CONVERSATION, GenerationOptions(tools=(TOOL,)), model=info)
    body = chat_body(info, request, stream=True)
    assert conforms({**body, "zzz": 1}, CompletionCreateParamsStreaming)
    assert conforms({**body, "messages": [{"role": "user"}]}, CompletionCreateParamsStreaming)
    assert conforms({**body, "stream": "yes"}, CompletionCreateParamsStreaming)
    body["messages"][1]["content"][1]["image_url"] = "https://example.org"
    assert conforms(body, CompletionCreateParamsStreaming)
