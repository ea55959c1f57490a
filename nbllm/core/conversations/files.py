"""Conversations as JSON, which ``reading`` reads again, and as Markdown for reading.

The JSON holds all there is: images, reasoning and tool parts too. It names its format and version.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import asdict
from typing import Any

from nbllm.core.conversations.conversation import Conversation, Turn
from nbllm.core.conversations.reading import FORMAT, PARTS, VERSION
from nbllm.core.markdown import safe_markdown
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

__all__ = ["to_json", "to_markdown"]

_KIND_OF = {part: kind for kind, part in PARTS.items()}


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


def _turn_to_json(turn: Turn) -> dict[str, Any]:
    return {
        "place": turn.place,
        "asked_at": turn.asked_at,
        "question": _message_to_json(turn.question),
        "answer": turn.answer and _message_to_json(turn.answer),
        "model": turn.model,
        "finish_reason": turn.finish_reason and turn.finish_reason.value,
        "usage": _usage_to_json(turn.usage),
        "is_stale": turn.is_stale,
    }


def _usage_to_json(usage: Usage) -> dict[str, Any]:
    """Counts that a vendor told wrongly are no reason for a file that cannot be read again."""
    cost = usage.cost_usd
    counts = {name: count and max(count, 0) for name, count in asdict(usage).items()}
    return {**counts, "cost_usd": cost if cost is not None and 0 <= cost < math.inf else None}


def _message_to_json(message: Message) -> dict[str, Any]:
    content = message.content
    parts = content if isinstance(content, str) else list(map(_part_to_json, content))
    return {"role": message.role, "content": parts}


def _part_to_json(part: ContentPart) -> dict[str, Any]:
    value = asdict(part)
    if isinstance(part, ImagePart) and part.data is not None:
        value["data"] = base64.b64encode(part.data).decode()
    return {"type": _KIND_OF[type(part)], **value}


# ---------------------------------------------------------------- Markdown

_ENDS = {
    None: "not answered",
    FinishReason.CANCELLED: "stopped",
    FinishReason.FAILED: "failed",
    FinishReason.LENGTH: "cut off at the token limit",
}


def to_markdown(conversation: Conversation, *, level: int = 1) -> str:
    """The conversation for reading; a model's HTML is shown as text, images as their size.

    ``level`` is that of its heading.
    """
    head = [f"{'#' * level} {conversation.name}"]
    if conversation.system:
        head += ["**System**", safe_markdown(conversation.system)]
    if conversation.summary:
        head += ["**Summary of the oldest turns**", safe_markdown(conversation.summary.text)]
    marks = "#" * (level + 1)
    turns = (
        f"{marks} {number}. You\n\n{_turn_to_markdown(turn)}"
        for number, turn in enumerate(conversation.turns, 1)
    )
    return "\n\n".join([*head, *turns]) + "\n"


def _turn_to_markdown(turn: Turn) -> str:
    notes = [turn.model, _ENDS.get(turn.finish_reason, "")]
    if turn.is_stale:
        notes.append("answered before an earlier turn was changed")
    told = ", ".join(filter(None, notes))
    answer = [_message_to_markdown(turn.answer)] if turn.answer else []
    return "\n\n".join(
        [
            _message_to_markdown(turn.question),
            f"**Answer**{f' ({told})' if told else ''}",
            *answer,
        ]
    )


def _message_to_markdown(message: Message) -> str:
    return safe_markdown("\n\n".join(filter(None, map(_part_to_markdown, message.parts))).strip())


def _part_to_markdown(part: ContentPart) -> str:
    match part:
        case TextPart(text):
            return text
        case ImagePart(media_type, data, url):
            size = f"{media_type}, {len(data or b''):,} bytes"
            return f"*[image: {url or size}]*"
        case ReasoningPart():
            return ""
        case ToolCall(name=name, arguments=arguments):
            return f"*[calls {name}({arguments})]*"
        case ToolResult(name=name, content=content):
            return f"*[{name} answered: {content}]*"
        case VendorPart(vendor=vendor):
            return f"*[a part that only {vendor} reads]*"
