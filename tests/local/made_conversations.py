"""Strategies for whole conversations, of every part that one can have."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import strategies as st

from nbllm.core.conversations.saved_conversation import Conversation, Summary, Turn
from nbllm.core.types import (
    FinishReason,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
    Usage,
    VendorPart,
)

__all__ = ["conversations"]

_texts = st.text(alphabet=st.characters(blacklist_categories=["Cs"]))
_numbers = st.none() | st.booleans() | st.integers(-9, 9) | _texts
_asked_with = [
    st.builds(TextPart, _texts),
    st.builds(ImagePart, st.just("image/png"), st.binary(max_size=40)),
    st.builds(ImagePart, url=_texts),
    st.builds(ToolResult, _texts, _texts, _texts, st.booleans()),
]
_answered_with = [
    *_asked_with,
    st.builds(ReasoningPart, _texts, st.none() | _texts, st.just("gemini")),
    st.builds(ToolCall, _texts, _texts, _texts, st.none() | _texts, st.just("gemini")),
    st.builds(VendorPart, _texts, st.recursive(_numbers, st.lists).map(json.dumps)),
]


def _messages(role: str, parts: list[st.SearchStrategy]) -> st.SearchStrategy[Message]:
    return st.builds(
        Message, st.just(role), _texts | st.lists(st.one_of(parts), max_size=3).map(tuple)
    )


_moments = st.datetimes().map(lambda at: at.isoformat(timespec="seconds") + "+00:00")
_turns = st.builds(
    Turn,
    place=st.text(min_size=1, alphabet=st.characters(blacklist_categories=["Cs"])),
    question=_messages("user", _asked_with),
    answer=st.none() | _messages("assistant", _answered_with),
    model=_texts,
    finish_reason=st.none() | st.sampled_from(FinishReason),
    usage=st.builds(Usage, prompt_tokens=st.integers(0, 9), cost_usd=st.none() | st.just(0.5)),
    asked_at=st.just("") | _moments,
    is_stale=st.booleans(),
)


def _summarised(chat: Conversation, text: str, count: int) -> Conversation:
    places = tuple(turn.place for turn in chat.turns[:count])
    return replace(chat, summary=Summary(text, places)) if count else chat


_plain = st.builds(
    Conversation,
    name=st.from_regex(r"\w[\w.-]{0,9}", fullmatch=True),
    system=st.none() | _texts,
    turns=st.lists(_turns, max_size=3, unique_by=lambda turn: turn.place).map(tuple),
)
conversations = st.builds(_summarised, _plain, _texts, st.integers(0, 2))
