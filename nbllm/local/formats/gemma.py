"""Google's ``call:NAME{key:value}``: Gemma 4 and FunctionGemma."""

from __future__ import annotations

import re

from nbllm.local.formats.argument_values import Literals
from nbllm.local.formats.base import (
    Braced,
    Call,
    CallFormat,
    NoCallError,
    Part,
    Tools,
    checked_name,
)

__all__ = ["FUNCTION_GEMMA", "GEMMA"]

_CALL = re.compile(r"\s*call:\s*(?P<name>[\w.\-]+)\s*(?=\{)")


class _Reader:
    def __init__(self, quote: str) -> None:
        self._quote = quote

    def __call__(self, body: str, tools: Tools) -> list[Part]:
        """The calls in a block. Raises ``NoCallError``."""
        parts: list[Part] = []
        position = 0
        while found := _CALL.match(body, position):
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
    read=_Reader('<|"|>'),
    hints=("<|tool_call>", "call:"),
    forced=("<|tool_call>call:{name}", Braced('<|"|>'), "<tool_call|>"),
    marks=('<|"|>',),
    strings=re.compile(r'<\|"\|>.*?(?:<\|"\|>|\Z)', re.DOTALL),
)
FUNCTION_GEMMA = CallFormat(
    name="function-gemma",
    blocks=(("<start_function_call>", "<end_function_call>"),),
    read=_Reader("<escape>"),
    hints=("<start_function_call>",),
    forced=("<start_function_call>call:{name}", Braced("<escape>"), "<end_function_call>"),
    marks=("<escape>",),
    strings=re.compile(r"<escape>.*?(?:<escape>|\Z)", re.DOTALL),
)
