"""A tool's name behind one mark and its arguments behind another: DeepSeek, Kimi K2, Mistral."""

from __future__ import annotations

import re

from nbllm.local.formats.base import Call, CallFormat, Json, NoCallError, Tools, checked_name
from nbllm.local.formats.json_calls import call_of, decoded, read_json_calls

__all__ = ["DEEPSEEK_V3", "DEEPSEEK_V31", "KIMI", "MISTRAL", "MISTRAL_NAMED"]


def _one(name: str, arguments: str) -> Call:
    return call_of({"name": checked_name(name), "arguments": decoded(arguments)})


def _found(pattern: re.Pattern[str], body: str, tools: Tools) -> list[Call]:
    calls = [_one(found["name"], found["arguments"]) for found in pattern.finditer(body)]
    if not calls:
        raise NoCallError("no call stands here")
    return calls


# ---------------------------------------------------------------- DeepSeek

_V3 = re.compile(
    r"(?:function)?<｜tool▁sep｜>(?P<name>[^\n<]+)\s*```(?:json)?\n(?P<arguments>.*?)\n?\s*```",
    re.DOTALL,
)
_V31 = re.compile(
    r"(?P<name>[\w.\-]+)\s*<｜tool▁sep｜>(?P<arguments>.*?)"
    r"(?=<｜tool▁call▁end｜>|<｜tool▁call▁begin｜>|<｜tool▁calls▁end｜>|\Z)",
    re.DOTALL,
)


def _read_deepseek(body: str, tools: Tools) -> list[Call]:
    if "<｜tool▁sep｜>" not in body:
        return read_json_calls(body, tools)
    return _found(_V3 if "```" in body else _V31, body, tools)


_DEEPSEEK_BLOCKS = (
    ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    ("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
)
_DEEPSEEK_MARKS = ("<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>")
DEEPSEEK_V3 = CallFormat(
    name="deepseek-v3",
    blocks=_DEEPSEEK_BLOCKS,
    read=_read_deepseek,
    hints=("<｜tool▁sep｜>", "```json"),
    forced=(
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n",
        Json(),
        "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    marks=_DEEPSEEK_MARKS,
)
DEEPSEEK_V31 = CallFormat(
    name="deepseek-v3.1",
    blocks=_DEEPSEEK_BLOCKS,
    read=_read_deepseek,
    hints=("<｜tool▁sep｜>",),
    forced=(
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{name}<｜tool▁sep｜>",
        Json(),
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    marks=_DEEPSEEK_MARKS,
)

# ---------------------------------------------------------------- Kimi

_KIMI = re.compile(
    r"(?:functions\.)?(?P<name>[\w.\-]+?)(?::\d+)?\s*<\|tool_call_argument_begin\|>(?P<arguments>.*?)"
    r"(?=<\|tool_call_end\|>|<\|tool_call_begin\|>|<\|tool_calls_section_end\|>|\Z)",
    re.DOTALL,
)


def _read_kimi(body: str, tools: Tools) -> list[Call]:
    return _found(_KIMI, body, tools)


KIMI = CallFormat(
    name="kimi",
    blocks=(
        ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
        ("<|tool_call_begin|>", "<|tool_call_end|>"),
    ),
    read=_read_kimi,
    hints=("<|tool_call_begin|>", "<|tool_call_argument_begin|>"),
    forced=(
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.{name}:0<|tool_call_argument_begin|>",
        Json(),
        "<|tool_call_end|><|tool_calls_section_end|>",
    ),
    marks=("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"),
)

# ---------------------------------------------------------------- Mistral

_NAMED = re.compile(
    r"\s*(?P<name>[\w.\-]+)(?:\[CALL_ID\]\w*)?\s*(?:\[ARGS\])?\s*(?P<arguments>\{.*)", re.DOTALL
)


def _read_mistral(body: str, tools: Tools) -> list[Call]:
    if body.lstrip().startswith(("[", "{")):
        return read_json_calls(body, tools)
    calls = []
    for part in body.split("[TOOL_CALLS]"):
        named = _NAMED.fullmatch(part.strip())
        if named is None:
            raise NoCallError("no call stands here")
        calls.append(_one(named["name"], named["arguments"]))
    return calls


MISTRAL = CallFormat(
    name="mistral",
    blocks=(("[TOOL_CALLS]", ""),),
    read=_read_mistral,
    hints=("[TOOL_CALLS]",),
    forced=('[TOOL_CALLS][{"name": "{name}", "arguments": ', Json(), "}]"),
    marks=("[ARGS]", "[CALL_ID]"),
)
MISTRAL_NAMED = CallFormat(
    name="mistral-named",
    blocks=MISTRAL.blocks,
    read=_read_mistral,
    hints=("[TOOL_CALLS]", "[ARGS]"),
    forced=("[TOOL_CALLS]{name}[ARGS]", Json()),
    marks=MISTRAL.marks,
)
