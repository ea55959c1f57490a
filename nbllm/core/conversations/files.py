"""Conversations as JSON, which ``reading`` reads again.

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
from nbllm.core.types import (
    ContentPart,
    ImagePart,
    Message,
    Usage,
)

__all__ = ["to_json"]

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
        **({"typed": turn.typed} if turn.typed else {}),  # older versions read no other keys
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
