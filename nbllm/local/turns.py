"""Conversations in the form that chat templates read: that of OpenAI's messages.

Source: https://huggingface.co/docs/transformers/chat_extras. Arguments of calls are objects, as
nearly all templates want them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nbllm.core.errors import UnsupportedError
from nbllm.core.json_values import json_problem
from nbllm.core.types import ImagePart, Message, ReasoningPart, Tool, ToolCall, ToolResult

__all__ = ["tools_of", "turns_of"]


def turns_of(model: str, messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The turns of a conversation. Raises ``UnsupportedError`` where there is more than text."""
    return [turn for message in messages for turn in _turns(model, message)]


def tools_of(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The tools as a template shows them."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": dict(tool.parameters),
            },
        }
        for tool in tools
    ]


def _turns(model: str, message: Message) -> Iterator[dict[str, Any]]:
    """A message as one or more turns: every tool result is one of its own."""
    if any(isinstance(part, ImagePart) for part in message.parts):
        raise UnsupportedError(
            model, "local models support text only; use a cloud model for anything else"
        )
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    for part in results:
        named = {"tool_call_id": part.call_id, "name": part.name}
        yield {"role": "tool", "content": part.content, **named}
    if message.role != "tool" and (message.text or not results):
        yield {"role": message.role, "content": message.text, **_calls(message)}


def _calls(message: Message) -> dict[str, Any]:
    """Calls with the reasoning behind them, which some templates show to the model again."""
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    if not calls:
        return {}
    thought = "".join(part.text for part in message.parts if isinstance(part, ReasoningPart))
    reasoning = {"reasoning_content": thought, "thinking": thought} if thought else {}
    return {"tool_calls": [_call(call) for call in calls], **reasoning}


def _call(call: ToolCall) -> dict[str, Any]:
    try:
        arguments = call.parsed_arguments()
    except (ValueError, RecursionError):  # no JSON, or more digits or levels than Python reads
        arguments = call.arguments
    if json_problem(arguments) is not None:
        arguments = call.arguments
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}
