"""Calls that are JSON objects, in the many ways in which families of models name their keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from nbllm.local.formats.base import Call, NoCallError, Tools, checked_name

__all__ = ["call_of", "compact", "decoded", "read_json_calls", "read_keyed_calls"]

_NAMES = ("name", "tool_name", "function_name")
_ARGUMENTS = ("arguments", "parameters", "args", "input")
_BETWEEN = re.compile(r"[\s;,]*")
_FENCE = re.compile(r"\s*```(?:json|tool_code|python)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


def read_json_calls(body: str, tools: Tools) -> list[Call]:
    """One object, a list of them, or several behind one another, perhaps in a fenced block."""
    fenced = _FENCE.fullmatch(body)
    return [call_of(value) for value in _values(fenced[1] if fenced else body)]


def read_keyed_calls(body: str, tools: Tools) -> list[Call]:
    """Objects with one key, the tool's name, whose value are the arguments."""
    calls = []
    for value in _values(body):
        if not isinstance(value, Mapping) or len(value) != 1:
            return read_json_calls(body, tools)
        ((name, arguments),) = value.items()
        calls.append(Call(checked_name(name), _arguments(arguments)))
    return calls


def call_of(value: object) -> Call:
    """The call that a JSON value is. Raises ``NoCallError``."""
    if not isinstance(value, Mapping):
        raise NoCallError("a call is an object")
    for wrapper in ("tool_call", "function_call", "function"):
        if isinstance(value.get(wrapper), Mapping):
            return call_of(value[wrapper])
    name = next((value[key] for key in _NAMES if key in value), value.get("function"))
    arguments = next((value[key] for key in _ARGUMENTS if key in value), None)
    return Call(checked_name(name), _arguments(arguments))


def _arguments(value: object) -> str:
    """Arguments as the text of a JSON object; some models write them as such a text already."""
    if value is None:
        return "{}"
    if isinstance(value, str):
        value = decoded(value) if value.strip() else {}
    if not isinstance(value, Mapping):
        raise NoCallError("arguments are an object")
    return compact(value)


def _values(text: str) -> Iterator[Any]:
    """The objects in ``text``, those of lists too, with nothing else between them."""
    decoder, position = json.JSONDecoder(), 0
    text = text.strip()
    if not text:
        raise NoCallError("nothing stands there")
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise NoCallError(f"this is not JSON: {error}") from None
        yield from value if isinstance(value, list) else [value]
        between = _BETWEEN.match(text, position)
        position = between.end() if between else position


def decoded(text: str) -> Any:
    """The value of a JSON text. Raises ``NoCallError``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NoCallError(f"this is not JSON: {error}") from None


def compact(value: object) -> str:
    """A value as JSON. Raises ``NoCallError`` for what is nested too deeply."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        raise NoCallError(f"this cannot be written as JSON: {error}") from None
