"""Calls that are JSON objects, in the many ways in which families of models name their keys.

Behind a family's own marks: Hermes, Phi, Granite, Command, Apertus, Nemotron and others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from nbllm.local.formats.base import Call, CallFormat, Json, NoCallError, Part, Tools, checked_name

__all__ = [
    "HERMES",
    "LISTED",
    "call_of",
    "compact",
    "decoded",
    "decoded_at",
    "read_json_calls",
    "read_keyed_calls",
]

_NAMES = ("name", "tool_name", "function_name")
_ARGUMENTS = ("arguments", "parameters", "args", "input")
_SCRAPS = " \n\t]})`"  # of brackets that close nothing
_BETWEEN = re.compile(r"[\s;,]*")
_FENCE = re.compile(r"\s*```(?:json|tool_code|python)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


def read_json_calls(body: str, tools: Tools) -> list[Part]:
    """One object, a list of them, or several behind one another, perhaps in a fenced block."""
    return _calls(body, call_of)


def read_keyed_calls(body: str, tools: Tools) -> list[Part]:
    """Objects with one key, the tool's name, whose value are the arguments."""
    return _calls(body, _keyed_call)


def _keyed_call(value: object) -> Call:
    if not isinstance(value, Mapping) or len(value) != 1:
        return call_of(value)
    ((name, arguments),) = value.items()
    return Call(checked_name(name), _arguments(arguments))


def _calls(body: str, read: Callable[[object], Call]) -> list[Part]:
    """The calls at the beginning of a text; what stands behind them is text."""
    fenced = _FENCE.fullmatch(body)
    text = (fenced[1] if fenced else body).strip()
    parts: list[Part] = []
    position = 0
    while position < len(text):
        try:
            value, end = decoded_at(text, position)
            parts += [read(each) for each in (value if isinstance(value, list) else [value])]
        except NoCallError:
            if not parts:
                raise
            break
        between = _BETWEEN.match(text, end)
        position = between.end() if between else end
    if not parts:
        raise NoCallError("nothing stands there")
    rest = text[position:]
    return [*parts, rest] if rest.strip(_SCRAPS) else parts


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


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def decoded(text: str) -> Any:
    """The value of a JSON text. Raises ``NoCallError``."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise NoCallError(f"this is not JSON: {error}") from None


def decoded_at(text: str, position: int) -> tuple[Any, int]:
    """The JSON value that begins there, and where it ends. Raises ``NoCallError``."""
    try:
        return _DECODER.raw_decode(text, position)
    except (ValueError, RecursionError) as error:
        raise NoCallError(f"this is not JSON: {error}") from None


def compact(value: object) -> str:
    """A value as JSON. Raises ``NoCallError`` for what is nested too deeply, or no number there."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise NoCallError(f"this cannot be written as JSON: {error}") from None


HERMES = CallFormat(
    name="hermes",
    blocks=(("<tool_call>", "</tool_call>"),),
    read=read_json_calls,
    hints=("<tool_call>",),
    forced=('<tool_call>\n{"name": "{name}", "arguments": ', Json(), "}\n</tool_call>"),
)


def _listed(
    name: str, begin: str, end: str, *hints: str, keys: tuple[str, str] = ("name", "arguments")
) -> CallFormat:
    called, arguments = keys
    return CallFormat(
        name=name,
        blocks=((begin, end),),
        read=read_json_calls,
        hints=hints or (begin,),
        forced=(f'{begin}[{{"{called}": "{{name}}", "{arguments}": ', Json(), "}]" + end),
    )


LISTED = (
    _listed("phi", "<|tool_call|>", "<|/tool_call|>", "<|/tool_call|>"),
    _listed("granite", "<|tool_call|>", ""),
    _listed("functools", "functools", "", "functools["),
    _listed("command", "<|START_ACTION|>", "<|END_ACTION|>", keys=("tool_name", "parameters")),
    CallFormat(
        name="command-r",
        blocks=tuple((f"Action:{gap}```json", "```") for gap in ("\n", " ", "")),
        read=read_json_calls,
        hints=("Action:", "```json", '"tool_name"', "<|CHATBOT_TOKEN|>"),
        forced=(
            'Action:\n```json\n[\n    {\n        "tool_name": "{name}",\n        "parameters": ',
            Json(),
            "\n    }\n]```",
        ),
    ),
    CallFormat(
        name="apertus",
        blocks=(("<|tools_prefix|>", "<|tools_suffix|>"),),
        read=read_keyed_calls,
        hints=("<|tools_prefix|>",),
        forced=('<|tools_prefix|>[{"{name}": ', Json(), "}]<|tools_suffix|>"),
    ),
    _listed("nemotron", "<TOOLCALL>", "</TOOLCALL>"),
    _listed("tool-calls", "<tool_calls>", "</tool_calls>"),
    CallFormat(
        name="internlm",
        blocks=(("<|action_start|><|plugin|>", "<|action_end|>"),),
        read=read_json_calls,
        hints=("<|action_start|>", "<|plugin|>"),
        forced=(
            '<|action_start|><|plugin|>\n{"name": "{name}", "parameters": ',
            Json(),
            "}<|action_end|>",
        ),
        marks=("<|action_start|>", "<|plugin|>"),
    ),
    CallFormat(
        name="gigachat",
        blocks=(("function call<|role_sep|>", ""), ("<|function_call|>", "")),
        read=read_json_calls,
        hints=("function call", "<|role_sep|>"),
        forced=('function call<|role_sep|>\n{"name": "{name}", "arguments": ', Json(), "}"),
        marks=("<|role_sep|>",),
    ),
    CallFormat(
        name="granite-3.0",
        blocks=(("<function_call>", ""),),
        read=read_json_calls,
        hints=("<function_call>",),
        forced=('<function_call>{"name": "{name}", "arguments": ', Json(), "}"),
    ),
)
