"""What Functionary v3.2 writes: messages, each behind ``>>>`` and whom it is for.

The prompt ends with the first ``>>>``. A message for ``all`` is text, one for a tool its arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nbllm.core.answer import Answer
from nbllm.core.types import Event
from nbllm.local.formats.base import NoCallError, Tools
from nbllm.local.formats.functionary import message_to
from nbllm.local.reading.call_bounds import add_calls, open_end

__all__ = ["RecipientParser"]

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
