"""Log-probabilities of Chat Completions. What is missing or odd is left out: the answer counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from nbllm.core.types import TokenLogprob

__all__ = ["read_logprobs"]


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
