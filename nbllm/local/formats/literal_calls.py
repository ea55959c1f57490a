"""Calls whose arguments are literals: Python's, and Google's ``call:NAME{key:value}``.

Python's stand in a list or a line each: LFM2, Llama 4, OLMo 3, MiniCPM 3. Google's: Gemma 4 and
FunctionGemma.
"""

from __future__ import annotations

import re

from nbllm.local.formats.argument_values import Literals
from nbllm.local.formats.base import (
    PYTHON_STRING,
    Braced,
    Call,
    CallFormat,
    Keywords,
    NoCallError,
    Part,
    Tools,
    checked_name,
)
from nbllm.local.formats.json_calls import compact, read_json_calls

__all__ = ["FUNCTION_GEMMA", "GEMMA", "LFM2", "LLAMA4", "MINICPM", "OLMO", "read_python_calls"]

_FENCE = re.compile(r"\s*```(?:python|json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


def read_python_calls(body: str, tools: Tools) -> list[Part]:
    """``[f(a=1), g(b="x")]``, or the same without brackets. Raises ``NoCallError``."""
    fenced = _FENCE.fullmatch(body)
    text = (fenced[1] if fenced else body).strip()
    if text.startswith(("{", "[{")):
        return read_json_calls(text, tools)
    literals = Literals(text)
    in_list = literals.take("[")
    calls: list[Part] = [_call(literals, tools)]
    while not literals.at_end and not (in_list and literals.peek("]")):
        if not literals.take(",") and not literals.take(";") and in_list:
            raise NoCallError("a comma is missing")
        if literals.at_end or literals.peek("]"):
            break
        calls.append(_call(literals, tools))
    if in_list:
        literals.expect("]")
    if not literals.at_end:
        raise NoCallError("text stands behind the calls")
    return calls


def _call(literals: Literals, tools: Tools) -> Call:
    name = checked_name(literals.word())
    literals.expect("(")
    names = list(tools.get(name, {}).get("properties", ()))
    members: list[str] = []
    while not literals.take(")"):
        members.append(_argument(literals, names, len(members)))
        if not literals.take(","):
            literals.expect(")")
            break
    return Call(name, "{" + ", ".join(members) + "}")


def _argument(literals: Literals, names: list[str], place: int) -> str:
    """``key=value``, or a value that stands in its place among the tool's parameters."""
    key = next((name for name in names if literals.take(f"{name}=")), None)
    if key is None:
        start = literals.position
        try:
            key = literals.word()
            literals.expect("=")
        except NoCallError:
            literals.position = start
            if place >= len(names):
                raise
            key = names[place]
    return f"{compact(key)}: {literals.value()}"


LFM2 = CallFormat(
    name="lfm2",
    blocks=(("<|tool_call_start|>", "<|tool_call_end|>"),),
    read=read_python_calls,
    hints=("<|tool_call_start|>",),
    forced=("<|tool_call_start|>[{name}(", Keywords(), ")]<|tool_call_end|>"),
    strings=PYTHON_STRING,
)
LLAMA4 = CallFormat(
    name="llama4",
    blocks=(("<|python_start|>", "<|python_end|>"),),
    read=read_python_calls,
    hints=("<|python_start|>",),
    forced=("[{name}(", Keywords(), ")]"),
    strings=PYTHON_STRING,
)
OLMO = CallFormat(
    name="olmo",
    blocks=(("<function_calls>", "</function_calls>"),),
    read=read_python_calls,
    hints=("<function_calls>",),
    forced=("<function_calls>{name}(", Keywords(), ")</function_calls>"),
    strings=PYTHON_STRING,
)
MINICPM = CallFormat(
    name="minicpm",
    blocks=(("<|tool_call_start|>", "<|tool_call_end|>"),),
    read=read_python_calls,
    hints=("<|tool_call_start|>", "<|thought_start|>"),
    forced=("<|tool_call_start|>\n```python\n{name}(", Keywords(), ")\n```\n<|tool_call_end|>"),
    strings=PYTHON_STRING,
)


_GEMMA_CALL = re.compile(r"\s*call:\s*(?P<name>[\w.\-]+)\s*(?=\{)")


class _GemmaReader:
    def __init__(self, quote: str) -> None:
        self._quote = quote

    def __call__(self, body: str, tools: Tools) -> list[Part]:
        """The calls in a block. Raises ``NoCallError``."""
        parts: list[Part] = []
        position = 0
        while found := _GEMMA_CALL.match(body, position):
            literals = Literals(body, found.end(), (self._quote,), bare_keys=True)
            try:
                parts.append(Call(checked_name(found["name"]), literals.value()))
            except NoCallError:
                break
            position = literals.position
        if not parts:
            raise NoCallError("no call stands here")
        rest = body[position:]
        return [*parts, rest] if rest.strip(" \n,;") else parts


GEMMA = CallFormat(
    name="gemma",
    blocks=(("<|tool_call>", "<tool_call|>"),),
    read=_GemmaReader('<|"|>'),
    hints=("<|tool_call>", "call:"),
    forced=("<|tool_call>call:{name}", Braced('<|"|>'), "<tool_call|>"),
    marks=('<|"|>',),
    strings=re.compile(r'<\|"\|>.*?(?:<\|"\|>|\Z)', re.DOTALL),
)
FUNCTION_GEMMA = CallFormat(
    name="function-gemma",
    blocks=(("<start_function_call>", "<end_function_call>"),),
    read=_GemmaReader("<escape>"),
    hints=("<start_function_call>",),
    forced=("<start_function_call>call:{name}", Braced("<escape>"), "<end_function_call>"),
    marks=("<escape>",),
    strings=re.compile(r"<escape>.*?(?:<escape>|\Z)", re.DOTALL),
)
