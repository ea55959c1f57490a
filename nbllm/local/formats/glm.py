"""A name, then keys and values in turn: GLM 4.5 and later, Hunyuan 3."""

from __future__ import annotations

import re

from nbllm.local.formats.base import (
    Call,
    CallFormat,
    Marks,
    NoCallError,
    Parameters,
    Part,
    Tools,
    checked_name,
)
from nbllm.local.formats.json_calls import read_json_calls
from nbllm.local.formats.tagged import tag_reader

__all__ = ["GLM", "HUNYUAN"]

_MARKS = Marks(
    begin=re.compile(r"(?P<name>[^\s<>]{1,200})\s*(?=<arg_key>|</tool_call>|\Z)"),
    end="",
    open=re.compile(
        r"<arg_key>(?P<key>[^<]{0,200})(?:</arg_key>\s{0,9}(?:<arg_value>)?|<arg_value>)"
    ),
    close="</arg_value>",
)
_read_tagged = tag_reader(_MARKS)


def _read(body: str, tools: Tools) -> list[Part]:
    head = body.partition("<arg_key>")[0]
    if head.lstrip().startswith(("{", "[")):
        return list(read_json_calls(body, tools))
    name = checked_name(head)
    if head == body:
        if tools and name not in tools:
            raise NoCallError(f"there is no tool {name}")
        return [Call(name, "{}")]
    return list(_read_tagged(body, tools))


GLM = CallFormat(
    name="glm",
    blocks=(("<tool_call>", "</tool_call>"),),
    read=_read,
    hints=("<tool_call>", "<arg_key>"),
    forced=(
        "<tool_call>{name}\n",
        Parameters("<arg_key>{key}</arg_key>\n<arg_value>", "</arg_value>\n"),
        "</tool_call>",
    ),
    marks=("<arg_key></arg_key><arg_value></arg_value>",),
    values=_MARKS,
)


def _hunyuan(suffix: str) -> CallFormat:
    """Hunyuan 3's, whose marks have a suffix that its template sets."""

    def mark(name: str) -> str:
        return f"<{name}{suffix}>"

    marks = Marks(
        begin=re.compile(rf"{mark('tool_call')}(?P<name>[^<\n]{{1,200}}){mark('tool_sep')}"),
        end=mark("/tool_call"),
        open=re.compile(
            rf"{mark('arg_key')}(?P<key>[^<]{{0,200}}){mark('/arg_key')}\s{{0,9}}{mark('arg_value')}"
        ),
        close=mark("/arg_value"),
    )
    key = f"{mark('arg_key')}{{key}}{mark('/arg_key')}\n{mark('arg_value')}"
    return CallFormat(
        name=f"hunyuan{suffix}",
        blocks=((mark("tool_calls"), mark("/tool_calls")),),
        read=tag_reader(marks),
        hints=("tool_sep", suffix or "<tool_sep>"),
        forced=(
            f"{mark('tool_calls')}\n{mark('tool_call')}{{name}}{mark('tool_sep')}\n",
            Parameters(key, mark("/arg_value") + "\n"),
            f"{mark('/tool_call')}\n{mark('/tool_calls')}",
        ),
        marks=(
            *map(mark, ("tool_call", "tool_sep", "/tool_call", "arg_key", "/arg_key")),
            *map(mark, ("arg_value", "/arg_value")),
        ),
        values=marks,
    )


HUNYUAN = (_hunyuan(":opensource"), _hunyuan(""))
