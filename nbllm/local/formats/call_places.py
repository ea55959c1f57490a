"""Where calls and their values begin and end in a text whose values may hold marks themselves.

What is found in the beginning of a text is found in the whole too: a text may still arrive.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from nbllm.local.formats.base import Marks, Tools, declared_in

__all__ = ["Value", "Walk", "Written", "json_end"]

_LOOK_AHEAD = 300  # characters behind a mark that tell whether it is one
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Value:
    """A value as it is written; ``is_text`` is what its mark says of it."""

    text: str
    is_text: bool | None = None


@dataclass(slots=True)
class Written:
    """A call that begins at ``start``; ``end`` is -1 where no mark has ended it.

    ``json`` are its arguments where they stand there as JSON. ``is_broken`` says that tags stand
    between its values that nothing reads: an argument may be in them.
    """

    name: str
    start: int
    end: int = -1
    values: dict[str, Value] = field(default_factory=dict)
    json: str | None = None
    is_broken: bool = False


class _UndecidedError(Exception):
    """More text must come first."""


class Walk:
    """Walks over the text of a block from mark to mark; every mark is looked for once.

    ``block`` are its marks, "" where the text is known to hold neither. Attributes: ``calls`` that
    begin in it; ``end``, where the closing mark or the next block begins, -1 where none does, and
    ``after``, behind the closing mark; ``is_open``, whether the text ends within a value;
    ``is_decided``, whether more text would change none of it.
    """

    def __init__(
        self,
        text: str,
        marks: Marks,
        tools: Tools,
        block: tuple[str, str] = ("", ""),
        *,
        final: bool = True,
    ) -> None:
        self._text, self._marks, self._tools, self._final = text, marks, tools, final
        self._opening, self._closing = block
        self.calls: list[Written] = []
        self.end = self.after = -1
        self.is_open, self.is_decided = False, True
        self._declared_opens: dict[str, list[int]] = {}
        self._look()
        try:
            self._walk()
        except _UndecidedError:
            self.is_decided = False

    def _look(self) -> None:
        """Find all marks; what stands behind a closing mark tells whether it can be one."""
        text, marks = self._text, self._marks
        complete = len(text) + self._final
        self._begins = [b for b in marks.begin.finditer(text) if b.end() < complete]
        self._opens = list(marks.open.finditer(text))
        self._closes = _places(text, marks.close)
        self._ends = _places(text, marks.end)
        self._closings = _places(text, self._closing)
        own = self._opening.endswith("=")  # the text begins with the mark then
        self._openings = _places(text, self._opening)[own:]
        told = [(at, self._is_sure(at)) for at in self._closes]
        self._sure = [at for at, sure in told if sure is not False]
        self._unsure = {at for at, sure in told if sure is None}
        self._borders = [b.start() for b in self._begins if self._is_border(b.start())]

    def _is_sure(self, close: int) -> bool | None:
        """Whether another mark or the end follows a closing mark; None where more must come."""
        behind = close + len(self._marks.close)
        rest = self._text[behind : behind + _LOOK_AHEAD].lstrip()
        followers = [*filter(None, (self._marks.end, self._closing, self._opening))]
        if self._marks.open.match(rest) or rest.startswith(tuple(followers)):
            return True
        if behind + _LOOK_AHEAD < len(self._text):
            return False
        if self._final:
            return not rest
        may_follow = {self._marks.close[0], *(mark[0] for mark in followers)}
        return None if not rest or rest[0] in may_follow else False

    def _is_border(self, begin: int) -> bool:
        """Whether a mark that ends a call or begins a block stands before the next call."""
        before = self._text[max(0, begin - _LOOK_AHEAD) : begin].rstrip()
        marks = (self._marks.end, self._closing, self._opening)
        return before.endswith(tuple(filter(None, marks)))

    # ------------------------------------------------------------ the walk

    def _walk(self) -> None:
        position = 0
        while self.end < 0:
            begin = _from(self._begins, position)
            opened = _from(self._opens, position)
            found = [
                (opened.start() if opened else -1, "open"),
                (begin.start() if begin else -1, "begin"),
                (_first(self._ends, position), "end"),
                (_first(self._closings, position), "closing"),
                (_first(self._openings, position), "opening"),
            ]
            at, kind = min(((at, kind) for at, kind in found if at >= 0), default=(-1, ""))
            if at < 0:
                if not self._final:
                    raise _UndecidedError
                return
            if kind != "begin":
                self._pass_rest(self._text[position:at])
            position = self._pass(kind, at, begin, opened)

    def _pass(
        self, kind: str, at: int, begin: re.Match[str] | None, opened: re.Match[str] | None
    ) -> int:
        """Go by one mark; the position behind it."""
        if kind == "begin" and begin is not None:
            self._end_call(at)
            self.calls.append(Written(begin["name"].strip("\"' \n"), at))
            return self._pass_json(begin.end())
        if kind == "open" and opened is not None:
            return self._pass_value(opened)
        if kind == "end":
            behind = at + len(self._marks.end)
            self._end_call(behind)
            if self._closing == self._marks.end:
                self.end, self.after = behind, behind
            return behind
        self._end_call(at)
        self.end = at
        self.after = at + (len(self._closing) if kind == "closing" else 0)
        return at

    def _pass_rest(self, text: str) -> None:
        """Go by what stands between two marks of a call."""
        if self.calls and self.calls[-1].end < 0 and "<" in text.replace(self._marks.close, ""):
            self.calls[-1].is_broken = True

    def _end_call(self, at: int) -> None:
        if self.calls and self.calls[-1].end < 0:
            self.calls[-1].end = at

    def _pass_json(self, start: int) -> int:
        """Arguments that stand behind the call's beginning as JSON (Llama 3.1, Functionary)."""
        head = self._text[start : start + _LOOK_AHEAD]
        begin = start + len(head) - len(head.lstrip())
        if self.is_open or not self._text.startswith("{", begin):
            return start
        end = json_end(self._text, begin)
        if end < 0 and not self._final:
            raise _UndecidedError
        self.is_open = end < 0  # all that follows is in it, as far as brackets tell
        self.calls[-1].json = self._text[begin:] if end < 0 else self._text[begin:end]
        return max(end, begin)

    def _pass_value(self, opened: re.Match[str]) -> int:
        start, is_in_another = opened.end(), self.is_open
        quoted = self._quoted(start)
        end, after = quoted or self._value_end(start)
        told = opened.groupdict().get("text")
        text = self._text[start:end]
        if quoted and self._marks.quotes:
            text = text[len(self._marks.quotes[0]) :]
        else:
            text = text.removeprefix("\n").removesuffix("\n")
        if self.calls and not is_in_another:
            is_text = None if not told else told in ("true", "string")
            self.calls[-1].values[opened["key"].strip()] = Value(text, is_text)
        return after

    def _quoted(self, start: int) -> tuple[int, int] | None:
        """Where a value in quotes ends, and where the text goes on."""
        if self._marks.quotes is None:
            return None
        opening, closing = self._marks.quotes
        head = self._text[start : start + len(opening)]
        if head != opening:
            if not self._final and opening.startswith(head):
                raise _UndecidedError
            return None
        end = self._text.find(closing + self._marks.close, start)
        if end >= 0:
            return end, end + len(closing) + len(self._marks.close)
        if not self._final:
            raise _UndecidedError
        return None

    def _value_end(self, start: int) -> tuple[int, int]:
        """Where a value ends, and where the text goes on."""
        border = _first(self._borders, start)
        lost = self._declared(start)
        sure = _first(self._sure, start)
        others = [at for at in (border, lost) if at >= 0]
        if sure >= 0 and all(sure < at for at in others):
            if sure in self._unsure:
                raise _UndecidedError
            return sure, sure + len(self._marks.close)
        if lost >= 0 and (border < 0 or lost < border):
            return lost, lost
        if border < 0 and not self._final:
            raise _UndecidedError
        return self._lost_end(start, border if border >= 0 else len(self._text))

    def _lost_end(self, start: int, border: int) -> tuple[int, int]:
        """Where a value ends that no mark surely ends before ``border``."""
        close = _first(self._closes, start)
        if 0 <= close < border:
            return close, close + len(self._marks.close)
        ends = [_first(places, start) for places in (self._ends, self._closings, self._openings)]
        end = min((at for at in ends if 0 <= at < border), default=border)
        self.is_open = end == len(self._text)
        return end, end

    def _declared(self, start: int) -> int:
        """Where a parameter begins that the tool has: of a value before it the mark is lost."""
        name = self.calls[-1].name if self.calls else ""
        if name not in self._declared_opens:
            keys = declared_in(self._tools.get(name, {}))
            self._declared_opens[name] = [
                opened.start() for opened in self._opens if opened["key"].strip() in keys
            ]
        return _first(self._declared_opens[name], start)


def json_end(text: str, start: int) -> int:
    """Behind the bracket that closes the one at ``start``; -1 where it is not there."""
    depth = 0
    for token in _JSON_TOKEN.finditer(text, start):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
            if not depth:
                return token.end()
    return -1


def _places(text: str, mark: str) -> list[int]:
    return [found.start() for found in re.finditer(re.escape(mark), text)] if mark else []


def _first(places: Sequence[int], start: int) -> int:
    """The first of ascending places from ``start`` on; -1 where there is none."""
    at = bisect_left(places, start)
    return places[at] if at < len(places) else -1


def _from(matches: Sequence[re.Match[str]], start: int) -> re.Match[str] | None:
    at = bisect_left(matches, start, key=lambda found: found.start())
    return matches[at] if at < len(matches) else None
