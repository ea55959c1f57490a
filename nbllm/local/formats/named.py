"""A name behind one mark, arguments behind another: DeepSeek, Kimi K2, Solar, Mistral."""

from __future__ import annotations

import re

from nbllm.local.formats.base import (
    Call,
    CallFormat,
    Id,
    Json,
    NoCallError,
    Part,
    Tools,
    checked_name,
)
from nbllm.local.formats.json_calls import call_of, decoded_at, read_json_calls

__all__ = ["DEEPSEEK_V3", "DEEPSEEK_V31", "KIMI", "MISTRAL", "MISTRAL_NAMED", "SOLAR"]


_MARK = re.compile(r"<[|｜][^<>\s]{1,60}[|｜]>|```")


def _found(header: re.Pattern[str], body: str) -> list[Part]:
    """The calls in a block, each a header with the ``name``, then JSON.

    What is no whole call is text. Raises ``NoCallError``.
    """
    parts: list[Part] = []
    position = 0
    while found := header.search(body, position):
        if said := _said(body[position : found.start()]):
            parts.append(said)
        try:
            call, position = _call(found, body)
            parts.append(call)
        except NoCallError:
            following = header.search(body, found.end())
            position = following.start() if following else len(body)
            parts.append(body[found.start() : position])
    if not any(isinstance(part, Call) for part in parts):
        raise NoCallError("no call stands here")
    rest = _said(body[position:])
    return [*parts, rest] if rest else parts


def _call(header: re.Match[str], body: str) -> tuple[Call, int]:
    """The call behind a header, and where it ends. Raises ``NoCallError``."""
    name, start = checked_name(header["name"]), header.end()
    if not body.startswith("{", start):
        rest = body[start:].lstrip()
        if rest and not _MARK.match(rest):
            raise NoCallError("a call has no arguments")
        return Call(name, "{}"), start
    value, end = decoded_at(body, start)
    return call_of({"name": name, "arguments": value}), end


def _said(text: str) -> str:
    """What stands between calls, where it is more than marks."""
    return text if _MARK.sub("", text).strip() else ""


# ---------------------------------------------------------------- DeepSeek

_V3 = re.compile(
    r"(?:function)?<｜tool▁sep｜>(?P<name>[^\n<]{1,200}?)\s{0,9}```(?:json)?\s*(?=\{|\Z|<)"
)
_V31 = re.compile(r"(?P<name>[\w.\-]{1,200})\s{0,9}<｜tool▁sep｜>\s*")


def _read_deepseek(body: str, tools: Tools) -> list[Part]:
    if "<｜tool▁sep｜>" not in body:
        return list(read_json_calls(body, tools))
    return _found(_V3 if _V3.search(body) else _V31, body)


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
    r"(?:functions\.)?(?P<name>[\w.\-]{1,200}?)(?::\d{1,9})?\s{0,9}"
    r"<\|tool_call_argument_begin\|>\s*"
)


def _read_kimi(body: str, tools: Tools) -> list[Part]:
    return _found(_KIMI, body)


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

# ---------------------------------------------------------------- Solar Open

_SOLAR = re.compile(
    r"(?:<\|tool_call:begin\|>[a-z0-9]{0,40}\s*)?"
    r"<\|tool_call:name\|>(?P<name>[\w.\-]{1,200})\s{0,9}<\|tool_call:args\|>\s*"
)


def _read_solar(body: str, tools: Tools) -> list[Part]:
    return _found(_SOLAR, body)


SOLAR = CallFormat(
    name="solar",
    blocks=(("<|tool_calls|>", "<|calls|>"), ("<|tool_call:begin|>", "<|calls|>")),
    read=_read_solar,
    hints=("<|tool_call:name|>", "<|tool_call:args|>"),
    forced=(
        "<|tool_calls|><|tool_call:begin|>",
        Id(10),
        "<|tool_call:name|>{name}<|tool_call:args|>",
        Json(),
        "<|tool_call:end|><|calls|>",
    ),
    marks=("<|tool_call:begin|><|tool_call:name|><|tool_call:args|><|tool_call:end|>",),
)

# ---------------------------------------------------------------- Mistral

_NAMED = re.compile(
    r"(?:\A|\[TOOL_CALLS\])\s*(?P<name>[\w.\-]{1,200})(?:\[CALL_ID\]\w{0,64})?\s{0,9}"
    r"(?:\[ARGS\])?\s*(?=\{)"
)


def _read_mistral(body: str, tools: Tools) -> list[Part]:
    if body.lstrip().startswith(("[", "{")):
        return list(read_json_calls(body, tools))
    return _found(_NAMED, body)


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
