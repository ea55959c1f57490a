"""Requests for OpenAI's Chat Completions, which nearly every other server speaks too.

Source: https://platform.openai.com/docs/api-reference/chat. What other servers lack is not sent to
them, and OpenAI is not sent what only they know.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from nbllm.cloud.addresses import host_of
from nbllm.cloud.vendors.openai.strict_schemas import openai_schema
from nbllm.cloud.vendors.request_parts import data_url, merge, signature_for
from nbllm.core.errors import UnsupportedError
from nbllm.core.messages import INLINE
from nbllm.core.openai_messages import openai_tools, openai_turns
from nbllm.core.option_names import any_option
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
    options, form = request.options, _ApiForm(info)
    body: dict[str, Any] = {
        "model": model_id(info),
        "messages": [turn for m in request.messages for turn in openai_turns(m, form)],
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
        raise UnsupportedError(info.name, f"{who} not support {any_option(given)}; leave it unset")
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
        body["tools"] = openai_tools(options.tools)
    if options.tool_choice in ("auto", "none", "required"):
        body["tool_choice"] = options.tool_choice
    elif options.tool_choice is not None:
        body["tool_choice"] = {"type": "function", "function": {"name": options.tool_choice}}
    return body


class _ApiForm:
    """See ``nbllm.core.openai_messages.TurnForm``."""

    def __init__(self, info: ModelInfo) -> None:
        self._info = info

    def content(self, role: str, parts: Sequence[ContentPart]) -> str | list[dict[str, Any]]:
        """Text as a string, which every server takes; a list where there are images."""
        if role == "assistant" or not any(isinstance(part, ImagePart) for part in parts):
            return "".join(part.text for part in parts if isinstance(part, TextPart))
        content: list[dict[str, Any]] = []
        for part in parts:
            if isinstance(part, ImagePart):
                url = {"url": data_url(self._info.name, part)}
                content.append({"type": "image_url", "image_url": url})
            elif isinstance(part, TextPart):
                content.append({"type": "text", "text": part.text})
        return content

    def arguments(self, call: ToolCall) -> str:
        return call.arguments or "{}"

    def beside_call(self, call: ToolCall) -> dict[str, Any]:
        info = self._info
        signature = signature_for(call, "gemini" if _is_google(info) else host_of(info.base_url))
        if not signature or is_openai(info):
            return {}
        return {"extra_content": {"google": {"thought_signature": signature}}}

    def beside_calls(self, message: Message) -> dict[str, Any]:
        """The reasoning behind a call, on which DeepSeek insists, and which the templates of vLLM
        and llama-server show to the model.
        """
        told = (p for p in message.parts if isinstance(p, ReasoningPart) and p.vendor != INLINE)
        thought = "".join(part.text for part in told)
        reasoning = {"reasoning_content": thought} if thought and not is_openai(self._info) else {}
        return {"content": message.text or None, **reasoning}

    def beside_result(self, result: ToolResult) -> dict[str, Any]:
        return {}


def _is_google(info: ModelInfo) -> bool:
    """Whether a Gemini answers, at Google's or behind a router."""
    return host_of(info.base_url).endswith(".googleapis.com") or "gemini" in model_id(info)
