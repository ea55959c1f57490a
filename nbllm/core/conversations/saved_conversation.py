"""A conversation as a value: turns in order, and two states of one conversation put together.

A place is where a question is asked from, in a notebook its cell. Asking again from the same
place puts a new turn where the old one was; the turns behind it stay and are marked as stale,
because they were answered before.

Two states, as two notebooks with one file leave them, have a common ``base``, and each turn is
known by its place:

- What one side changed, added or took away counts; where both did the same, it is the same.
- A turn that both asked anew is kept twice, each with its own answer, and one that a side took away
  and the other asked anew stays: no answer is lost.
- New turns of both sides stand in the order in which they were asked. One that now stands behind a
  turn that its model never saw is stale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from nbllm.core.errors import ConversationError
from nbllm.core.types import FinishReason, GenerationResult, Message, Usage

__all__ = [
    "NAME_RULE",
    "Conversation",
    "Summary",
    "Turn",
    "check_name",
    "is_name",
    "merged",
]

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


_DOUBLED = re.compile(r"\Anotebook \d+: ")
_Value = TypeVar("_Value")


def merged(base: Conversation, ours: Conversation, theirs: Conversation) -> Conversation:
    """What both sides have; of name and system prompt ours counts where both changed them."""
    if base in (ours, theirs):
        return theirs if ours == base else ours
    before, left, right = map(_by_place, (base, ours, theirs))
    kept: dict[str, Turn] = {}
    doubles: dict[str, Turn] = {}
    for place in {**left, **right}:
        old, our, their = before.get(place), left.get(place), right.get(place)
        turn = _one_of(old, our, their)
        if turn is not None:
            kept[place] = turn
            if their is not None and not (_same(turn, their) or _same(old, their)):
                doubles[place] = their
    turns = [kept[turn.place] for turn in ours.turns if turn.place in kept]
    _add_theirs(turns, kept, theirs)
    told = _without_echoes(_with_doubles(_with_staleness(turns, left, right), doubles))
    return replace(
        ours,
        name=_chosen(base.name, ours.name, theirs.name),
        system=_chosen(base.system, ours.system, theirs.system),
        turns=told,
        summary=_summary(told, ours) or _summary(told, theirs),
    )


def _by_place(chat: Conversation) -> dict[str, Turn]:
    return {turn.place: turn for turn in chat.turns}


def _chosen(base: _Value, ours: _Value, theirs: _Value) -> _Value:
    return theirs if ours == base else ours


def _one_of(base: Turn | None, ours: Turn | None, theirs: Turn | None) -> Turn | None:
    """The turn of a place; None where a side took it away that the other had not changed."""
    if ours is None or theirs is None:
        other = ours or theirs
        return None if _same(base, other) else other
    if _same(ours, theirs):
        return replace(ours, is_stale=ours.is_stale or theirs.is_stale)
    return theirs if _same(base, ours) else ours


def _same(one: Turn | None, other: Turn | None) -> bool:
    """Whether these are the same turn, whatever stands before it."""
    if one is None or other is None:
        return False
    return replace(one, is_stale=False) == replace(other, is_stale=False)


def _add_theirs(turns: list[Turn], kept: Mapping[str, Turn], theirs: Conversation) -> None:
    """Put in what only they have: behind the turn it stood behind, and behind what is older."""
    their_places = {turn.place for turn in theirs.turns}
    new = kept.keys() - {turn.place for turn in turns}
    at = 0
    for turn in theirs.turns:
        if turn.place not in new:
            numbers = (number for number, each in enumerate(turns) if each.place == turn.place)
            at = next(numbers, at - 1) + 1
            continue
        while at < len(turns) and turns[at].place not in their_places:
            if turns[at].asked_at > turn.asked_at:
                break
            at += 1
        turns.insert(at, kept[turn.place])
        at += 1


def _with_staleness(
    turns: list[Turn], left: Mapping[str, Turn], right: Mapping[str, Turn]
) -> list[Turn]:
    """Mark turns of one side that stand behind a turn which that side did not have."""
    told, before_left, before_right = [], True, True
    for turn in turns:
        is_ours, is_theirs = turn.place in left, turn.place in right
        has_seen_all = is_ours == is_theirs or (before_left if is_ours else before_right)
        told.append(turn if has_seen_all else replace(turn, is_stale=True))
        before_left, before_right = before_left and is_ours, before_right and is_theirs
    return told


def _with_doubles(turns: list[Turn], doubles: Mapping[str, Turn]) -> list[Turn]:
    """With their turn beside ours where both asked a place anew, the older one first."""
    taken, told = {turn.place for turn in turns}, []
    for turn in turns:
        pair = [turn]
        if turn.place in doubles:
            double = doubles[turn.place]
            pair.append(replace(double, place=_free(turn.place, taken)))
            taken.add(pair[1].place)
            pair.sort(key=lambda each: each.asked_at)
        told += pair
    return told


def _free(place: str, taken: set[str]) -> str:
    """A place for a turn of another notebook, which no cell asks from or takes away."""
    number = 2
    while (name := f"notebook {number}: {place}") in taken:
        number += 1
    return name


def _without_echoes(turns: list[Turn]) -> tuple[Turn, ...]:
    """Without questions that wait for an answer which their double here has got by now."""
    answered = {_question(turn) for turn in turns if turn.finish_reason is not None}
    return tuple(
        turn for turn in turns if turn.finish_reason is not None or _question(turn) not in answered
    )


def _question(turn: Turn) -> tuple[str, str, str]:
    """What a turn and its double have in common, and no two turns that a person asked."""
    return _DOUBLED.sub("", turn.place), turn.asked_at, turn.question.text


def _summary(turns: tuple[Turn, ...], side: Conversation) -> Summary | None:
    """That of a side, as long as the turns that it stands for are all there and unchanged."""
    covered = () if side.summary is None else side.summary.places
    here = {turn.place: turn for turn in turns}
    known = _by_place(side)
    is_whole = all(_same(here.get(place), known.get(place)) for place in covered)
    return side.summary if is_whole else None
