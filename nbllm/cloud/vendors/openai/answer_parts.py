"""Parts of answers of both APIs: usage, log-probabilities, and reasoning within the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any, Literal, TypeAlias

from nbllm.cloud.vendors.json_values import count
from nbllm.cloud.vendors.token_counts import as_object, cost_of, known_count
from nbllm.core.types import TokenLogprob, Usage

__all__ = ["InlineReasoning", "Piece", "chat_usage", "read_logprobs", "responses_usage"]


def chat_usage(value: object) -> Usage:
    """That of Chat Completions."""
    usage = as_object(value)
    read, written = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached = as_object(read).get("cached_tokens")
    if cached is None:  # DeepSeek, Moonshot
        cached = usage.get("prompt_cache_hit_tokens", usage.get("cached_tokens"))
    # Perplexity tells its reasoning beside the other counts.
    reasoning = count(as_object(written).get("reasoning_tokens", usage.get("reasoning_tokens")))
    prompt = known_count(usage, "prompt_tokens")
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=_written(
            usage, known_count(usage, "completion_tokens"), prompt, reasoning
        ),
        cached_tokens=count(cached),
        cache_write_tokens=count(as_object(read).get("cache_write_tokens")),  # OpenRouter
        reasoning_tokens=reasoning,
        cost_usd=cost_of(usage),
    )


def responses_usage(value: object) -> Usage:
    """That of the Responses API."""
    usage = as_object(value)
    prompt = known_count(usage, "input_tokens")
    reasoning = count(as_object(usage.get("output_tokens_details")).get("reasoning_tokens"))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=_written(usage, known_count(usage, "output_tokens"), prompt, reasoning),
        cached_tokens=count(as_object(usage.get("input_tokens_details")).get("cached_tokens")),
        reasoning_tokens=reasoning,
        cost_usd=cost_of(usage),
    )


def _written(
    usage: Mapping[str, Any], completion: int | None, prompt: int | None, reasoning: int
) -> int | None:
    """The tokens of an answer with its reasoning.

    xAI counts reasoning outside the completion, which the total shows. Where reasoning is more
    than all that was written, as with Perplexity, it is outside too.
    """
    if completion is None:
        return None
    total = count(usage.get("total_tokens"))
    outside = total - (prompt or 0) - completion
    if reasoning > completion or (reasoning and outside == reasoning):
        return completion + reasoning
    return completion


def read_logprobs(value: object) -> list[TokenLogprob]:
    """Those of a choice: OpenAI's form, or the older one of lists, which Together still sends."""
    if not isinstance(value, dict):
        return []
    content = value.get("content")
    if isinstance(content, list):
        return [token for item in content if (token := _token(item)) is not None]
    return list(_older(value))


def _token(value: object) -> TokenLogprob | None:
    if not isinstance(value, dict):
        return None
    text, number = value.get("token"), _logprob(value.get("logprob"))
    if not isinstance(text, str) or number is None:
        return None
    top = value.get("top_logprobs")
    others = map(_token, top if isinstance(top, list) else ())
    known = tuple(token for token in others if token is not None)
    return TokenLogprob(text, number, _bytes(value.get("bytes")), known)


def _older(value: Mapping[str, Any]) -> Iterator[TokenLogprob]:
    tokens, numbers = value.get("tokens"), value.get("token_logprobs")
    if not (isinstance(tokens, list) and isinstance(numbers, list)):
        return
    top = value.get("top_logprobs")
    for text, told, others in zip_longest(tokens, numbers, top if isinstance(top, list) else ()):
        number = _logprob(told)
        if isinstance(text, str) and number is not None:
            yield TokenLogprob(text, number, None, tuple(_others(others)))


def _others(value: object) -> Iterator[TokenLogprob]:
    for text, told in value.items() if isinstance(value, dict) else ():
        number = _logprob(told)
        if number is not None:
            yield TokenLogprob(str(text), number)


def _logprob(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if value <= 0 or abs(value) < 1 else None  # NaN is neither


def _bytes(value: object) -> bytes | None:
    try:
        return bytes(value) if isinstance(value, list) else None
    except (TypeError, ValueError):
        return None


Piece: TypeAlias = tuple[Literal["text", "reasoning"], str]

_MARKS = {
    "<think>": "</think>",  # DeepSeek R1, Qwen 3, Perplexity, MiniMax
    "[THINK]": "[/THINK]",  # Magistral
    "◁think▷": "◁/think▷",  # Kimi
    "<seed:think>": "</seed:think>",
}
_BEGINNINGS = (*_MARKS, *_MARKS.values())
"""A closing mark may begin a text where the template had written the opening one."""


class InlineReasoning:
    """Splits a text that comes in pieces, cut anywhere, into reasoning and text.

    Only marks at the beginning of the text count: later ones are what the text is about.
    Whitespace around reasoning belongs to the marks.
    """

    def __init__(self) -> None:
        self.is_over = False
        """Whether all that comes is text."""
        self._held = ""
        self._end: str | None = None
        self._is_behind = False
        self._begins = False

    def feed(self, more: str) -> list[Piece]:
        """What is certain now."""
        self._held += more
        pieces: list[Piece] = []
        while self._held and not self.is_over:
            before = len(self._held), self._end
            pieces += self._outside() if self._end is None else self._inside(self._end)
            if (len(self._held), self._end) == before:
                break
        return pieces

    def finish(self) -> list[Piece]:
        """What was held back, at the end of the text or before something else in the answer."""
        rest, inside = self._held, self._end is not None
        self._held, self._end, self._is_behind = "", None, False
        if inside:
            rest = rest.strip()
            return [("reasoning", rest)] if rest else []
        return [("text", rest)] if rest else []

    def _outside(self) -> list[Piece]:
        begin = self._held.lstrip()
        if self._is_behind:
            self._held = begin
        mark = next((mark for mark in _BEGINNINGS if begin.startswith(mark)), None)
        if mark is not None:
            self._held, self._end = begin[len(mark) :], _MARKS.get(mark)
            self._is_behind = self._begins = True
            return []
        if any(mark.startswith(begin) for mark in _BEGINNINGS):
            return []
        self.is_over = True
        text, self._held = self._held, ""
        return [("text", text)]

    def _inside(self, end: str) -> list[Piece]:
        if self._begins:
            self._held = self._held.lstrip()
            self._begins = not self._held
        found = self._held.find(end)
        if found >= 0:
            thought, self._held = self._held[:found].rstrip(), self._held[found + len(end) :]
            self._end = None
        else:
            keep = _kept(self._held, end)
            thought, self._held = self._held[:keep], self._held[keep:]
        return [("reasoning", thought)] if thought else []


def _kept(text: str, end: str) -> int:
    """From where on a text may be the beginning of its end: whitespace, and a part of the mark."""
    size = next((n for n in range(len(end) - 1, 0, -1) if text.endswith(end[:n])), 0)
    return len(text[: len(text) - size].rstrip())
