"""A conversation as chat templates read it, and special tokens in its texts, which must stay text.

Turns are OpenAI's messages: ``role``, ``content`` and, by role, ``tool_calls``, ``tool_call_id``,
``name``, ``reasoning_content`` and ``thinking``.

A conversation's own text may hold what reads like a special token: ``<|im_end|>`` in a question
about chat templates, or in a file that somebody else wrote. Before the conversation is rendered, a
*guard*, a character that occurs nowhere in it, is put behind the first character of each; so the
rendered text tells the marks that the template wrote from those that were in its values.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeAlias

from nbllm.local.request_refusals import TemplateRefusalError

__all__ = ["HELLO", "Change", "Conversation", "Marks", "Turn", "calls_of", "free_character"]

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


# Linear A: letters (so that no template's escaping touches them), without cases, and unused.
_GUARDS = range(0x10600, 0x10737)


class Marks:
    """The texts of a vocabulary's special tokens; single characters are none."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = sorted({text for text in texts if len(text) > 1})
        self._longest = max(map(len, self.texts), default=0)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(_alternatives(self.texts) if self.texts else r"(?!)")

    @cached_property
    def _begins(self) -> re.Pattern[str]:
        return re.compile(f"(?={self._pattern.pattern})")

    @cached_property
    def _reversed(self) -> list[str]:
        return sorted(text[::-1] for text in self.texts)

    @cached_property
    def _joined(self) -> str:
        return "\0".join(self.texts)

    def found(self, text: str) -> list[str]:
        """The marks in ``text``, in their order; of two at one place the longer."""
        return self._pattern.findall(text)

    def broken(self, text: str, guard: str) -> str:
        """``text`` with a guard inside everything that reads like a mark."""
        places = [found.start() + 1 for found in self._begins.finditer(text)]
        if not places:
            return text
        bounds = [0, *places, len(text)]
        return guard.join(text[a:b] for a, b in pairwise(bounds))

    def enclosed(self, text: str, guard: str) -> str:
        """``broken``, and guarded at its ends where it may become a mark with what is beside it."""
        broken, core = self.broken(text, guard), text.strip()
        if not core or not self._is_risky(core):
            return broken
        lead, tail = len(text) - len(text.lstrip()), len(text.rstrip()) - len(text)
        end = len(broken) + tail
        return f"{broken[:lead]}{guard}{broken[lead:end]}{guard}{broken[end:]}"

    def _is_risky(self, core: str) -> bool:
        if core in self._joined:
            return True
        return any(
            _begins_one(edge, self.texts) or _begins_one(edge[::-1], self._reversed)
            for length in range(1, min(self._longest, len(core) + 1))
            for edge in (core[:length], core[-length:])
        )

    def pieces(self, text: str, guard: str) -> Iterator[tuple[str, bool]]:
        """``text`` without its guards, in pieces: True for one whose marks are text.

        Pieces begin and end where the template wrote a mark, or the text does.
        """
        begin, at = 0, 0
        for found in [*self._pattern.finditer(text), None]:
            end = len(text) if found is None else found.start()
            if guard in text[at:end]:
                if begin < at:
                    yield text[begin:at], False
                yield text[at:end].replace(guard, ""), True
                begin = end
            at = end if found is None else found.end()
        if begin < len(text):
            yield text[begin:], False


def _begins_one(part: str, ordered: Sequence[str]) -> bool:
    """Whether one of the texts, which are sorted, begins with ``part`` and goes on behind it."""
    at = bisect_right(ordered, part)
    return at < len(ordered) and ordered[at].startswith(part)


def free_character(text: str, *, but: str = "") -> str:
    """A character that does not occur in ``text``, another than ``but``."""
    for code in _GUARDS:
        if chr(code) not in text and chr(code) != but:
            return chr(code)
    raise TemplateRefusalError("the conversation contains every character reserved for rendering")


def _alternatives(texts: Sequence[str]) -> str:
    """A regular expression of sorted texts by their common beginnings: linear, however many."""
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(text[:1], []).append(text[1:])
    ends = "" in groups
    branches = [_branch(first, rests) for first, rests in groups.items() if first]
    if not branches:
        return ""
    return f"(?:{'|'.join(branches)}){'?' if ends else ''}"


def _branch(first: str, rests: Sequence[str]) -> str:
    while len({rest[:1] for rest in rests}) == 1 and rests[0]:
        first, rests = first + rests[0][0], [rest[1:] for rest in rests]
    return re.escape(first) + _alternatives(rests)
