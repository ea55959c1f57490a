"""Turns, content and tools as OpenAI's JSON has them, and nearly everybody's: read and written.

Source: https://platform.openai.com/docs/api-reference/chat and, of templates,
https://huggingface.co/docs/transformers/chat_extras. What differs between those who read the form
is a ``TurnForm`` of theirs.

A turn is ``{"role": …, "content": …}``, with ``tool_calls``, ``tool_call_id`` and reasoning where
it has them; other keys, such as ``name`` and ``annotations``, are passed over: they say nothing to
a model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol, get_args

from nbllm.core.errors import InvalidOptionError
from nbllm.core.messages import (
    ContentPart,
    ImagePart,
    Message,
    ReasoningPart,
    Role,
    TextPart,
    ToolCall,
    ToolResult,
)
from nbllm.core.options import Tool
from nbllm.core.texts import shown

__all__ = [
    "TurnForm",
    "message_of",
    "openai_tools",
    "openai_turns",
    "part_of",
    "with_names",
]


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
    return {
        "tool_calls": [_written_call(call, form) for call in calls],
        **form.beside_calls(message),
    }


def _written_call(call: ToolCall, form: TurnForm) -> dict[str, Any]:
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


_ROLES: dict[str, Role] = {"developer": "system", "function": "tool"}
_TEXTS = ("text", "input_text", "output_text", "refusal")
_IMAGES = ("image_url", "input_image", "image")
_ADDRESSES = ("http://", "https://", "data:")
Part = Callable[[Any], ContentPart]


def message_of(turn: Mapping[str, Any], part: Part) -> Message:
    """The message that a mapping describes; ``part`` reads a piece of content.

    Raises ``InvalidOptionError`` that names what is wrong.
    """
    if "role" not in turn:
        raise InvalidOptionError("prompt", f"a message needs a role (its keys: {_keys(turn)})")
    role = _role(turn["role"])
    calls = [*_listed(turn.get("tool_calls"), "tool_calls"), *_function_call(turn)]
    content = turn.get("content")
    if role == "tool" and _call_id(turn):
        return Message("tool", (_result(turn, part),))
    if content is None and not calls and "content" not in turn:
        raise InvalidOptionError("prompt", f"a message needs content (its keys: {_keys(turn)})")
    parts = [*_reasoning(turn), *_parts(content, part), *map(_call, calls)]
    if isinstance(content, str) and len(parts) == 1:
        return Message(role, content)
    return Message(role, tuple(parts))


def with_names(turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns, with the results of tools named after their calls, which alone have the name."""
    names: dict[str, str] = {}
    named: list[Message] = []
    for turn in turns:
        names |= {part.id: part.name for part in turn.parts if isinstance(part, ToolCall)}
        parts = tuple(_named(part, names) for part in turn.parts)
        named.append(turn if parts == turn.parts else replace(turn, content=parts))
    return tuple(named)


def _named(part: ContentPart, names: Mapping[str, str]) -> ContentPart:
    if isinstance(part, ToolResult) and not part.name:
        return replace(part, name=names.get(part.call_id, ""))
    return part


def _role(value: Any) -> Role:
    known: dict[str, Role] = {role: role for role in get_args(Role)} | _ROLES
    if isinstance(value, str) and value in known:
        return known[value]
    raise InvalidOptionError(
        "role", f"must be one of {', '.join(get_args(Role))} (got {shown(value)})"
    )


def part_of(piece: Mapping[str, Any]) -> ContentPart:
    """The part that a piece of content describes. Raises ``InvalidOptionError``."""
    kind = piece.get("type")
    if kind in _TEXTS or (kind is None and "text" in piece):
        text = piece.get("refusal" if kind == "refusal" else "text")
        if isinstance(text, str):
            return TextPart(text)
        raise InvalidOptionError("content", f"a part of type {shown(kind)} needs text")
    if kind in _IMAGES:
        return _image(piece)
    known = ", ".join(map(repr, (*_TEXTS, *_IMAGES)))
    raise InvalidOptionError(
        "content", f"the type of a part must be one of {known} (got {shown(kind)})"
    )


def _image(piece: Mapping[str, Any]) -> ImagePart:
    """An image by its address or its bytes; what names a file is refused, as it may be foreign."""
    found = piece.get("image_url", piece.get("url", piece.get("source")))
    if isinstance(found, Mapping) and isinstance(found.get("data"), str):  # Anthropic's form
        media_type = str(found.get("media_type") or "image/png")
        return ImagePart(media_type, url=f"data:{media_type};base64,{found['data']}")
    address = found.get("url") if isinstance(found, Mapping) else found
    if not isinstance(address, str) or not address.startswith(_ADDRESSES):
        raise InvalidOptionError(
            "content",
            f"an image needs an address that begins with {', '.join(_ADDRESSES)}; for a file, give "
            "nbllm.image(path) instead",
        )
    return ImagePart(url=address)


def _parts(content: Any, part: Part) -> Sequence[ContentPart]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (TextPart(content),)
    if isinstance(content, Mapping):
        return (part(content),)
    if isinstance(content, list | tuple):
        return tuple(map(part, content))
    raise InvalidOptionError(
        "content", f"must be a string or a list of parts (got {shown(content)})"
    )


def _reasoning(turn: Mapping[str, Any]) -> Iterator[ReasoningPart]:
    told = turn.get("reasoning_content") or turn.get("reasoning")
    if isinstance(told, str):
        yield ReasoningPart(told)


def _result(turn: Mapping[str, Any], part: Part) -> ToolResult:
    content = _parts(turn.get("content"), part)
    text = "".join(each.text for each in content if isinstance(each, TextPart))
    name = turn.get("name")
    return ToolResult(_call_id(turn), name if isinstance(name, str) else "", text)


def _call_id(turn: Mapping[str, Any]) -> str:
    told = turn.get("tool_call_id") or (turn.get("name") if turn["role"] == "function" else None)
    return told if isinstance(told, str) else ""


def _function_call(turn: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What ``tool_calls`` replaced: one call, known by the function's name."""
    call = turn.get("function_call")
    if not isinstance(call, Mapping):
        return []
    return [{"id": call.get("name", ""), "function": call}]


def _call(call: Any) -> ToolCall:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InvalidOptionError(
            "tool_calls", f"a call needs a function with a name (got {shown(call)})"
        )
    arguments = function.get("arguments")
    if not isinstance(arguments, str):  # some have the object itself
        arguments = json.dumps(arguments or {}, ensure_ascii=False)
    return ToolCall(str(call.get("id") or ""), function["name"], arguments)


def _listed(value: Any, name: str) -> Sequence[Any]:
    if value is None:
        return ()
    if isinstance(value, list | tuple):
        return value
    raise InvalidOptionError(name, f"must be a list (got {shown(value)})")


def _keys(turn: Mapping[str, Any]) -> str:
    return ", ".join(map(shown, islice(turn, 20))) or "none"
