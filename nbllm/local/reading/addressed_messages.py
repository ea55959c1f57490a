"""Answers made of messages, each of which says for whom it is: gpt-oss, Muse, Functionary."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, TypeAlias

from nbllm.core.answer import Answer
from nbllm.core.types import Event
from nbllm.local.formats.addressed import addressed_calls, message_to
from nbllm.local.formats.base import NoCallError, Tools
from nbllm.local.reading.call_bounds import add_calls, open_end

__all__ = ["HarmonyParser", "RecipientParser"]

_Kind: TypeAlias = Literal["header", "between", "reasoning", "text", "call"]

_MESSAGE, _START, _CHANNEL = "<|message|>", "<|start|>", "<|channel|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|eom|>", "<|eot|>", _START, _CHANNEL)
_LONGEST_MARK = max(map(len, _ENDS))
_END = re.compile("|".join(map(re.escape, _ENDS)))
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")
_NAMED_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_HEADS = (_START, _CHANNEL, "to=", "<|constrain|>", _MESSAGE, "assistant")
_SELF = "self"  # Muse's way to reason
_NOBODY = ("assistant", "user", "all", _SELF)


class HarmonyParser:
    """Tells an ``Answer`` of the messages in a text; see ``Parser``."""

    def __init__(self, answer: Answer, tools: Tools, thinking: object) -> None:
        self._answer, self._tools = answer, tools
        self._kind: _Kind = "header" if thinking is None else "reasoning"
        self._recipient = ""
        self._held = ""
        self._is_cut = False
        self._searched = 0  # so many characters of what is held have no mark in them

    def take(self, text: str, *, final: bool, cut: bool = False) -> Iterator[Event]:
        """See ``Parser``."""
        self._is_cut = cut
        self._held += text
        while self._held:
            before = len(self._held), self._kind
            yield from self._step(final=final)
            if (len(self._held), self._kind) == before:
                return

    def _step(self, *, final: bool) -> Iterator[Event]:
        match self._kind:
            case "header":
                yield from self._header(final=final)
            case "between":
                self._between(final=final)
            case _:
                yield from self._body(final=final)

    def _header(self, *, final: bool) -> Iterator[Event]:
        end = self._held.find(_MESSAGE)
        if not _may_be_header(self._held):
            self._kind = "text"  # a plain answer
        elif end >= 0:
            header = self._held[:end]
            self._held = self._held[end + len(_MESSAGE) :]
            self._kind, self._recipient = self._meaning(header)
            if self._kind == "text" and self._answer.joined("text").strip():
                yield from self._answer.text("\n\n")
        elif final:
            self._held = ""

    def _meaning(self, header: str) -> tuple[_Kind, str]:
        recipient, channel = _RECIPIENT.search(header), _NAMED_CHANNEL.search(header)
        if recipient is not None and recipient[1] not in _NOBODY and self._tools:
            return "call", recipient[1]
        is_own = bool(recipient and recipient[1] == _SELF)
        return ("reasoning" if is_own or (channel and channel[1] == "analysis") else "text"), ""

    def _between(self, *, final: bool) -> None:
        """Behind a message; only a header can follow."""
        self._held = self._held.lstrip()
        found = _END.match(self._held)
        if found is None and not (_may_begin_mark(self._held) and not final):
            self._kind = "header" if _may_be_header(self._held) else "text"
        elif found is not None:
            self._kind = "header" if found[0] in (_START, _CHANNEL) else "between"
            self._held = self._held[found.end() * (found[0] != _CHANNEL) :]

    def _body(self, *, final: bool) -> Iterator[Event]:
        end = _END.search(self._held, self._searched)
        if end is None and self._kind == "call" and not final:
            self._searched = max(0, len(self._held) - _LONGEST_MARK)
            return
        self._searched = 0
        stop = (
            end.start() if end else len(self._held) - (0 if final else open_end(self._held, _ENDS))
        )
        body, self._held = self._held[:stop], self._held[stop:]
        yield from self._tell(body, cut=end is None and self._is_cut)
        if end is not None:
            self._kind = "between"

    def _tell(self, body: str, *, cut: bool) -> Iterator[Event]:
        if self._kind == "reasoning":
            yield from self._answer.reasoning(body)
        elif self._kind == "text":
            yield from self._answer.text(body)
        else:
            try:
                calls = addressed_calls(self._recipient, body, self._tools, cut=cut)
            except NoCallError:
                yield from self._answer.text(body)
            else:
                yield from add_calls(self._answer, calls)


def _may_be_header(text: str) -> bool:
    """Whether a text begins as headers do, as far as it goes."""
    begin = text.lstrip()
    return any(head.startswith(begin[: len(head)]) for head in _HEADS)


def _may_begin_mark(text: str) -> bool:
    return any(end.startswith(text) for end in (*_ENDS, "assistant"))


_EVERYBODY = "all"


class RecipientParser:
    """Tells an ``Answer`` of the messages in a text; see ``Parser``."""

    def __init__(self, answer: Answer, tools: Tools) -> None:
        self._answer, self._tools = answer, tools
        self._marks = tuple(f">>>{name}\n" for name in (_EVERYBODY, *tools))
        self._mark = re.compile("|".join(map(re.escape, self._marks)))
        self._recipient: str | None = None
        self._held = ">>>"

    def take(self, text: str, *, final: bool, cut: bool = False) -> Iterator[Event]:
        """See ``Parser``."""
        self._held += text
        if self._recipient is None:
            self._begin(final=final)
        while self._recipient is not None and (found := self._mark.search(self._held)):
            body, self._held = self._held[: found.start()], self._held[found.end() :]
            yield from self._message(body, cut=False)
            self._recipient = found[0][3:-1]
        if self._recipient is None:
            return
        kept = 0 if final else open_end(self._held, self._marks)
        if final or self._recipient == _EVERYBODY:
            end = len(self._held) - kept
            body, self._held = self._held[:end], self._held[end:]
            yield from self._message(body, cut=cut)

    def _begin(self, *, final: bool) -> None:
        """The first header; an answer without one is text."""
        if found := self._mark.match(self._held):
            self._recipient, self._held = found[0][3:-1], self._held[found.end() :]
        elif final or not any(mark.startswith(self._held) for mark in self._marks):
            self._recipient, self._held = _EVERYBODY, self._held.removeprefix(">>>")

    def _message(self, body: str, *, cut: bool) -> Iterator[Event]:
        name = self._recipient or _EVERYBODY
        if name == _EVERYBODY:
            yield from self._answer.text(body)
            return
        try:
            call = message_to(name, body, self._tools, cut=cut)
        except NoCallError:
            yield from self._answer.text(f"{name}\n{body}")
        else:
            yield from add_calls(self._answer, [call])
