"""A conversation as chat templates read it, and what can be done to all of its texts.

Turns are OpenAI's messages: ``role``, ``content`` and, by role, ``tool_calls``, ``tool_call_id``,
``name``, ``reasoning_content`` and ``thinking``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

__all__ = ["HELLO", "Change", "Conversation", "Turn", "calls_of"]

Turn: TypeAlias = dict[str, Any]
Change: TypeAlias = Callable[[str], str]

HELLO: Turn = {"role": "user", "content": "Hello"}

_TEXTS = ("content", "reasoning_content", "thinking", "tool_call_id", "name")


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns, and the tools that the next one may call."""

    turns: Sequence[Turn]
    tools: Sequence[Turn] = ()

    @property
    def is_continued(self) -> bool:
        """Whether it ends with words of the model's own, to go on from."""
        last = self.turns[-1] if self.turns else {}
        return last.get("role") == "assistant" and bool(last["content"]) and not calls_of(last)

    def changed(self, change: Change, own: Change | None = None) -> Conversation:
        """With ``change`` applied to every text that is not part of the form.

        To the model's own words ``own`` is applied, where it is given.
        """
        return Conversation(
            [_changed(turn, change, own or change) for turn in self.turns],
            [_changed_tool(tool, change) for tool in self.tools],
        )

    @property
    def texts(self) -> str:
        """All texts that ``changed`` changes, with a zero character before each."""
        texts: list[str] = []

        def note(text: str) -> str:
            texts.append(text)
            return text

        self.changed(note)
        return "\0".join(["", *texts])

    def ended(self, mark: str) -> Conversation:
        """With ``mark`` behind its last words."""
        *before, last = self.turns
        return replace(self, turns=[*before, {**last, "content": f"{last['content']}{mark}"}])


def calls_of(turn: Turn) -> Sequence[Turn]:
    """The calls of tools in a turn."""
    calls: Sequence[Turn] = turn.get("tool_calls") or ()
    return calls


def _changed(turn: Turn, change: Change, own: Change) -> Turn:
    texts = {key: change(turn[key]) for key in _TEXTS if isinstance(turn.get(key), str)}
    if turn["role"] == "assistant" and isinstance(turn["content"], str):
        texts["content"] = own(turn["content"])
    calls = [{**call, "function": _changed_function(call, change)} for call in calls_of(turn)]
    for call in calls:
        if isinstance(call.get("id"), str):
            call["id"] = change(call["id"])
    return {**turn, **texts, **({"tool_calls": calls} if calls else {})}


def _changed_function(call: Turn, change: Change) -> Turn:
    return {key: _everywhere(value, change) for key, value in call["function"].items()}


def _changed_tool(tool: Turn, change: Change) -> Turn:
    return {**tool, "function": _changed_function(tool, change)}


def _everywhere(value: Any, change: Change) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(key): _everywhere(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_everywhere(each, change) for each in value]
    return value
