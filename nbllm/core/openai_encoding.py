"""Messages and tools in the form of OpenAI's, which chat templates and other servers read too.

Source: https://platform.openai.com/docs/api-reference/chat and, of templates,
https://huggingface.co/docs/transformers/chat_extras. What differs between those who read the form
is a ``TurnForm`` of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from nbllm.core.errors import InvalidOptionError
from nbllm.core.types import ContentPart, Message, Tool, ToolCall, ToolResult

__all__ = ["TurnForm", "openai_tools", "openai_turns"]


class TurnForm(Protocol):
    """How one reader of the form wants what others want otherwise."""

    def content(self, role: str, parts: Sequence[ContentPart]) -> Any:
        """The content of a message without its tools' results."""
        ...

    def arguments(self, call: ToolCall) -> Any:
        """The arguments of a call."""
        ...

    def beside_call(self, call: ToolCall) -> dict[str, Any]:
        """Further fields of a call."""
        ...

    def beside_calls(self, message: Message) -> dict[str, Any]:
        """Further fields of a message that holds calls, which may replace its content."""
        ...

    def beside_result(self, result: ToolResult) -> dict[str, Any]:
        """Further fields of a tool's result."""
        ...


def openai_turns(message: Message, form: TurnForm) -> Iterator[dict[str, Any]]:
    """A message as one or more turns: every tool result is one of its own.

    Raises ``InvalidOptionError`` for a message of the role tool that holds anything else, and what
    ``form`` raises.
    """
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    rest = [part for part in message.parts if not isinstance(part, ToolResult)]
    for part in results:
        named = {"tool_call_id": part.call_id, **form.beside_result(part)}
        yield {"role": "tool", "content": part.content, **named}
    if message.role == "tool":
        if rest:
            raise InvalidOptionError(
                "messages", "a message of role tool must hold ToolResult parts only"
            )
    elif rest or not results:
        yield {
            "role": message.role,
            "content": form.content(message.role, rest),
            **_calls(message, form),
        }


def _calls(message: Message, form: TurnForm) -> dict[str, Any]:
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    if not calls:
        return {}
    return {"tool_calls": [_call(call, form) for call in calls], **form.beside_calls(message)}


def _call(call: ToolCall, form: TurnForm) -> dict[str, Any]:
    function = {"name": call.name, "arguments": form.arguments(call)}
    return {"id": call.id, "type": "function", "function": function, **form.beside_call(call)}


def openai_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The tools that a model may call."""
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
