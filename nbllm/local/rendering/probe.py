"""A conversation of the same form as a given one, whose texts are words to look for.

What a template drops is seen by rendering it: every word that is missing is a text that the model
would not get to read.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from nbllm.local.rendering.conversation import Conversation, Turn, calls_of

__all__ = ["Probe", "probe_of"]

_WORD = re.compile(r"quonk[a-j]+x")  # in no language, and the same in capitals but for their size


@dataclass(frozen=True, slots=True)
class Probe:
    """``wanted`` are the words that must be rendered, ``keys`` those of arguments.

    Two conversations with the same ``key`` are of the same form.
    """

    conversation: Conversation
    wanted: frozenset[str]
    keys: frozenset[str]
    key: str

    def lost(self, text: str) -> int:
        """How many of the texts a rendered prompt lacks, or holds as Python in place of JSON."""
        low = text.lower()
        missing = self.wanted.difference(_WORD.findall(low))
        return len(missing) + sum(f"'{key}':" in low for key in self.keys)


class _Words:
    def __init__(self) -> None:
        self.wanted: set[str] = set()
        self.keys: set[str] = set()
        self._count = 0
        self._names: dict[str, str] = {}

    def fresh(self, text: str) -> str:
        """A word for a text; an empty one stays empty."""
        if not text:
            return text
        self._count += 1
        digits = str(self._count).translate(_LETTERS)
        return f"quonk{digits}x"

    def want(self, text: str) -> str:
        word = self.fresh(text)
        if word:
            self.wanted.add(word)
        return word

    def named(self, name: str, where: str) -> str:
        """The word of a tool, one for its description, its calls and its results each."""
        key = f"{where} {name}"
        if key not in self._names:
            self._names[key] = self.fresh(name)
        return self._names[key]


_LETTERS = str.maketrans("0123456789", "abcdefghij")


def probe_of(conversation: Conversation) -> Probe:
    """The probe of a conversation."""
    words = _Words()
    tools = [_tool(tool, words) for tool in conversation.tools]
    turns = [_turn(turn, words) for turn in conversation.turns]
    made = Conversation(turns, tools)
    return Probe(
        made,
        frozenset(words.wanted),
        frozenset(words.keys),
        json.dumps([turns, tools], ensure_ascii=False),
    )


def _tool(tool: Turn, words: _Words) -> Turn:
    function = tool["function"]
    name, description = words.named(function["name"], "tool"), words.want(function["description"])
    words.wanted |= {name} - {""}
    return {**tool, "function": {**function, "name": name, "description": description}}


def _turn(turn: Turn, words: _Words) -> Turn:
    calls = [_call(call, words) for call in calls_of(turn)]
    # Some templates give no words beside calls, and none give all reasoning.
    take = words.fresh if calls else words.want
    made = {**turn, "content": take(turn["content"] or "")}
    for key in ("reasoning_content", "thinking"):
        if key in turn:
            made[key] = words.fresh(turn[key])
    if isinstance(turn.get("name"), str):
        made["name"] = words.named(turn["name"], "result")
    return {**made, "tool_calls": calls} if calls else made


def _call(call: Turn, words: _Words) -> Turn:
    function = call["function"]
    name = words.named(function["name"], "call")
    words.wanted |= {name} - {""}
    return {**call, "function": {"name": name, "arguments": _value(function["arguments"], words)}}


def _value(value: Any, words: _Words) -> Any:
    if isinstance(value, str):
        return words.want(value)
    if isinstance(value, dict):
        made = {_key(key, each, words): _value(each, words) for key, each in value.items()}
        words.keys |= made.keys() - {""}
        return made
    return [_value(each, words) for each in value] if isinstance(value, list) else value


def _key(key: str, value: Any, words: _Words) -> str:
    """The word of an argument's name: one without a value may be left out."""
    return words.fresh(key) if value is None else words.want(key)
