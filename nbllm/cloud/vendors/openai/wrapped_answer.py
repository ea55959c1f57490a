"""Answers that come in an object around the value, which OpenAI's strict mode insists on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nbllm.cloud.vendors.schemas import wraps
from nbllm.core.answer import Answer
from nbllm.core.types import Event, FinishReason, GenerationRequest

__all__ = ["WrappedAnswer", "answer_to"]

_OPENING = re.compile(r'\s*\{\s*"value"\s*:\s*')
_MAY_OPEN = re.compile(r'\s*(\{\s*("(v(a(l(u(e("(\s*(:\s*)?)?)?)?)?)?)?)?)?)?')


def answer_to(request: GenerationRequest, signer: str) -> Answer:
    """An empty answer to a request, which may come in an object; see ``openai_schema``."""
    is_wrapped = wraps(request.options.response_schema)
    return WrappedAnswer(signer) if is_wrapped else Answer(signer)


class WrappedAnswer(Answer):
    """Takes ``{"value": …}`` away from around an answer's text while it arrives.

    A text that does not begin so stays as typed: not every server follows the schema.
    """

    _held = ""
    _is_open: bool | None = None  # None: that is not sure yet
    _depth = 0
    _in_text = _is_escaped = _is_closed = False

    def text(self, more: str) -> Sequence[Event]:
        """More text, of which the inside of the object counts."""
        if self._is_open is None:
            self._held += more
            more = self._begun()
        if self._is_open:
            more = self._inside(more)
        return super().text(more)

    def _begun(self) -> str:
        """What stands behind the opening, or all, as soon as it is sure which."""
        match = _OPENING.match(self._held)
        if match is not None and match.end() < len(self._held):
            self._is_open = True
            return self._held[match.end() :]
        if _MAY_OPEN.fullmatch(self._held):
            return ""
        self._is_open = False
        return self._held

    def _inside(self, more: str) -> str:
        """The part of a piece that belongs to the value: up to the brace that closes the object."""
        if self._is_closed:
            return ""
        for at, sign in enumerate(more):
            self._note(sign)
            if self._is_closed:
                return more[:at].rstrip()
        return more

    def _note(self, sign: str) -> None:
        """Follow the value's strings and brackets."""
        if self._in_text:
            self._in_text = self._is_escaped or sign != '"'
            self._is_escaped = sign == "\\" and not self._is_escaped
        elif sign == '"':
            self._in_text = True
        elif sign in "{[":
            self._depth += 1
        elif sign in "}]":
            self._is_closed = self._depth == 0
            self._depth -= 1

    def ended(self, reason: FinishReason, raw: str | None) -> None:
        """The end marker has come; what was cut off before the value is text after all."""
        if self._is_open is None and self._held:
            super().text(self._held)
        super().ended(reason, raw)
