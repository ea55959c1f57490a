"""Conversations from JSON that may be anybody's: every field is checked before anything is built.

A table says what each object holds and how each value is read. What is not in the tables is
refused, so that everything that was read can be shown, sent, branched and saved again.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias, get_type_hints

from nbllm.core.config_json import kind_of
from nbllm.core.conversations.saved_conversation import (
    NAME_RULE,
    Conversation,
    Summary,
    Turn,
    is_name,
)
from nbllm.core.errors import ConversationError
from nbllm.core.json_checks import parse_json
from nbllm.core.naming.providers import vendor_model
from nbllm.core.texts import sentence
from nbllm.core.types import (
    ContentPart,
    FinishReason,
    ImagePart,
    Message,
    ReasoningPart,
    Role,
    TextPart,
    ToolCall,
    ToolResult,
    Usage,
    VendorPart,
)

__all__ = ["FORMAT", "PARTS", "VERSION", "from_json"]

FORMAT, VERSION = "nbllm-conversation", 1
PARTS: Mapping[str, type[ContentPart]] = {
    "text": TextPart,
    "image": ImagePart,
    "reasoning": ReasoningPart,
    "tool_call": ToolCall,
    "tool_result": ToolResult,
    "vendor": VendorPart,
}
"""What a part of a message is called in a file."""

_ASKED_WITH = ("text", "image", "tool_result")
_MOST_TOKENS, _MOST_USD = 10**12, 1e9
_LONGEST_PLACE = 10_000
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?\+00:00", re.ASCII)
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}", re.ASCII)
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")

Reader: TypeAlias = Callable[[Any, str], Any]
"""Makes a value of one from JSON; gets its place in the document too. Raises ``_WrongError``."""


def from_json(text: str, source: str) -> Conversation:
    """The conversation in ``text``, which is from ``source``.

    Raises ``ConversationError`` that names the place in the document, and that asks for a newer
    nbllm where a newer one wrote it.
    """
    try:
        return _conversation(parse_json(text))
    except _WrongError as error:
        problem = str(error)
    except ValueError as error:
        problem = f"cannot be parsed: {error}"
    raise ConversationError(source, problem)


class _WrongError(Exception):
    """What stands at ``place`` cannot be used."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(sentence(place, problem))


def _conversation(value: Any) -> Conversation:
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise _WrongError("", "this is valid JSON, but not a conversation exported by nbllm")
    version = value.get("version")
    if version != VERSION or isinstance(version, bool):
        told = json.dumps(version)[:40]
        raise _WrongError(
            "", f"format version {told} is not supported (expected {VERSION}); update nbllm"
        )
    rest = {key: each for key, each in value.items() if key not in ("format", "version")}
    chat = Conversation(**_record(rest, "", _CHAT))
    _check_places(chat)
    return chat


def _check_places(chat: Conversation) -> None:
    """A place stands for one turn, and a summary for turns that are there."""
    places = {turn.place for turn in chat.turns}
    if len(places) < len(chat.turns):
        raise _WrongError("turns", "two turns have the same place")
    if chat.summary is not None and not places.issuperset(chat.summary.places):
        raise _WrongError("summary.places", "one of these places belongs to no turn")


# ---------------------------------------------------------------- objects


def _record(
    value: Any, place: str, readers: Mapping[str, Reader], optional: Collection[str] = ()
) -> dict[str, Any]:
    """The values of an object, each by its reader; no other key may stand in it."""
    if not isinstance(value, dict):
        raise _WrongError(place, f"must be an object (got {kind_of(value)})")
    for key in value:
        if key not in readers:
            hint = "unknown key; the file may come from a newer nbllm"
            raise _WrongError(_within(place, key[:80]), hint)
    for key in readers:
        if key not in value and key not in optional:
            raise _WrongError(_within(place, key), "this key is required")
    return {key: readers[key](each, _within(place, key)) for key, each in value.items()}


def _within(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _list(value: Any, place: str, read: Reader) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _WrongError(place, f"must be a list (got {kind_of(value)})")
    return tuple(read(each, f"{place}[{number}]") for number, each in enumerate(value))


def _optional(read: Reader) -> Reader:
    return lambda value, place: None if value is None else read(value, place)


def _turn(value: Any, place: str) -> Turn:
    turn = Turn(**_record(value, place, _TURN, optional=("typed",)))
    if turn.answer is None or isinstance(turn.answer.content, str):
        return turn
    known = vendor_model(turn.model)
    signer = None if known is None else known.model_type
    parts = tuple(_signed(part, signer) for part in turn.answer.content)
    return replace(turn, answer=replace(turn.answer, content=parts))


def _signed(part: ContentPart, signer: str | None) -> ContentPart:
    """A signature with its vendor, which older files do not tell.

    One of nobody known is sent to nobody: every other vendor would refuse it.
    """
    if not isinstance(part, ReasoningPart | ToolCall) or not part.signature or part.vendor:
        return part
    return replace(part, vendor=signer, signature=part.signature if signer else None)


def _summary(value: Any, place: str) -> Summary:
    return Summary(**_record(value, place, {"text": _text, "places": partial(_list, read=_text)}))


def _usage(value: Any, place: str) -> Usage:
    return Usage(**_record(value, place, *_USAGE))


def _message(value: Any, place: str, role: Role, kinds: Collection[str]) -> Message:
    def the_role(value: Any, place: str) -> Role:
        if value != role:
            raise _WrongError(place, f"must be {role!r}")
        return role

    def content(value: Any, place: str) -> str | tuple[ContentPart, ...]:
        if isinstance(value, str):
            return _text(value, place)
        return _list(value, place, partial(_part, kinds=kinds))

    return Message(**_record(value, place, {"role": the_role, "content": content}))


def _part(value: Any, place: str, kinds: Collection[str]) -> ContentPart:
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise _WrongError(place, f"must be a part of type {' or '.join(kinds)}")
    readers, optional = _PART_FIELDS[kind]
    rest = {key: each for key, each in value.items() if key != "type"}
    values = _record(rest, place, readers, optional)
    if kind == "image" and values.get("data") is None and values.get("url") is None:
        raise _WrongError(place, "an image needs data or a url")
    return PARTS[kind](**values)


def _fields_of(
    kind: Any, special: Mapping[str, Reader]
) -> tuple[dict[str, Reader], frozenset[str]]:
    """How the fields of a dataclass are read, by their types, and those that may be absent."""
    hints = get_type_hints(kind)
    readers = {field.name: _READERS[hints[field.name]] for field in fields(kind)}
    return {**readers, **special}, frozenset(
        field.name for field in fields(kind) if field.default is not MISSING
    )


# ---------------------------------------------------------------- values


def _text(value: Any, place: str) -> str:
    """A text; halves of surrogate pairs, which can be neither shown nor sent, become U+FFFD."""
    if not isinstance(value, str):
        raise _WrongError(place, f"must be a string (got {kind_of(value)})")
    return _HALF_A_PAIR.sub("\N{REPLACEMENT CHARACTER}", value)


def _name(value: Any, place: str) -> str:
    text = _text(value, place)
    if not is_name(text):
        raise _WrongError(place, NAME_RULE)
    return text


def _place(value: Any, place: str) -> str:
    text = _text(value, place)
    if not 0 < len(text) <= _LONGEST_PLACE:
        raise _WrongError(place, f"must have 1 to {_LONGEST_PLACE:,} characters")
    return text


def _moment(value: Any, place: str) -> str:
    text = _text(value, place)
    try:
        datetime.fromisoformat(text if _MOMENT.fullmatch(text) else "")
    except ValueError:
        if text:
            problem = "must be a UTC time such as 2026-11-28T17:00:00+00:00"
            raise _WrongError(place, problem) from None
    return text


def _media_type(value: Any, place: str) -> str:
    text = _text(value, place)
    if not _MEDIA_TYPE.fullmatch(text):
        raise _WrongError(place, "must be a media type such as image/png")
    return text


def _json(value: Any, place: str) -> str:
    text = _text(value, place)
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        raise _WrongError(place, "must be valid JSON") from None
    return text


def _flag(value: Any, place: str) -> bool:
    if not isinstance(value, bool):
        raise _WrongError(place, f"must be true or false (got {kind_of(value)})")
    return value


def _count(value: Any, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _WrongError(place, f"must be an integer (got {kind_of(value)})")
    if not 0 <= value <= _MOST_TOKENS:
        raise _WrongError(place, f"must be between 0 and {_MOST_TOKENS:,}")
    return value


def _cost(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _WrongError(place, f"must be a number (got {kind_of(value)})")
    if not 0 <= value <= _MOST_USD:
        raise _WrongError(place, f"must be between 0 and {_MOST_USD:,.0f}")
    return float(value)


def _bytes(value: Any, place: str) -> bytes:
    try:
        return base64.b64decode(_text(value, place), validate=True)
    except (binascii.Error, ValueError):
        raise _WrongError(place, "must be valid base64") from None


def _finish_reason(value: Any, place: str) -> FinishReason:
    try:
        return FinishReason(_text(value, place))
    except ValueError:
        known = ", ".join(FinishReason)
        raise _WrongError(place, f"must be one of {known}") from None


# ---------------------------------------------------------------- the tables

_READERS: Mapping[object, Reader] = {
    str: _text,
    str | None: _optional(_text),
    bool: _flag,
    int: _count,
    int | None: _optional(_count),
    float | None: _optional(_cost),
    bytes | None: _optional(_bytes),
}
"""By the type of a dataclass's field."""

_SPECIAL: Mapping[str, Mapping[str, Reader]] = {
    "image": {"media_type": _media_type},
    "vendor": {"content": _json},
}
"""Fields of parts that may not be just any text."""

_PART_FIELDS = {kind: _fields_of(part, _SPECIAL.get(kind, {})) for kind, part in PARTS.items()}
_USAGE = _fields_of(Usage, {})

_TURN: Mapping[str, Reader] = {
    "place": _place,
    "asked_at": _moment,
    "question": partial(_message, role="user", kinds=_ASKED_WITH),
    "answer": _optional(partial(_message, role="assistant", kinds=tuple(PARTS))),
    "model": _text,
    "finish_reason": _optional(_finish_reason),
    "usage": _usage,
    "is_stale": _flag,
    "typed": _text,
}
_CHAT: Mapping[str, Reader] = {
    "name": _name,
    "system": _optional(_text),
    "summary": _optional(_summary),
    "turns": partial(_list, read=_turn),
}
