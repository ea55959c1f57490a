"""GLM 4.5 and later: ``NAME``, then ``<arg_key>`` and ``<arg_value>`` in turn."""

from __future__ import annotations

import re

from nbllm.local.formats.base import Call, CallFormat, NoCallError, Parameters, Tools, checked_name
from nbllm.local.formats.json_calls import read_json_calls
from nbllm.local.formats.parameters import Marks, read_parameters

__all__ = ["GLM"]

_MARKS = Marks(
    re.compile(r"<arg_key>(?P<key>[^<]*)</arg_key>\s*<arg_value>"),
    "</arg_value>",
    ("</tool_call>",),
)


def _read(body: str, tools: Tools) -> list[Call]:
    name, found, rest = body.partition("<arg_key>")
    if name.lstrip().startswith(("{", "[")):
        return read_json_calls(body, tools)
    name = checked_name(name.strip())
    if not found and tools and name not in tools:
        raise NoCallError(f"there is no tool {name}")
    return [Call(name, read_parameters(found + rest, _MARKS, tools.get(name, {})))]


GLM = CallFormat(
    name="glm",
    blocks=(("<tool_call>", "</tool_call>"),),
    read=_read,
    hints=("<tool_call>", "<arg_key>"),
    forced=(
        "<tool_call>{name}\n",
        Parameters("<arg_key>{key}</arg_key>\n<arg_value>", "</arg_value>\n", between=""),
        "</tool_call>",
    ),
    marks=("<arg_key></arg_key><arg_value></arg_value>",),
)
