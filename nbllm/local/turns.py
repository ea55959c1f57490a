"""Conversations in the form that chat templates read: that of OpenAI's messages.

Arguments of calls are objects, as nearly all templates want them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbllm.core.errors import UnsupportedError
from nbllm.core.json_checks import json_problem
from nbllm.core.openai_messages import openai_turns
from nbllm.core.types import (
    ContentPart,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)

__all__ = ["turns_of"]


def turns_of(model: str, messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The turns of a conversation. Raises ``UnsupportedError`` where there is more than text."""
    form = _TemplateForm(model)
    return [turn for message in messages for turn in openai_turns(message, form)]


class _TemplateForm:
    """See ``nbllm.core.openai_messages.TurnForm``."""

    def __init__(self, model: str) -> None:
        self._model = model

    def content(self, role: str, parts: Sequence[ContentPart]) -> str:
        if any(isinstance(part, ImagePart) for part in parts):
            raise UnsupportedError(
                self._model, "local models support text only; use a cloud model for anything else"
            )
        return "".join(part.text for part in parts if isinstance(part, TextPart))

    def arguments(self, call: ToolCall) -> Any:
        try:
            arguments = call.parsed_arguments()
        except (ValueError, RecursionError):  # no JSON, or more digits or levels than Python reads
            return call.arguments
        return call.arguments if json_problem(arguments) is not None else arguments

    def beside_call(self, call: ToolCall) -> dict[str, Any]:
        return {}

    def beside_calls(self, message: Message) -> dict[str, Any]:
        """The reasoning behind the calls, which some templates show to the model again."""
        thought = "".join(part.text for part in message.parts if isinstance(part, ReasoningPart))
        return {"reasoning_content": thought, "thinking": thought} if thought else {}

    def beside_result(self, result: ToolResult) -> dict[str, Any]:
        return {"name": result.name}
