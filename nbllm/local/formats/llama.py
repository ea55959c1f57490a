"""Calls that are the whole answer, or stand in it without marks: Llama 3, xLAM, nbllm's own."""

from __future__ import annotations

import re

from nbllm.local.formats.base import Call, CallFormat, Json, NoCallError, Part, Tools
from nbllm.local.formats.json_calls import read_json_calls
from nbllm.local.formats.literal_calls import read_python_calls
from nbllm.local.formats.tagged import QWEN_CODER

__all__ = ["BARE_LIST", "GENERIC", "LLAMA"]

_CODE = re.compile(r"\s*\w+(?:\.\w+)*\.call\(")


def _read_llama(body: str, tools: Tools) -> list[Part]:
    if body.lstrip().startswith("<function="):
        return list(QWEN_CODER.read(body, tools))
    if body.lstrip().startswith("[") and not body.lstrip()[1:].lstrip().startswith("{"):
        return read_python_calls(body, tools)
    if _CODE.match(body):  # a built-in tool: brave_search.call(query="…")
        return read_python_calls(body.replace(".call(", "(", 1), tools)
    return read_json_calls(body, tools)


LLAMA = CallFormat(
    name="llama",
    blocks=(("<|python_tag|>", ""), ("<function=", "</function>")),
    read=_read_llama,
    hints=("<|start_header_id|>",),
    forced=('{"name": "{name}", "parameters": ', Json(), "}"),
    bare="anywhere",
)
BARE_LIST = CallFormat(
    name="bare-list",
    blocks=(),
    read=read_python_calls,
    forced=('[{"name": "{name}", "arguments": ', Json(), "}]"),
    bare="anywhere",
)


def _read_generic(body: str, tools: Tools) -> list[Part]:
    calls = read_json_calls(body, tools)
    if tools and not any(isinstance(call, Call) and call.name in tools for call in calls):
        raise NoCallError("no tool that is offered is called")
    return calls


GENERIC = CallFormat(
    name="generic",
    blocks=(),
    read=_read_generic,
    forced=('{"tool_call": {"name": "{name}", "arguments": ', Json(), "}}"),
)
"""The JSON that nbllm's own instructions ask for, where a template knows nothing of tools."""
