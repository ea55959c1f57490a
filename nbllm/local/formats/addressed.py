"""Messages with recipients: gpt-oss (channels) and Functionary (a tag, or ``>>>`` and a name).

Source of gpt-oss's: https://cookbook.openai.com/articles/openai-harmony. What a message is stands
in its header, and what gpt-oss and Functionary v3.2 write is a list of messages, so both are read
by a parser of their own, ``nbllm.local.reading.addressed_messages``. Functionary v3.1 has tags.
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
from nbllm.local.formats.tagged import MUSE, QWEN_CODER

__all__ = [
    "FUNCTIONARY_RECIPIENTS",
    "FUNCTIONARY_TAGS",
    "HARMONY",
    "addressed_calls",
    "message_to",
]

_MUSE_TAGS = MUSE.blocks[0]
_GPT_CODE_TOOLS = ("python", "browser", "container")


def addressed_calls(recipient: str, body: str, tools: Tools, *, cut: bool = False) -> list[Call]:
    """The calls in a message of gpt-oss to ``recipient``; Python's is code, unless it was cut off.

    Muse's have tags in them. Raises ``NoCallError``.
    """
    if body.lstrip().startswith(_MUSE_TAGS[0]):
        inside = body.partition(_MUSE_TAGS[0])[2].rpartition(_MUSE_TAGS[1])[0]
        return [part for part in MUSE.read(inside, tools) if isinstance(part, Call)]
    name = checked_name(recipient.removeprefix("functions."))
    try:
        return [call_of({"name": name, "arguments": decoded(body) if body.strip() else {}})]
    except NoCallError:
        if name.split(".")[0] in _GPT_CODE_TOOLS and body.strip() and not cut:
            return [Call(name, compact({"code": body}))]
        raise


def _read_harmony(body: str, tools: Tools) -> list[Part]:
    recipient, _, arguments = body.partition("<|message|>")
    return [*addressed_calls(recipient.split()[0] if recipient.split() else "", arguments, tools)]


HARMONY = CallFormat(
    name="harmony",
    blocks=((" to=", "<|call|>"),),
    read=_read_harmony,
    hints=("<|channel|>", "<|message|>"),
    forced=("<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>", Json()),
    bare="no",
    marks=("<|start|><|channel|><|message|><|constrain|><|end|><|call|><|return|>",),
)


_CODE_TOOL = "python"


def message_to(name: str, body: str, tools: Tools, *, cut: bool = False) -> Call:
    """The call in a message of Functionary to a tool; Python's may be code, unless it was cut off.

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
