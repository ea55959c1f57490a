"""MiniMax M3: every value is an element, also those in lists and objects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nbllm.local.formats.argument_values import allowed_types, typed
from nbllm.local.formats.base import (
    Call,
    CallFormat,
    Elements,
    NoCallError,
    Part,
    Schema,
    Tools,
    checked_name,
    items_of,
    property_of,
)
from nbllm.local.formats.json_calls import compact

__all__ = ["MINIMAX_M3"]

_MARK = "]<]minimax[>["
_TAG = re.compile(
    re.escape(_MARK) + r'(?:<invoke name=["\']?(?P<name>[^"\'>\n]{1,200})["\']?>'
    r"|<(?P<close>/)?(?P<key>[^>\n]{1,200})>)"
)
_DEEPEST = 32


@dataclass(slots=True)
class _Element:
    """What stands between two tags: elements, or else a text."""

    text: str = ""
    children: list[tuple[str, _Element]] = field(default_factory=list)


def _read(body: str, tools: Tools) -> list[Part]:
    tags = list(_TAG.finditer(body))
    begins = [place for place, tag in enumerate(tags) if tag["name"] is not None]
    parts: list[Part] = []
    for begin, behind in zip(begins, [*begins, len(tags)][1:], strict=True):
        end = tags[behind].start() if behind < len(tags) else len(body)
        name = tags[begin]["name"]
        schema = tools.get(name, {})
        try:
            whole, _ = _element(body, tags, begin + 1, behind, "invoke", 0)
            parts.append(Call(checked_name(name), _object(whole, schema, schema)))
        except NoCallError:
            parts.append(body[tags[begin].start() : end])
    if not any(isinstance(part, Call) for part in parts):
        raise NoCallError("no call stands here")
    return parts


def _element(
    body: str, tags: Sequence[re.Match[str]], place: int, last: int, key: str, depth: int
) -> tuple[_Element, int]:
    """The element whose opening tag stands before ``place``, and the place behind it.

    No tag from ``last`` on belongs to it.
    """
    if depth > _DEEPEST:
        raise NoCallError("this is nested too deeply")
    made, start = _Element(), tags[place - 1].end()
    while place < last:
        tag = tags[place]
        place += 1
        if tag["close"]:
            if tag["key"] != key:
                raise NoCallError(f"{key} is not closed")
            made.text = body[start : tag.start()]
            return made, place
        child, place = _element(body, tags, place, last, tag["key"], depth + 1)
        made.children.append((tag["key"], child))
    raise NoCallError(f"{key} is not closed")


def _object(element: _Element, schema: Schema, root: Schema) -> str:
    pairs = {
        key: f"{compact(key)}: {_value(child, property_of(schema, key, root), root)}"
        for key, child in element.children
    }
    return "{" + ", ".join(pairs.values()) + "}"


def _value(element: _Element, wanted: object, root: Schema) -> str:
    """An element as JSON, of a type that its schema allows."""
    types = allowed_types(wanted, root)
    is_list = bool(element.children) and all(key == "item" for key, _ in element.children)
    is_empty = not element.children and not element.text.strip()
    if "array" in types and (is_list or (is_empty and "string" not in types)):
        items = items_of(wanted, root)
        return "[" + ", ".join(_value(child, items, root) for _, child in element.children) + "]"
    if element.children or (is_empty and "object" in types and "string" not in types):
        return _object(element, wanted if isinstance(wanted, Mapping) else {}, root)
    return typed(element.text, wanted, root)


MINIMAX_M3 = CallFormat(
    name="minimax-m3",
    blocks=((f"{_MARK}<tool_call>", f"{_MARK}</tool_call>"),),
    read=_read,
    hints=(_MARK,),
    forced=(
        f'{_MARK}<tool_call>\n{_MARK}<invoke name="{{name}}">',
        Elements(_MARK),
        f"{_MARK}</invoke>\n{_MARK}</tool_call>",
    ),
    marks=(_MARK,),
    strings=re.compile(r"(?!)"),
)
