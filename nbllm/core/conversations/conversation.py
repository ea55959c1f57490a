"""A conversation as a value: turns in order, each of them the question and answer of one place.

A place is where a question is asked from, in a notebook its cell. Asking again from the same
place puts a new turn where the old one was; the turns behind it stay and are marked as stale,
because they were answered before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from nbllm.core.errors import ConversationError
from nbllm.core.types import FinishReason, GenerationResult, Message, Usage

__all__ = ["NAME_RULE", "Conversation", "Summary", "Turn", "check_name", "is_name"]

NAME_RULE = (
    "a name must have 1 to 100 letters, digits, '_', '-' and '.', and not begin with '-' or '.'"
)

_NAME = re.compile(r"\w[\w.-]{0,99}")
_SUMMARY = "Summary of the conversation before the messages below:\n"


def is_name(name: str) -> bool:
    """Whether a conversation can be called so; it is part of a file's name."""
    return bool(_NAME.fullmatch(name))


def check_name(name: str) -> str:
    """``name``, if a conversation can be called so. Raises ``ConversationError``."""
    if not is_name(name):
        raise ConversationError(name[:100], NAME_RULE)
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A question with its answer.

    ``place`` tells where it was asked. Without ``finish_reason`` the answer is not there yet, or
    never came because the process ended first. ``usage`` is that of the whole request.
    ``asked_at`` is in ISO 8601, UTC. ``is_stale`` says that a turn before it changed since.
    ``typed`` is the question with its braces, as it was typed, where values took their places.
    """

    place: str
    question: Message
    answer: Message | None = None
    model: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage = Usage()
    asked_at: str = ""
    is_stale: bool = False
    typed: str = ""

    def answered(self, result: GenerationResult) -> Turn:
        """The turn with its answer, which may be partial; see its ``finish_reason``."""
        return replace(
            self,
            answer=result.message if result.text or result.parts else None,
            model=result.model,
            finish_reason=result.finish_reason,
            usage=result.usage,
        )

    @property
    def asked(self) -> str:
        """The question as somebody typed it."""
        return self.typed or self.question.text

    @property
    def is_whole(self) -> bool:
        """Whether the model ended its answer by itself."""
        return self.finish_reason in (FinishReason.STOP, FinishReason.TOOL_CALLS)

    @property
    def messages(self) -> tuple[Message, ...]:
        """What a later turn sends of this one: nothing where there is no answer."""
        return () if self.answer is None else (self.question, self.answer)


@dataclass(frozen=True, slots=True)
class Summary:
    """What stands for the turns of these ``places``, the oldest ones, when asking."""

    text: str
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """The turns asked under one name, the oldest first; every change makes a new value.

    ``system`` stands before all turns.
    """

    name: str
    system: str | None = None
    turns: tuple[Turn, ...] = ()
    summary: Summary | None = None

    def index(self, place: str) -> int | None:
        """The number of the turn of this place, from 0; None where there is none yet."""
        found = (n for n, turn in enumerate(self.turns) if turn.place == place)
        return next(found, None)

    def before(self, place: str) -> Conversation:
        """The conversation as it was before this place asked."""
        return self.until(self.index(place))

    def until(self, count: int | None) -> Conversation:
        """The first ``count`` turns, all without one."""
        return self._with_turns(self.turns[:count])

    def put(self, turn: Turn, *, after: str | None = None) -> Conversation:
        """``turn`` in the place of the one of the same ``place``, or else behind the others.

        A new one is put behind the turn of the place ``after``, where that is given and known.
        """
        index = self.index(turn.place)
        if index is not None:
            rest = self.turns[index + 1 :]
        else:
            previous = None if after is None else self.index(after)
            index = len(self.turns) if previous is None else previous + 1
            rest = self.turns[index:]
        stale = tuple(replace(later, is_stale=True) for later in rest)
        return self._with_turns((*self.turns[:index], turn, *stale))

    def settled(self, turn: Turn) -> Conversation:
        """``turn`` for the one of its place, as its answer comes; unchanged if that was removed."""
        turns = tuple(turn if old.place == turn.place else old for old in self.turns)
        return replace(self, turns=turns)

    def without(self, places: set[str]) -> Conversation:
        """All turns but those of these places."""
        return self._with_turns(tuple(turn for turn in self.turns if turn.place not in places))

    def messages(self, question: Message) -> tuple[Message, ...]:
        """What to send for ``question`` at the end."""
        parts = [self.system] if self.system else []
        if self.summary is not None:
            parts.append(f"{_SUMMARY}{self.summary.text}")
        system = (Message("system", "\n\n".join(parts)),) if parts else ()
        earlier = (message for turn in self.unsummarised for message in turn.messages)
        return (*system, *earlier, question)

    @property
    def unsummarised(self) -> tuple[Turn, ...]:
        """The turns that are sent as they are."""
        covered = () if self.summary is None else self.summary.places
        return tuple(turn for turn in self.turns if turn.place not in covered)

    def _with_turns(self, turns: tuple[Turn, ...]) -> Conversation:
        """With these turns; the summary is kept only while all that it covers is unchanged."""
        covered = set() if self.summary is None else set(self.summary.places)
        is_same = [t for t in turns if t.place in covered] == [
            t for t in self.turns if t.place in covered
        ]
        return replace(self, turns=turns, summary=self.summary if is_same else None)
