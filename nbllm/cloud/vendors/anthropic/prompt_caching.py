"""Anthropic's prompt cache: https://platform.claude.com/docs/en/build-with-claude/prompt-caching.

A mark on a block has the vendor keep all that stands before its end for five minutes, and read it
from there at a tenth of the price when a later request begins alike. What is put there costs a
quarter more, so a conversation is cheaper from its second turn on. Prompts below about a thousand
tokens are not kept, whatever is marked, and cost what they always do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["with_cache_marks"]

_MARK = {"cache_control": {"type": "ephemeral"}}
_MARKABLE = {"text", "image", "tool_use", "tool_result"}
_TURNS = 2
"""The last turns that are marked: the last one is kept for the next request, and the one before it
is where this request finds what the one before it left."""


def with_cache_marks(body: dict[str, Any]) -> dict[str, Any]:
    """A request whose tools, system text and last turns are marked; four marks are allowed."""
    marked = dict(body)
    if body.get("tools"):
        marked["tools"] = _last_marked(body["tools"])
    if body.get("system"):
        marked["system"] = [{"type": "text", "text": body["system"], **_MARK}]
    marked["messages"] = _turns_marked(body["messages"])
    return marked


def _last_marked(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*blocks[:-1], blocks[-1] | _MARK]


def _turns_marked(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns, with marks in the last ones of the user's, answers of tools included."""
    places = [place for place, turn in enumerate(turns) if turn["role"] == "user"][-_TURNS:]
    return [
        turn | {"content": _block_marked(turn["content"])} if place in places else turn
        for place, turn in enumerate(turns)
    ]


def _block_marked(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks, with a mark on the last one that may have one."""
    place = _last(place for place, block in enumerate(blocks) if block["type"] in _MARKABLE)
    if place is None:
        return blocks
    return [*_last_marked(blocks[: place + 1]), *blocks[place + 1 :]]


def _last(places: Iterable[int]) -> int | None:
    return max(places, default=None)
