"""OpenAI's Responses API, and the servers that speak it.

Source: https://platform.openai.com/docs/api-reference/responses. Nothing is kept on the server
(``store`` is false): the whole conversation travels with each request, reasoning in its encrypted
form included.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nbllm.cloud.addresses import signer_of
from nbllm.cloud.vendors.openai.chat_requests import model_id
from nbllm.cloud.vendors.openai.strict_schemas import openai_schema
from nbllm.cloud.vendors.request_parts import ID_END, data_url, merge, signature_for
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
)
from nbllm.core.vendors import VENDORS

__all__ = ["BASE_URL", "count_body", "responses_body", "sealed"]

BASE_URL = f"https://{VENDORS['openai'].hosts[0]}/v1"

_COUNTED = ("model", "input", "instructions", "tools", "tool_choice", "text", "reasoning")


def responses_body(info: ModelInfo, request: GenerationRequest, *, stream: bool) -> dict[str, Any]:
    """The body of a request. A seed is left out: this API takes none."""
    options = request.options
    _refuse(info, options)
    body = _prompt(info, request) | {"store": False}
    if stream:
        body["stream"] = True
    named = {
        "max_output_tokens": options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
    }
    body |= {name: value for name, value in named.items() if value is not None}
    return merge(body, options.extra)


def count_body(info: ModelInfo, request: GenerationRequest) -> dict[str, Any]:
    """The body that asks for the number of prompt tokens."""
    body = merge(_prompt(info, request), request.options.extra)
    return {name: value for name, value in body.items() if name in _COUNTED}


def sealed(item_id: str, encrypted: str) -> str | None:
    """The signature of a reasoning item: its id and its encrypted content."""
    return f"{item_id}{ID_END}{encrypted}" if encrypted else None


def _refuse(info: ModelInfo, options: GenerationOptions) -> None:
    given = refused(options, Backend.OPENAI_RESPONSES)
    if not given:
        return
    remedy = "leave it unset"
    if not set(given) & set(refused(options, Backend.OPENAI_CHAT)):
        remedy += ', or set api to "chat" in the model\'s config'
    raise UnsupportedError(
        info.name,
        f"OpenAI's Responses API does not support {any_option(given)}; {remedy}",
    )


def _prompt(info: ModelInfo, request: GenerationRequest) -> dict[str, Any]:
    """What the model reads: everything that counts as prompt tokens."""
    options, messages = request.options, list(request.messages)
    instructions: list[str] = []
    while messages and messages[0].role == "system":
        instructions.append(messages.pop(0).text)
    body: dict[str, Any] = {
        "model": model_id(info),
        "input": [item for message in messages for item in _items(info, message)],
    }
    if instructions:
        body["instructions"] = "\n\n".join(instructions)
    if options.tools:
        body["tools"] = [_tool(tool) for tool in options.tools]
    if options.tool_choice in ("auto", "none", "required"):
        body["tool_choice"] = options.tool_choice
    elif options.tool_choice is not None:
        body["tool_choice"] = {"type": "function", "name": options.tool_choice}
    if options.response_schema is not None:
        schema, strict = openai_schema(options.response_schema)
        style = {"type": "json_schema", "name": "answer", "schema": schema, "strict": strict}
        body["text"] = {"format": style}
    if options.reasoning_effort is not None:
        # A summary of the reasoning is asked for with extra={"reasoning": {"summary": "auto"}}:
        # OpenAI gives it to verified organisations only, and refuses the request of others.
        body["reasoning"] = {"effort": options.reasoning_effort}
    return body


def _tool(tool: Tool) -> dict[str, Any]:
    # Unlike Chat Completions, this API is strict by default, and would change the schema.
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
        "strict": False,
    }


def _items(info: ModelInfo, message: Message) -> Iterator[dict[str, Any]]:
    """A message as items; parts that are items of their own keep their place among the others."""
    content: list[dict[str, Any]] = []
    for part in message.parts:
        item = _own_item(part, signer_of(info, BASE_URL))
        if item is None:
            content += _content(info, message, part)
            continue
        yield from _turn(message, content)
        content = []
        yield item
    yield from _turn(message, content)


def _turn(message: Message, content: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    if content and message.role == "assistant":
        yield {"role": "assistant", "content": "".join(piece["text"] for piece in content)}
    elif content:
        yield {"role": message.role, "content": content}


def _content(info: ModelInfo, message: Message, part: ContentPart) -> list[dict[str, Any]]:
    if isinstance(part, TextPart):
        return [{"type": "input_text", "text": part.text}]
    if isinstance(part, ImagePart) and message.role != "assistant":
        return [{"type": "input_image", "image_url": data_url(info.name, part), "detail": "auto"}]
    return []


def _own_item(part: ContentPart, signer: str) -> dict[str, Any] | None:
    if isinstance(part, ToolCall):
        arguments = part.arguments or "{}"
        return {
            "type": "function_call",
            "call_id": part.id,
            "name": part.name,
            "arguments": arguments,
        }
    if isinstance(part, ToolResult):
        return {"type": "function_call_output", "call_id": part.call_id, "output": part.content}
    if isinstance(part, ReasoningPart) and (signature := signature_for(part, signer)):
        return _reasoning_item(part, signature)
    return None


def _reasoning_item(part: ReasoningPart, signature: str) -> dict[str, Any] | None:
    """Reasoning as an item; a signature without an id is another vendor's, and is left out."""
    item_id, bar, encrypted = signature.partition(ID_END)
    if not bar:
        return None
    return {
        "type": "reasoning",
        "id": item_id,
        "summary": [{"type": "summary_text", "text": part.text}] if part.text else [],
        "encrypted_content": encrypted,
    }
