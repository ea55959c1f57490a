"""Requests for OpenAI's Chat Completions, which nearly every other server speaks too.

Source: https://platform.openai.com/docs/api-reference/chat. What other servers lack is not sent to
them, and OpenAI is not sent what only they know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from nbllm.cloud.addresses import host_of
from nbllm.cloud.vendors.openai.strict_schemas import openai_schema
from nbllm.cloud.vendors.request_parts import data_url, merge, signature_for
from nbllm.core.errors import InvalidOptionError, UnsupportedError
from nbllm.core.messages import INLINE
from nbllm.core.option_table import Backend, options_of, refused
from nbllm.core.types import (
    ContentPart,
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

__all__ = ["chat_body", "is_openai", "model_id"]

# OpenAI's own names of models that reason, as they appear behind a proxy that passes them on. A
# hint only: where it errs, the server says which of the two names for the limit it wants.
_REASONING_NAME = re.compile(r"(o\d|gpt-([5-9]|\d\d))")

_SERVERS_ONLY = tuple(
    name
    for name, declared in options_of(GenerationOptions).items()
    if Backend.SERVERS & declared.backends and not Backend.OPENAI_CHAT & declared.backends
)
"""What servers like OpenAI's take in addition, by the same names unless it is told otherwise."""


def model_id(info: ModelInfo) -> str:
    """The vendor's name for the model."""
    return info.model or info.name


def is_openai(info: ModelInfo) -> bool:
    """Whether the model is OpenAI's own, and not one of the many servers like it."""
    host = host_of(info.base_url)
    return not host or host == "api.openai.com" or host.endswith((".openai.com", ".azure.com"))


def chat_body(info: ModelInfo, request: GenerationRequest, *, stream: bool) -> dict[str, Any]:
    """The body of a request."""
    options = request.options
    body: dict[str, Any] = {
        "model": model_id(info),
        "messages": [turn for m in request.messages for turn in _turns(info, m)],
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    body |= _limits(info, options) | _sampling(info, options) | _tools(options)
    if options.reasoning_effort is not None:
        body["reasoning_effort"] = options.reasoning_effort
    if options.response_schema is not None:
        schema, strict = openai_schema(options.response_schema)
        named = {"name": "answer", "schema": schema, "strict": strict}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    return merge(body, options.extra)


def _limits(info: ModelInfo, options: GenerationOptions) -> dict[str, Any]:
    if options.max_tokens is None:
        return {}
    modern = is_openai(info) or _REASONING_NAME.match(model_id(info))
    return {"max_completion_tokens" if modern else "max_tokens": options.max_tokens}


def _sampling(info: ModelInfo, options: GenerationOptions) -> dict[str, Any]:
    """What the user set, and nothing else: many models refuse even the default values."""
    names = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed")
    body = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.stop:
        body["stop"] = list(options.stop)
    if options.logit_bias is not None:
        body["logit_bias"] = _biases(info, options.logit_bias)
    if options.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": options.logprobs}
    is_openais = is_openai(info)
    if given := refused(options, Backend.OPENAI_CHAT if is_openais else Backend.SERVERS):
        who = "OpenAI's models do" if is_openais else "servers like OpenAI's do"
        raise UnsupportedError(info.name, f"{who} not support {' or '.join(given)}; leave it unset")
    values = options.set_values()
    more = {name: values[name] for name in _SERVERS_ONLY if name in values}
    if "repeat_penalty" in more:
        # llama-server and LM Studio call it repeat_penalty, vLLM and OpenRouter like this.
        more["repetition_penalty"] = more["repeat_penalty"]
    if "stop_tokens" in more:
        more["stop_token_ids"] = more.pop("stop_tokens")  # vLLM's name
    return body | more


def _biases(info: ModelInfo, biases: tuple[tuple[int | str, float], ...]) -> dict[str, float]:
    """The API knows tokens by their ids only."""
    for token, _ in biases:
        if not isinstance(token, int):
            raise UnsupportedError(
                info.name, f"its logit_bias supports token ids only (got {token!r})"
            )
    return {str(token): bias for token, bias in biases}


def _tools(options: GenerationOptions) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if options.tools:
        body["tools"] = [{"type": "function", "function": _function(t)} for t in options.tools]
    if options.tool_choice in ("auto", "none", "required"):
        body["tool_choice"] = options.tool_choice
    elif options.tool_choice is not None:
        body["tool_choice"] = {"type": "function", "function": {"name": options.tool_choice}}
    return body


def _function(tool: Tool) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }


def _turns(info: ModelInfo, message: Message) -> Iterator[dict[str, Any]]:
    """A message as one or more of the API's: every tool result is a message of its own."""
    for part in message.parts:
        if isinstance(part, ToolResult):
            yield {"role": "tool", "tool_call_id": part.call_id, "content": part.content}
    rest = [part for part in message.parts if not isinstance(part, ToolResult)]
    if message.role == "tool":
        if rest:
            raise InvalidOptionError(
                "messages", "a message of role tool must hold ToolResult parts only"
            )
    elif message.role == "assistant":
        yield _assistant_turn(info, message)
    elif rest or not message.parts:
        yield {"role": message.role, "content": _content(info, rest)}


def _content(info: ModelInfo, parts: Sequence[ContentPart]) -> str | list[dict[str, Any]]:
    """Text as a string, which every server takes; a list where there are images."""
    if not any(isinstance(part, ImagePart) for part in parts):
        return "".join(part.text for part in parts if isinstance(part, TextPart))
    content: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, ImagePart):
            url = {"url": data_url(info.name, part)}
            content.append({"type": "image_url", "image_url": url})
        elif isinstance(part, TextPart):
            content.append({"type": "text", "text": part.text})
    return content


def _assistant_turn(info: ModelInfo, message: Message) -> dict[str, Any]:
    calls = [_call(info, part) for part in message.parts if isinstance(part, ToolCall)]
    turn: dict[str, Any] = {"role": "assistant", "content": message.text}
    if calls:
        turn |= {"content": message.text or None, "tool_calls": calls}
    thought = "".join(
        part.text
        for part in message.parts
        if isinstance(part, ReasoningPart) and part.vendor != INLINE
    )
    if calls and thought and not is_openai(info):
        # DeepSeek insists on the reasoning behind a tool call; templates of vLLM and llama-server
        # show it to the model.
        turn["reasoning_content"] = thought
    return turn


def _call(info: ModelInfo, call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    turn: dict[str, Any] = {"id": call.id, "type": "function", "function": function}
    signature = signature_for(call, "gemini" if _is_google(info) else host_of(info.base_url))
    if signature and not is_openai(info):
        turn["extra_content"] = {"google": {"thought_signature": signature}}
    return turn


def _is_google(info: ModelInfo) -> bool:
    """Whether a Gemini answers, at Google's or behind a router."""
    return host_of(info.base_url).endswith(".googleapis.com") or "gemini" in model_id(info)
