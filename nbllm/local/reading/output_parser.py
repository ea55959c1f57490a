"""Reasoning and tool calls in what a model writes, told apart from its answer.

The parser takes text in whatever pieces it comes and gives the same whichever they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Literal, Protocol

from nbllm.core.answer import Answer
from nbllm.core.types import Event
from nbllm.local.formats.base import Call, NoCallError, Part, Tools
from nbllm.local.formats.json_calls import decoded
from nbllm.local.reading.addressed_messages import HarmonyParser, RecipientParser
from nbllm.local.reading.call_bounds import BlockEnd, add_calls, bare_call_at, open_end
from nbllm.local.reading.output_format import Block, OutputFormat

__all__ = ["MarkParser", "Parser", "output_parser"]

_SEPARATORS = re.compile(r"[\s;,]*")


class Parser(Protocol):
    """Tells an ``Answer`` of its text."""

    def take(self, text: str, *, final: bool, cut: bool = False) -> Iterator[Event]:
        """The events of another piece of text, and of the answer's end behind the last.

        ``cut`` says that the answer ends where the model had not come to its end.
        """


def output_parser(form: OutputFormat, answer: Answer, tools: Tools) -> Parser:
    """The parser for a format; ``tools`` are those of the request, with their schemas."""
    match form.dialect:
        case "marks":
            return MarkParser(form, answer, tools)
        case "harmony" | "muse":
            return HarmonyParser(answer, tools, form.thinking)
        case "functionary":
            return RecipientParser(answer, tools)


@lru_cache(maxsize=64)
def _any_of(marks: tuple[str, ...]) -> re.Pattern[str]:
    """The first of the marks, of two that begin alike the longer one."""
    return re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))) or r"(?!)")


class MarkParser:
    """For answers with marks in them: reasoning, wrappers and calls."""

    def __init__(self, form: OutputFormat, answer: Answer, tools: Tools) -> None:
        self._form, self._answer, self._tools = form, answer, tools
        self._block = form.thinking
        self._call: tuple[str, str] | None = None
        self._call_end: BlockEnd | None = None
        self._wrapped = ""
        self._held = ""
        self._has_said = self._is_cut = False

    def take(self, text: str, *, final: bool, cut: bool = False) -> Iterator[Event]:
        """See ``Parser``."""
        self._is_cut = cut
        if not (self._form.blocks or self._form.wrappers or self._form.calls):
            yield from self._answer.text(text)
            return
        self._held += text
        while self._held:
            before = len(self._held), self._block, self._call
            yield from self._step(final=final)
            if (len(self._held), self._block, self._call) == before:
                return

    def _step(self, *, final: bool) -> Iterator[Event]:
        if self._call is not None:
            return self._in_call(self._call, final=final)
        if self._block is not None:
            return self._in_reasoning(self._block, final=final)
        return self._outside(final=final)

    # ------------------------------------------------------------ outside of all marks

    def _outside(self, *, final: bool) -> Iterator[Event]:
        self._pass_separators()
        marks = self._marks()
        found = _any_of(tuple(marks)).search(self._held)
        if found is not None and not final and self._may_grow(found, marks):
            yield from self._say(self._cut(found.start()))
            return
        bare = self._bare(final=final)
        if bare is not None and (found is None or bare[0] < found.start()):
            yield from self._bare_call(*bare)
        elif found is not None:
            yield from self._meet(found, marks[found[0]], final=final)
        else:
            kept = 0 if final else open_end(self._held, tuple(marks))
            yield from self._say(self._cut(len(self._held) - kept))

    def _may_grow(self, found: re.Match[str], marks: Mapping[str, Block | str]) -> bool:
        """Whether a mark at the end of what is held may be the beginning of a longer one."""
        rest = self._held[found.start() :]
        return any(len(mark) > len(rest) and mark.startswith(rest) for mark in marks)

    def _marks(self) -> dict[str, Block | str]:
        """The marks that count here, with what they mean."""
        form, said = self._form, self._has_said
        marks: dict[str, Block | str] = {}
        for block in form.blocks:
            if block.anywhere or not said:
                marks |= {block.open: block, block.close: "drop"}
        for wrapper in form.wrappers:
            if wrapper.is_special:
                marks |= {wrapper.open: "drop", wrapper.close: "drop"}
            elif not said:
                marks[wrapper.open] = "wrapper"
        if self._wrapped:
            marks[self._wrapped] = "end"
        if form.calls is not None:
            if self._follows_call:
                marks |= {closing: "drop" for _, closing in form.calls.blocks if closing}
            marks |= dict.fromkeys((opening for opening, _ in form.calls.blocks), "call")
        return marks

    @property
    def _follows_call(self) -> bool:
        segments = self._answer.segments
        return bool(segments) and segments[-1].kind == "call"

    def _pass_separators(self) -> None:
        """Take what stands between two calls: it is no text."""
        if self._follows_call:
            between = _SEPARATORS.match(self._held)
            self._held = self._held[between.end() :] if between else self._held

    def _meet(self, found: re.Match[str], meaning: Block | str, *, final: bool) -> Iterator[Event]:
        """Say what stands before a mark, and go by the mark."""
        mark = found[0]
        if meaning == "end" and self._held[found.end() :].strip():  # more text: it was a word
            self._wrapped = ""
            return
        yield from self._say(self._cut(found.start()))
        if self._marks().get(mark) != meaning:
            return  # behind that text it is a text itself
        if meaning == "end" and not final:
            return
        self._cut(len(mark))
        if isinstance(meaning, Block):
            self._block = meaning
        elif meaning == "wrapper":
            self._wrapped = next(w.close for w in self._form.wrappers if w.open == mark)
        elif meaning == "call" and self._form.calls is not None:
            self._call = next(block for block in self._form.calls.blocks if block[0] == mark)
            self._call_end = BlockEnd(self._form.calls, self._call, self._tools)

    def _cut(self, end: int) -> str:
        """Take the first characters of what is held."""
        text, self._held = self._held[:end], self._held[end:]
        return text

    def _say(self, text: str) -> Iterator[Event]:
        self._has_said = self._has_said or bool(text.strip())
        yield from self._answer.text(self._fresh(text, "text"))

    def _fresh(self, text: str, kind: Literal["text", "reasoning"]) -> str:
        """Without the blank lines that stand between a mark and its text."""
        last = self._answer.segments[-1] if self._answer.segments else None
        return text if last is not None and last.kind == kind else text.lstrip()

    # ------------------------------------------------------------ reasoning

    def _in_reasoning(self, block: Block, *, final: bool) -> Iterator[Event]:
        """Reasoning up to its mark; a call in reasoning that nothing closes ends it."""
        openings = [opening for opening, _ in self._form.calls.blocks] if self._form.calls else []
        close = self._held.find(block.close)
        call = _any_of(tuple(openings)).search(self._held)
        if close >= 0:
            yield from self._think(self._cut(close).rstrip())
            self._cut(len(block.close))
            self._block = None
        elif call is None:
            yield from self._think(self._cut(self._settled((block.close, *openings), final=final)))
        elif not final:
            yield from self._think(self._cut(len(self._held[: call.start()].rstrip())))
        else:
            yield from self._end_in_call(call)

    def _end_in_call(self, call: re.Match[str]) -> Iterator[Event]:
        """The answer has ended within reasoning: it was one where a call can be read in it."""
        probe = MarkParser(OutputFormat(calls=self._form.calls), Answer(), self._tools)
        list(probe.take(self._held[call.start() :], final=True))
        if probe._answer.calls:
            yield from self._think(self._cut(call.start()).rstrip())
            self._block = None
        else:
            yield from self._think(self._cut(len(self._held)))

    def _think(self, text: str) -> Iterator[Event]:
        yield from self._answer.reasoning(self._fresh(text, "reasoning"))

    def _settled(self, marks: Sequence[str], *, final: bool) -> int:
        """How much of what is held cannot be a mark's beginning, or the blanks before one."""
        if final:
            return len(self._held)
        kept = open_end(self._held, marks)
        return len(self._held[: len(self._held) - kept].rstrip())

    # ------------------------------------------------------------ calls

    def _in_call(self, block: tuple[str, str], *, final: bool) -> Iterator[Event]:
        """The calls in a block; what is none is text, so that nothing is lost."""
        assert self._call_end is not None  # noqa: S101 - set together with the block
        opening, closing = block
        found = self._call_end.find(self._held, final=final)
        if found is None and not final:
            return
        whole = self._call_end.whole(self._held, cut=self._is_cut) if found is None else 0
        end, after = found or (whole, len(self._held))
        head = opening if opening.endswith("=") else ""
        parts = self._read(head + self._held[:end])
        if not parts:  # marks in broken quotes end a block too
            end = after = _behind(self._held, closing, after)
            parts = [opening + self._held[:after]]
        elif found is None:
            parts = [*parts, *filter(str.strip, [self._held[end:]])]
        self._held, self._call = self._held[after:], None
        yield from self._tell(parts)

    def _tell(self, parts: Sequence[Part]) -> Iterator[Event]:
        for part in parts:
            if isinstance(part, Call):
                yield from add_calls(self._answer, [part])
            else:
                yield from self._say(part)

    def _read(self, body: str) -> Sequence[Part]:
        assert self._form.calls is not None  # noqa: S101 - for the type checker
        try:
            return self._form.calls.read(body, self._tools)
        except NoCallError:
            return ()

    def _bare(self, *, final: bool) -> tuple[int, int] | None:
        """Where a call without marks begins and ends."""
        calls = self._form.calls
        if calls is None or calls.bare == "no":
            return None
        start_only = calls.bare == "start"
        if start_only and self._has_said:
            return None
        return bare_call_at(self._held, self._tools, start_only=start_only, final=final)

    def _bare_call(self, start: int, end: int) -> Iterator[Event]:
        """What may be a call: all up to it is text, and it is held where it is not whole."""
        yield from self._say(self._cut(start))
        if end < 0:
            return
        body = self._cut(end - start)
        calls = [part for part in self._read(body) if isinstance(part, Call)]
        if calls and all(call.name in self._tools for call in calls):
            yield from add_calls(self._answer, calls)
        else:
            yield from self._say(_response(body) or body)


def _behind(text: str, closing: str, after: int) -> int:
    """Where the text goes on behind a block in which no call can be read."""
    end = text.find(closing) if closing else -1
    return min(end + len(closing), after) if end >= 0 else after


def _response(body: str) -> str | None:
    """The answer in the JSON that nbllm's instructions ask for."""
    try:
        value = decoded(body)
    except NoCallError:
        return None
    response = value.get("response") if isinstance(value, Mapping) else None
    return response if isinstance(response, str) else None
