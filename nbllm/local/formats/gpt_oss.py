"""gpt-oss: messages with channels and recipients.

Source: https://cookbook.openai.com/articles/openai-harmony. What a message is stands in its
header, so it is read by a parser of its own, ``nbllm.local.reading.addressed_messages``.
"""

from __future__ import annotations

from nbllm.local.formats.base import Call, CallFormat, Json, NoCallError, Part, Tools, checked_name
from nbllm.local.formats.json_calls import call_of, compact, decoded
from nbllm.local.formats.tagged import MUSE

__all__ = ["HARMONY", "addressed_calls"]

_TAGS = MUSE.blocks[0]
_CODE_TOOLS = ("python", "browser", "container")


def addressed_calls(recipient: str, body: str, tools: Tools, *, cut: bool = False) -> list[Call]:
    """The calls in a message to ``recipient``; Python's is code, unless it was cut off.

    Muse's have tags in them. Raises ``NoCallError``.
    """
    if body.lstrip().startswith(_TAGS[0]):
        inside = body.partition(_TAGS[0])[2].rpartition(_TAGS[1])[0]
        return [part for part in MUSE.read(inside, tools) if isinstance(part, Call)]
    name = checked_name(recipient.removeprefix("functions."))
    try:
        return [call_of({"name": name, "arguments": decoded(body) if body.strip() else {}})]
    except NoCallError:
        if name.split(".")[0] in _CODE_TOOLS and body.strip() and not cut:
            return [Call(name, compact({"code": body}))]
        raise


def _read(body: str, tools: Tools) -> list[Part]:
    recipient, _, arguments = body.partition("<|message|>")
    return [*addressed_calls(recipient.split()[0] if recipient.split() else "", arguments, tools)]


HARMONY = CallFormat(
    name="harmony",
    blocks=((" to=", "<|call|>"),),
    read=_read,
    hints=("<|channel|>", "<|message|>"),
    forced=("<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>", Json()),
    bare="no",
    marks=("<|start|><|channel|><|message|><|constrain|><|end|><|call|><|return|>",),
)
