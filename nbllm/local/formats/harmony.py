"""gpt-oss: messages with channels and recipients.

Source: https://cookbook.openai.com/articles/openai-harmony. What a message is stands in its
header, so it is read by a parser of its own, ``nbllm.local.reading.harmony``.
"""

from __future__ import annotations

from nbllm.local.formats.base import Call, CallFormat, Json, NoCallError, Tools, checked_name
from nbllm.local.formats.json_calls import call_of, compact, decoded

__all__ = ["HARMONY", "addressed_call"]

_CODE_TOOLS = ("python", "browser", "container")


def addressed_call(recipient: str, body: str) -> Call:
    """The call in a message to ``recipient``; Python's is code. Raises ``NoCallError``."""
    name = checked_name(recipient.removeprefix("functions."))
    try:
        return call_of({"name": name, "arguments": decoded(body) if body.strip() else {}})
    except NoCallError:
        if name.split(".")[0] in _CODE_TOOLS and body.strip():
            return Call(name, compact({"code": body}))
        raise


def _read(body: str, tools: Tools) -> list[Call]:
    recipient, _, arguments = body.partition("<|message|>")
    return [addressed_call(recipient.split()[0] if recipient.split() else "", arguments)]


HARMONY = CallFormat(
    name="harmony",
    blocks=((" to=", "<|call|>"),),
    read=_read,
    hints=("<|channel|>", "<|message|>"),
    forced=("<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>", Json()),
    bare="no",
    marks=("<|start|><|channel|><|message|><|constrain|><|end|><|call|><|return|>",),
)
