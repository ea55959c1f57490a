"""Functionary: a tag with JSON (v3.1), or ``>>>`` with whom a message is for (v3.2).

What v3.2 writes is a list of messages, so it is read by a parser of its own,
``nbllm.local.reading.addressed_messages``.
"""

from __future__ import annotations

from nbllm.local.formats.base import (
    Call,
    CallFormat,
    Json,
    NoCallError,
    Part,
    Tools,
    checked_name,
    declared_in,
)
from nbllm.local.formats.json_calls import call_of, compact, decoded
from nbllm.local.formats.tagged import QWEN_CODER

__all__ = ["FUNCTIONARY_RECIPIENTS", "FUNCTIONARY_TAGS", "message_to"]

_CODE_TOOL = "python"


def message_to(name: str, body: str, tools: Tools, *, cut: bool = False) -> Call:
    """The call in a message to a tool; Python's may be code, unless it was cut off.

    Raises ``NoCallError``.
    """
    try:
        return call_of({"name": checked_name(name), "arguments": decoded(body.strip() or "{}")})
    except NoCallError:
        if name == _CODE_TOOL and body.strip() and not cut:
            key = next(iter(declared_in(tools.get(name, {}))), "code")
            return Call(name, compact({key: body.strip("\n")}))
        raise


def _read_tags(body: str, tools: Tools) -> list[Part]:
    if body.startswith("<function="):
        return list(QWEN_CODER.read(body, tools))
    return [message_to(_CODE_TOOL, body, tools)]


def _read_message(body: str, tools: Tools) -> list[Part]:
    name, _, arguments = body.partition("\n")
    return [message_to(name.strip(), arguments, tools)]


FUNCTIONARY_TAGS = CallFormat(
    name="functionary-3.1",
    blocks=(("<function=", "</function>"), ("<|python_tag|>", "")),
    read=_read_tags,
    hints=("<function=", "</function>", "<|start_header_id|>"),
    forced=("<function={name}>", Json(), "</function>"),
    bare="no",
    values=QWEN_CODER.values,
)
FUNCTIONARY_RECIPIENTS = CallFormat(
    name="functionary-3.2",
    blocks=((">>>", ""),),
    read=_read_message,
    hints=(">>>${recipient}",),
    forced=("{name}\n", Json()),
    bare="no",
)
