"""Conversations as JSON, in and out, and as Markdown for reading.

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
from nbllm.core.vendors import vendor_model

__all__ = ["from_json", "to_json", "to_markdown"]

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
        answer=value["answer"] and _message_from_json(value["answer"], _signer(value["model"])),
        model=_text(value["model"]),
        finish_reason=value["finish_reason"] and FinishReason(value["finish_reason"]),
        usage=Usage(**value["usage"]),
        is_stale=bool(value["is_stale"]),
    )


def _message_to_json(message: Message) -> dict[str, Any]:
    content = message.content
    parts = content if isinstance(content, str) else list(map(_part_to_json, content))
    return {"role": message.role, "content": parts}


def _signer(model: object) -> str | None:
    """The vendor of a turn's signatures in a file that was written before parts told it."""
    known = vendor_model(model) if isinstance(model, str) else None
    return None if known is None else known.model_type


def _message_from_json(value: Mapping[str, Any], signer: str | None = None) -> Message:
    content = value["content"]
    if isinstance(content, str):
        return Message(value["role"], content)
    return Message(value["role"], tuple(_part_from_json(part, signer) for part in content))


def _part_to_json(part: ContentPart) -> dict[str, Any]:
    value = asdict(part)
    if isinstance(part, ImagePart) and part.data is not None:
        value["data"] = base64.b64encode(part.data).decode()
    return {"type": _KIND_OF[type(part)], **value}


def _part_from_json(value: Mapping[str, Any], signer: str | None) -> ContentPart:
    values = {name: each for name, each in value.items() if name != "type"}
    if values.get("signature") and "vendor" not in values:
        # A signature of nobody known is sent to nobody: every other vendor would refuse it.
        values |= {"vendor": signer, "signature": values["signature"] if signer else None}
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
