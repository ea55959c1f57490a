"""Requests for Gemini's API: https://ai.google.dev/api/generate-content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from nbllm.cloud.addresses import signer_of
from nbllm.cloud.vendors.request_parts import (
    ID_END,
    image_source,
    merge,
    signature_for,
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
    "CALL_PREFIX",
    "VENDOR",
    "content_body",
    "count_body",
    "method_path",
    "model_path",
    "versioned_path",
]

VENDOR = "gemini"
BASE_URL = f"https://{VENDORS[VENDOR].hosts[0]}"

CALL_PREFIX = "nbllm-call-"
"""Begins the ids that we give to calls, because most of the vendor's have none."""

_CONFIG = {
    "max_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_COUNTED = ("contents", "systemInstruction", "tools", "toolConfig", "generationConfig")

# Gemini 2.5 wants a number of tokens; these are the ones that the vendor's own translation of
# OpenAI's words uses (https://ai.google.dev/gemini-api/docs/openai#thinking).
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576}


def model_path(info: ModelInfo) -> str:
    """The model's name as a resource."""
    name = info.model or info.name
    return name if "/" in name else f"models/{name}"


def versioned_path(info: ModelInfo, rest: str) -> str:
    """The path behind a base URL, which people give with its version or without."""
    base = (info.base_url or "").rstrip("/")
    return rest if base.endswith(("/v1beta", "/v1", "/v1alpha")) else f"v1beta/{rest}"


def method_path(info: ModelInfo, method: str) -> str:
    """The path of a method of the model."""
    return versioned_path(info, f"{quote(model_path(info))}:{method}")


def content_body(info: ModelInfo, request: GenerationRequest) -> dict[str, Any]:
    """The body of a request for an answer."""
    options = request.options
    if given := refused(options, Backend.GEMINI):
        raise UnsupportedError(
            info.name,
            f"Gemini's models do not support {any_option(given)}; leave it unset",
        )
    body: dict[str, Any] = {"contents": _contents(info, request)}
    system = [m.text for m in request.messages if m.role == "system" and m.text]
    if system:
        body["systemInstruction"] = {"parts": [{"text": "\n\n".join(system)}]}
    if options.tools:
        body["tools"] = [{"functionDeclarations": [_tool(tool) for tool in options.tools]}]
    if options.tool_choice is not None:
        body["toolConfig"] = {"functionCallingConfig": _calling(options.tool_choice)}
    if config := _config(info, options):
        body["generationConfig"] = config
    return merge(body, options.extra)


def count_body(info: ModelInfo, request: GenerationRequest) -> dict[str, Any]:
    """The body that asks for the number of prompt tokens."""
    body = content_body(info, request)
    asked = {name: value for name, value in body.items() if name in _COUNTED}
    return {"generateContentRequest": {"model": model_path(info), **asked}}


def _config(info: ModelInfo, options: GenerationOptions) -> dict[str, Any]:
    """What the user set, and nothing else."""
    config = {
        theirs: value
        for ours, theirs in _CONFIG.items()
        if (value := getattr(options, ours)) is not None
    }
    if options.top_k == 0:
        del config["topK"]
    if options.stop:
        config["stopSequences"] = list(options.stop)
    if options.response_schema is not None:
        config["responseMimeType"] = "application/json"
        config["responseJsonSchema"] = dict(options.response_schema)
    if options.reasoning_effort is not None:
        config["thinkingConfig"] = _thinking(info, options.reasoning_effort)
    return config


def _thinking(info: ModelInfo, effort: str) -> dict[str, Any]:
    """Gemini 3 and later take a word, 2.5 a number of tokens; a number is passed on as it is."""
    if effort == "none":
        return {"thinkingBudget": 0}
    if effort.isdecimal():
        return {"includeThoughts": True, "thinkingBudget": int(effort)}
    if "gemini-2" in model_path(info) and effort in _BUDGETS:
        return {"includeThoughts": True, "thinkingBudget": _BUDGETS[effort]}
    return {"includeThoughts": True, "thinkingLevel": effort}


def _calling(choice: str) -> dict[str, Any]:
    if choice in _MODES:
        return {"mode": _MODES[choice]}
    return {"mode": "ANY", "allowedFunctionNames": [choice]}


def _tool(tool: Tool) -> dict[str, Any]:
    declaration: dict[str, Any] = {"name": tool.name, "description": tool.description}
    if tool.parameters.get("properties"):
        declaration["parametersJsonSchema"] = dict(tool.parameters)
    return declaration


def _contents(info: ModelInfo, request: GenerationRequest) -> list[dict[str, Any]]:
    """The conversation, with consecutive messages of one role in one turn."""
    turns: list[dict[str, Any]] = []
    for message in request.messages:
        if message.role == "system":
            continue
        role = "model" if message.role == "assistant" else "user"
        parts = list(_parts(info, message))
        if turns and turns[-1]["role"] == role:
            turns[-1]["parts"] += parts
        elif parts:
            turns.append({"role": role, "parts": parts})
    return turns


def _parts(info: ModelInfo, message: Message) -> Iterator[dict[str, Any]]:
    for part in message.parts:
        sent = _part(info, part)
        if sent is not None:
            yield sent


def _part(info: ModelInfo, part: ContentPart) -> dict[str, Any] | None:
    match part:
        case TextPart(text):
            return {"text": text}
        case ImagePart():
            return _image(info, part)
        case ReasoningPart():
            return _thought(part, signature_for(part, signer_of(info, BASE_URL)))
        case ToolCall():
            call = {"name": part.name, "args": _arguments(part), **_id(part.id)}
            signature = signature_for(part, signer_of(info, BASE_URL))
            return {"functionCall": call, **({"thoughtSignature": signature} if signature else {})}
        case ToolResult():
            key = "error" if part.is_error else "result"
            answer = {"name": part.name, "response": {key: part.content}, **_id(part.call_id)}
            return {"functionResponse": answer}
        case VendorPart():
            return vendor_value(part, VENDOR)


def _id(identity: str) -> dict[str, str]:
    return {} if not identity or identity.startswith(CALL_PREFIX) else {"id": identity}


def _image(info: ModelInfo, image: ImagePart) -> dict[str, Any]:
    (media_type, content), address = image_source(info.name, image)
    if address:
        return {"fileData": {"mimeType": image.media_type, "fileUri": address}}
    return {"inlineData": {"mimeType": media_type, "data": content}}


def _thought(part: ReasoningPart, signature: str | None) -> dict[str, Any] | None:
    """Only the signature is of use to the vendor; thoughts themselves are not read again."""
    if signature is None or ID_END in signature:
        return None
    if not part.text:
        return {"text": "", "thoughtSignature": signature}
    return {"text": part.text, "thought": True, "thoughtSignature": signature}


def _arguments(call: ToolCall) -> dict[str, Any]:
    """The arguments as the object that the API insists on, whatever a model wrote."""
    try:
        value = call.parsed_arguments()
    except json.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) else {"arguments": call.arguments}
