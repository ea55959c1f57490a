"""Conversations as JSON, in and out.

The JSON holds all there is: images, reasoning and tool parts too. It names its format and
version; what a newer version wrote is refused rather than half understood.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nbllm.core.conversations.conversation import Conversation, Summary, Turn
from nbllm.core.errors import ConversationError
from nbllm.core.types import (
    ContentPart,
    FinishReason,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
    Usage,
    VendorPart,
)

__all__ = ["from_json", "to_json"]

FORMAT, VERSION = "nbllm-conversation", 1
_PARTS: dict[str, type[ContentPart]] = {
    "text": TextPart,
    "image": ImagePart,
    "reasoning": ReasoningPart,
    "tool_call": ToolCall,
    "tool_result": ToolResult,
    "vendor": VendorPart,
}
_KIND_OF = {part: kind for kind, part in _PARTS.items()}


# ---------------------------------------------------------------- JSON


def to_json(conversation: Conversation) -> str:
    """The whole conversation as readable JSON."""
    summary = conversation.summary
    value = {
        "format": FORMAT,
        "version": VERSION,
        "name": conversation.name,
        "system": conversation.system,
        "summary": summary and {"text": summary.text, "places": list(summary.places)},
        "turns": list(map(_turn_to_json, conversation.turns)),
    }
    return json.dumps(value, indent=1, ensure_ascii=False).encode(errors="replace").decode() + "\n"


def from_json(text: str, source: str) -> Conversation:
    """The conversation in ``text``, which is from ``source``. Raises ``ConversationError``."""
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ConversationError(source, f"this is not JSON: {error}") from None
    if not isinstance(value, Mapping) or value.get("format") != FORMAT:
        raise ConversationError(source, "this is JSON, and no conversation that nbllm exported")
    version = value.get("version")
    if version != VERSION:
        raise ConversationError(
            source, f"this is of version {version!r}, and this nbllm reads {VERSION}; update nbllm"
        )
    try:
        return _conversation(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConversationError(
            source, f"this is damaged: {type(error).__name__}: {error}"
        ) from error


def _conversation(value: Mapping[str, Any]) -> Conversation:
    summary = value["summary"]
    return Conversation(
        name=_text(value["name"]),
        system=None if value["system"] is None else _text(value["system"]),
        turns=tuple(map(_turn_from_json, value["turns"])),
        summary=summary and Summary(_text(summary["text"]), tuple(map(_text, summary["places"]))),
    )


def _turn_to_json(turn: Turn) -> dict[str, Any]:
    return {
        "place": turn.place,
        "asked_at": turn.asked_at,
        "question": _message_to_json(turn.question),
        "answer": turn.answer and _message_to_json(turn.answer),
        "model": turn.model,
        "finish_reason": turn.finish_reason and turn.finish_reason.value,
        "usage": asdict(turn.usage),
        "is_stale": turn.is_stale,
    }


def _turn_from_json(value: Mapping[str, Any]) -> Turn:
    return Turn(
        place=_text(value["place"]),
        asked_at=_text(value["asked_at"]),
        question=_message_from_json(value["question"]),
        answer=value["answer"] and _message_from_json(value["answer"]),
        model=_text(value["model"]),
        finish_reason=value["finish_reason"] and FinishReason(value["finish_reason"]),
        usage=Usage(**value["usage"]),
        is_stale=bool(value["is_stale"]),
    )


def _message_to_json(message: Message) -> dict[str, Any]:
    content = message.content
    parts = content if isinstance(content, str) else list(map(_part_to_json, content))
    return {"role": message.role, "content": parts}


def _message_from_json(value: Mapping[str, Any]) -> Message:
    content = value["content"]
    parts = content if isinstance(content, str) else tuple(map(_part_from_json, content))
    return Message(value["role"], parts)


def _part_to_json(part: ContentPart) -> dict[str, Any]:
    value = asdict(part)
    if isinstance(part, ImagePart) and part.data is not None:
        value["data"] = base64.b64encode(part.data).decode()
    return {"type": _KIND_OF[type(part)], **value}


def _part_from_json(value: Mapping[str, Any]) -> ContentPart:
    values = {name: each for name, each in value.items() if name != "type"}
    if value["type"] == "image" and values["data"] is not None:
        values["data"] = _bytes(values["data"])
    return _PARTS[value["type"]](**values)


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"an image's data is no base64: {error}") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
