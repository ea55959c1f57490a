"""A grammar at work: which bytes may come next, as states that are made when they are met.

A state is the set of steps that wait for a character, each with the calls that it is in. Calls
that return to the same step are one *frame* with several callers, so that their number stays small
however ambiguous the grammar is (the graph-structured stack of generalised parsers, Tomita 1985).
States are values: the same set is the same object, whose transitions are remembered.

Making a state costs credit, and each token of an answer brings some. A grammar that uses up more
than that is refused, so that no answer can hold up the others.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from nbllm.core.grammars.gbnf import GrammarError, Token
from nbllm.core.grammars.grammar_program import CHARS, RETURN, SPLIT, TOKEN, Program

__all__ = ["Automaton", "State"]

_MOST_KEPT = 4_000
"""Frames and states that are remembered before all but the current ones are forgotten."""
_CREDIT, _MOST_CREDIT = 20_000, 400_000
"""Steps that a token may cost in the long run, and that may be saved up: 10 and 200 ms or so."""


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """A call: where it returns to, and in which calls that is; None is in none."""

    onward: int
    callers: tuple[_Frame | None, ...]


@dataclass(slots=True, eq=False)
class _OpenFrame:
    """A call that was made at the present place and may still get callers."""

    onward: int
    callers: dict[Any, None] = field(default_factory=dict)
    returned: bool = False


_Waiting: TypeAlias = "tuple[int, _Frame | None]"


@dataclass(slots=True, eq=False)
class State:
    """A place in the text. ``accepts``: it may end here.

    ``waiting`` are steps with their frames: ``singles`` want one character, ``others`` one of
    several, ``tokens`` a token. In the middle of a character ``missing`` bytes of it
    are to come, behind those that make up ``begun``.
    """

    waiting: tuple[_Waiting, ...]
    singles: dict[int, list[_Waiting]]
    others: tuple[_Waiting, ...]
    tokens: tuple[_Waiting, ...]
    accepts: bool = False
    begun: int = 0
    missing: int = 0
    next: dict[int, State | None] = field(default_factory=dict)
    after_token: dict[int, State | None] = field(default_factory=dict)


class Automaton:
    """Runs a program over bytes.

    Its methods raise ``GrammarError`` where the grammar is too ambiguous to be followed.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._frames: dict[Any, _Frame] = {}
        self._states: dict[Any, State] = {}
        self._credit = _MOST_CREDIT

    def begin(self) -> State:
        """The state of an empty text."""
        return self._closed([(self._program.start, None)])

    def earn(self) -> None:
        """The text grew by a token: more work may be done."""
        self._credit = min(self._credit + _CREDIT, _MOST_CREDIT)
        if len(self._frames) + len(self._states) > _MOST_KEPT:
            self._frames.clear()
            self._states.clear()

    def walk(self, state: State, data: bytes) -> State | None:
        """The state behind these bytes; None where they are not allowed."""
        return self._far(state, data)[1]

    def allowed(self, state: State, texts: Sequence[bytes]) -> list[int]:
        """The places of those of ``texts``, which are sorted, that are allowed here."""
        found, at = list[int](), 0
        while at < len(texts):
            taken, end = self._far(state, texts[at])
            if end is not None:
                found.append(at)
                at += 1
            else:  # nothing that begins like this is allowed
                at = _behind(texts, at, texts[at][: taken + 1])
        return found

    def _far(self, state: State, data: bytes) -> tuple[int, State | None]:
        """How many of the bytes are allowed; and the state behind them, if that is all."""
        for count, byte in enumerate(data):
            try:
                onward = state.next[byte]
            except KeyError:
                onward = state.next[byte] = self._step(state, byte)
            if onward is None:
                return count, None
            state = onward
        return len(data), state

    def take_character(self, state: State, point: int) -> State | None:
        """The state behind a whole character."""
        arguments, after = self._program.arguments, self._program.after
        matching = [
            *state.singles.get(point, ()),
            *(pair for pair in state.others if point in arguments[pair[0]]),
        ]
        self._pay(len(state.others) + len(matching))
        return self._closed([(after[at], frame) for at, frame in matching]) if matching else None

    def take_token(self, state: State, token: int) -> State | None:
        """The state behind a token that the grammar names by itself."""
        if token not in state.after_token:
            seeds = [
                (self._program.after[at], frame)
                for at, frame in state.tokens
                if _names(self._program.arguments[at], token)
            ]
            state.after_token[token] = self._closed(seeds) if seeds else None
        return state.after_token[token]

    def joined(self, one: State | None, other: State | None) -> State | None:
        """The state of a text that has led to both."""
        if one is None or other is None:
            return one or other
        accepts = one.accepts or other.accepts
        return self._state({*one.waiting, *other.waiting}, accepts=accepts)

    # ------------------------------------------------------------ bytes

    def _step(self, state: State, byte: int) -> State | None:
        if state.missing:
            return self._continued(state, byte)
        if byte < 0x80:
            return self.take_character(state, byte)
        for first, missing in ((0xF0, 3), (0xE0, 2), (0xC2, 1)):
            if byte >= first:
                begun = byte & (0x3F >> missing)
                return self._partial(state, begun, missing) if byte <= 0xF4 else None
        return None

    def _continued(self, state: State, byte: int) -> State | None:
        least = {2: 0xA0, 3: 0x90}.get(state.missing, 0x80) if state.begun == 0 else 0x80
        if not least <= byte <= 0xBF:  # less would be a longer form of a shorter character
            return None
        begun, missing = state.begun << 6 | byte & 0x3F, state.missing - 1
        return (
            self._partial(state, begun, missing) if missing else self.take_character(state, begun)
        )

    def _partial(self, state: State, begun: int, missing: int) -> State | None:
        """In the middle of a character, those steps wait on that it can still satisfy."""
        low, high = begun << 6 * missing, (begun + 1 << 6 * missing) - 1
        if not state.missing:  # shorter characters have no such first byte
            low = max(low, (0x80, 0x800, 0x10000)[missing - 1])
        kinds, arguments = self._program.kinds, self._program.arguments
        self._pay(len(state.waiting))
        kept = {
            (at, frame)
            for at, frame in state.waiting
            if kinds[at] == CHARS and arguments[at].meets(low, high)
        }
        return self._state(kept, begun=begun, missing=missing) if kept else None

    # ------------------------------------------------------------ calls

    def _closed(self, seeds: Iterable[_Waiting]) -> State:
        """The state of all steps that wait for something, from ``seeds`` on."""
        program, work = self._program, 0
        kinds, arguments, after = program.kinds, program.arguments, program.after
        frames: dict[int, _OpenFrame] = {}
        todo: list[tuple[int, Any]] = list(seeds)
        seen: set[tuple[int, Any]] = set()
        waiting: list[tuple[int, Any]] = []
        accepts = False
        while todo:
            place = at, frame = todo.pop()
            if place in seen:
                continue
            seen.add(place)
            kind = kinds[at]
            if kind <= TOKEN:
                waiting.append(place)
            elif kind == SPLIT:
                todo += [(branch, frame) for branch in arguments[at]]
            elif kind == RETURN:
                accepts |= frame is None
                todo += _returns(frame)
            elif kinds[after[at]] == RETURN:  # the last call of a rule returns to its caller's
                todo.append((arguments[at], frame))
            else:
                opened = frames.setdefault(after[at], _OpenFrame(after[at]))
                opened.callers[frame] = None
                todo.append((arguments[at], opened))
                if opened.returned:
                    todo.append((opened.onward, frame))
            work += 1
            if work > self._credit:
                break
        self._pay(work)
        kept: dict[_OpenFrame, _Frame] = {}
        return self._state({(at, self._kept(f, kept)) for at, f in waiting}, accepts=accepts)

    def _kept(self, frame: Any, kept: dict[_OpenFrame, _Frame]) -> _Frame | None:
        """An open frame as the one that is remembered for its callers, which come first."""
        todo = [frame] if isinstance(frame, _OpenFrame) else []
        while todo:
            top = todo[-1]
            open_callers = [c for c in top.callers if isinstance(c, _OpenFrame) and c not in kept]
            todo += open_callers
            self._pay(len(top.callers))
            if not open_callers:
                callers = frozenset(kept.get(caller, caller) for caller in top.callers)
                made = _Frame(top.onward, tuple(callers))
                kept[top] = self._frames.setdefault((top.onward, callers), made)
                todo.pop()
        result: _Frame | None = kept.get(frame, frame)
        return result

    def _state(
        self, waiting: set[_Waiting], *, accepts: bool = False, begun: int = 0, missing: int = 0
    ) -> State:
        key = (frozenset(waiting), accepts, begun, missing)
        if key not in self._states:
            self._states[key] = self._made(
                tuple(waiting), accepts=accepts, begun=begun, missing=missing
            )
        return self._states[key]

    def _made(self, waiting: tuple[_Waiting, ...], **place: Any) -> State:
        singles: dict[int, list[_Waiting]] = {}
        others, tokens = list[_Waiting](), list[_Waiting]()
        for pair in waiting:
            argument = self._program.arguments[pair[0]]
            if isinstance(argument, Token):
                tokens.append(pair)
            elif argument.single is not None:
                singles.setdefault(argument.single, []).append(pair)
            else:
                others.append(pair)
        return State(waiting, singles, tuple(others), tuple(tokens), **place)

    def _pay(self, steps: int) -> None:
        self._credit -= steps
        if self._credit < 0:
            raise GrammarError(
                "the grammar is too ambiguous to parse in reasonable time; make its "
                "alternatives differ at the beginning"
            )


def _returns(frame: _Frame | _OpenFrame | None) -> list[tuple[int, Any]]:
    """Where a rule goes on that has ended in this frame."""
    if frame is None:
        return []
    if isinstance(frame, _OpenFrame):
        frame.returned = True
    return [(frame.onward, caller) for caller in frame.callers]


def _behind(texts: Sequence[bytes], at: int, prefix: bytes) -> int:
    """The place of the first text behind those that begin with ``prefix``."""
    stem = prefix.rstrip(b"\xff")
    if not stem:
        return len(texts)
    return bisect_left(texts, stem[:-1] + bytes([stem[-1] + 1]), at + 1)


def _names(token: Token, number: int) -> bool:
    return (token.id == number) != token.negated
