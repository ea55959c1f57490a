"""Requests for Anthropic's Messages API: https://platform.claude.com/docs/en/api/messages.

Schemas follow https://platform.claude.com/docs/en/build-with-claude/structured-outputs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from nbllm.cloud.addresses import signer_of
from nbllm.cloud.vendors.anthropic.prompt_caching import with_cache_marks
from nbllm.cloud.vendors.request_errors import sampling_set
from nbllm.cloud.vendors.request_parts import (
    ID_END,
    SUBSCHEMA_LISTS,
    SUBSCHEMAS,
    image_source,
    merge,
    signature_for,
    tightened,
    vendor_value,
)
from nbllm.core.errors import UnsupportedError
from nbllm.core.option_names import any_option
from nbllm.core.option_table import Backend, refused
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
    VendorPart,
)
from nbllm.core.vendors import VENDORS

__all__ = [
    "BASE_URL",
    "VENDOR",
    "VERSION",
    "closed_schema",
    "count_body",
    "messages_body",
    "refuses_sampling",
    "unwanted_sampling",
    "versioned_path",
]

VENDOR = "anthropic"
BASE_URL = f"https://{VENDORS[VENDOR].hosts[0]}"
VERSION = {"anthropic-version": "2023-06-01"}
"""The header of every request."""

_MAX_TOKENS = 16_384
"""The API insists on a limit. All models in service can write this much, and an answer that
reaches it says so."""

_COUNTED = ("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config")

_CLAUDE_KEYS = {
    *("type", "anyOf", "allOf", "enum", "const", "$ref", "$defs", "definitions", "description"),
    *("title", "properties", "required", "additionalProperties", "items", "format", "minItems"),
    "default",
}
_CLAUDE_FORMATS = {
    *("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"),
}

# From these versions on every temperature, top_p and top_k is a 400, the default values too:
# https://platform.claude.com/docs/en/about-claude/models/migration-guide. So they are left out, and
# the answer says so. What is refused beyond this table is learnt from the refusal.
_FIRST_REFUSING = {"opus": (4, 7)}
_USUALLY_FIRST = (5, 0)
# "claude-opus-4-7-20260401", "anthropic.claude-opus-4.7-v1:0"; a date is no version.
_CLAUDE = re.compile(r"claude-([a-z]+)-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")


def versioned_path(info: ModelInfo, rest: str) -> str:
    """The path behind a base URL, which people give with its version or without."""
    return rest if (info.base_url or "").rstrip("/").endswith("/v1") else f"v1/{rest}"


def messages_body(info: ModelInfo, request: GenerationRequest, *, stream: bool) -> dict[str, Any]:
    """The body of a request. A seed is left out: the vendor takes none.

    Sampling parameters are sent only where they are set and the model takes them.
    """
    options = request.options
    if given := refused(options, Backend.ANTHROPIC):
        raise UnsupportedError(
            info.name,
            f"Anthropic's models do not support {any_option(given)}; leave it unset",
        )
    prompt = _prompt(info, request)
    if options.prompt_caching is not False and "cache_control" not in (options.extra or {}):
        prompt = with_cache_marks(prompt)
    body = prompt | {"max_tokens": options.max_tokens or _MAX_TOKENS}
    sampling = {
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k or None,
    }
    for name in unwanted_sampling(info, options):
        del sampling[name]
    named = sampling | {
        "stop_sequences": list(options.stop) if options.stop else None,
        "stream": stream or None,
    }
    body |= {name: value for name, value in named.items() if value is not None}
    return merge(body, options.extra)


def count_body(info: ModelInfo, request: GenerationRequest) -> dict[str, Any]:
    """The body that asks for the number of prompt tokens."""
    body = merge(_prompt(info, request), request.options.extra)
    return {name: value for name, value in body.items() if name in _COUNTED}


def _prompt(info: ModelInfo, request: GenerationRequest) -> dict[str, Any]:
    """What the model reads: everything that counts as prompt tokens."""
    options = request.options
    system = [m.text for m in request.messages if m.role == "system" and m.text]
    body: dict[str, Any] = {"model": info.model or info.name, "messages": _turns(info, request)}
    if system:
        body["system"] = "\n\n".join(system)
    if options.tools:
        body["tools"] = [_tool(tool) for tool in options.tools]
    if options.tool_choice is not None:
        body["tool_choice"] = _tool_choice(options.tool_choice)
    return body | _thinking(options)


def _tool(tool: Tool) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "input_schema": dict(tool.parameters),
    }


def _tool_choice(choice: str) -> dict[str, str]:
    if choice in ("auto", "none"):
        return {"type": choice}
    return {"type": "any"} if choice == "required" else {"type": "tool", "name": choice}


def _thinking(options: GenerationOptions) -> dict[str, Any]:
    """Effort and the form of the answer, which share a field.

    A word is the effort of adaptive thinking, a number the budget in tokens that older models
    want. Thinking is asked for in its readable form, which newer models leave out by default.
    """
    body: dict[str, Any] = {}
    config: dict[str, Any] = {}
    effort = options.reasoning_effort
    if effort == "none":
        body["thinking"] = {"type": "disabled"}
    elif effort is not None and effort.isdecimal():
        body["thinking"] = {"type": "enabled", "budget_tokens": int(effort)}
    elif effort is not None:
        body["thinking"] = {"type": "adaptive", "display": "summarized"}
        config["effort"] = effort
    if options.response_schema is not None:
        config["format"] = {
            "type": "json_schema",
            "schema": closed_schema(options.response_schema),
        }
    return body | ({"output_config": config} if config else {})


def _turns(info: ModelInfo, request: GenerationRequest) -> list[dict[str, Any]]:
    """The conversation, with consecutive messages of one role in one turn."""
    turns: list[dict[str, Any]] = []
    for message in request.messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = list(_blocks(info, message))
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        # The results of tools must stand before anything else that their turn says.
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    return turns


def _blocks(info: ModelInfo, message: Message) -> Iterator[dict[str, Any]]:
    for part in message.parts:
        block = _block(info, part)
        if block is not None:
            yield block


def _block(info: ModelInfo, part: ContentPart) -> dict[str, Any] | None:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text} if text else None  # empty blocks are refused
        case ImagePart():
            return {"type": "image", "source": _source(info, part)}
        case ReasoningPart():
            return _thinking_block(part, signature_for(part, signer_of(info, BASE_URL)))
        case ToolCall():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": _input(part)}
        case ToolResult():
            block = {"type": "tool_result", "tool_use_id": part.call_id, "content": part.content}
            return {**block, "is_error": True} if part.is_error else block
        case VendorPart():
            return vendor_value(part, VENDOR)


def _source(info: ModelInfo, image: ImagePart) -> dict[str, str]:
    (media_type, content), address = image_source(info.name, image)
    if address:
        return {"type": "url", "url": address}
    return {"type": "base64", "media_type": media_type, "data": content}


def _thinking_block(part: ReasoningPart, signature: str | None) -> dict[str, Any] | None:
    """Reasoning goes back with its signature; without one the vendor refuses it."""
    if signature is None or ID_END in signature:
        return None
    return {"type": "thinking", "thinking": part.text, "signature": signature}


def _input(call: ToolCall) -> dict[str, Any]:
    """The arguments as the object that the API insists on, whatever a model wrote."""
    try:
        value = call.parsed_arguments()
    except json.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) else {"arguments": call.arguments}


def closed_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema for Anthropic, which wants objects closed and leaves properties optional.

    What it has no keyword for is put into the description, for the model to read.
    """
    return _described(tightened(schema, required=False))


def _described(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Unknown keywords as a part of the description, as Anthropic's SDK does it."""
    kept = {key: value for key, value in schema.items() if _is_of_claude(key, value)}
    for key in SUBSCHEMAS:
        if isinstance(kept.get(key), Mapping):
            kept[key] = {name: _inner(value) for name, value in kept[key].items()}
    for key in SUBSCHEMA_LISTS:
        if isinstance(kept.get(key), list | tuple):
            kept[key] = [_inner(value) for value in kept[key]]
    if "items" in kept:
        kept["items"] = _inner(kept["items"])
    others = {key: value for key, value in schema.items() if key not in kept}
    if others and "$ref" not in kept:
        told = ", ".join(
            f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in others.items()
        )
        kept["description"] = "\n\n".join(filter(None, [kept.get("description"), f"{{{told}}}"]))
    return kept


def _inner(value: Any) -> Any:
    return _described(value) if isinstance(value, Mapping) else value


def _is_of_claude(key: str, value: Any) -> bool:
    if key == "format":
        return value in _CLAUDE_FORMATS
    if key == "additionalProperties":
        return value is False
    return key in _CLAUDE_KEYS and (key != "minItems" or value in (0, 1))


def refuses_sampling(model: str) -> bool:
    """Whether the model of this name takes no sampling options, as far as its name tells."""
    found = _CLAUDE.search(model.lower())
    if found is None:
        return False
    family, major, minor = found.groups()
    return (int(major), int(minor or 0)) >= _FIRST_REFUSING.get(family, _USUALLY_FIRST)


def unwanted_sampling(info: ModelInfo, options: GenerationOptions) -> tuple[str, ...]:
    """The options that are set and that the model refuses."""
    if not refuses_sampling(info.model or info.name):
        return ()
    return sampling_set(options)
