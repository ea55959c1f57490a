"""One row of a journal as bytes, and read from them: what stands behind its key.

- ``12,34,0.0005{…}"text"`` for an answer: the tokens of the prompt and of the answer and the US
  dollars, as far as they are known, an object for what is unusual, such as a ``finish_reason``
  other than "stop", and the text as JSON
- ``{"error": …}`` for a row that failed
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from nbllm.core.results import FinishReason, GenerationResult, Usage

__all__ = ["Entry", "entry_of", "line_of", "parsed", "row_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row as it ended: with an answer, or with an ``error``."""

    text: str = ""
    finish_reason: FinishReason = FinishReason.STOP
    model: str = ""
    error: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    cost_usd: float | None = None
    label_probabilities: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(cls, result: GenerationResult) -> Entry:
        """What is kept of a result."""
        usage = result.usage
        return cls(
            text=result.text,
            finish_reason=result.finish_reason,
            model=result.model,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            cost_usd=usage.cost_usd,
            label_probabilities=result.label_probabilities,
        )

    def result(self) -> GenerationResult:
        """The result again, without what was not kept."""
        return GenerationResult(
            text=self.text,
            model=self.model,
            finish_reason=self.finish_reason,
            usage=Usage(
                prompt_tokens=self.prompt_tokens,
                completion_tokens=self.completion_tokens,
                cached_tokens=self.cached_tokens,
                cost_usd=self.cost_usd,
            ),
            label_probabilities=self.label_probabilities,
        )


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().raw_decode
_BEFORE = re.compile(r'[^"{]*')


def line_of(values: Any) -> bytes:
    """The values as a line of JSON."""
    return _encode(values).encode("utf-8", "surrogatepass") + b"\n"


def row_of(entry: Entry) -> bytes:
    """What stands behind the key."""
    if entry.error:
        return line_of({"error": entry.error})
    cost = None if entry.cost_usd is None else float(f"{entry.cost_usd:.9g}")
    numbers: list[float | None] = [entry.prompt_tokens, entry.completion_tokens, cost]
    while numbers and numbers[-1] is None:
        numbers.pop()
    unusual: dict[str, Any] = {}
    if entry.finish_reason is not FinishReason.STOP:
        unusual["finish_reason"] = entry.finish_reason.value
    if entry.cached_tokens:
        unusual["cached_tokens"] = entry.cached_tokens
    if entry.label_probabilities:
        unusual["label_probabilities"] = entry.label_probabilities
    about = _encode(numbers)[1:-1] + (_encode(unusual) if unusual else "")
    return about.encode() + line_of(entry.text)  # whose end shows that all is there


def entry_of(row: bytes, model: str) -> Entry | None:
    """The entry that ``row_of`` wrote; None for what it cannot have written, or a part of it."""
    try:
        numbers, unusual, text = _pieces(row.decode("utf-8", "surrogatepass"))
        if text is None:
            error = unusual["error"]
            return Entry(error=error) if isinstance(error, str) and error else None
        prompt, completion, cost = (*numbers, None, None, None)[:3]
        return Entry(
            text=text,
            finish_reason=FinishReason(unusual.get("finish_reason", FinishReason.STOP)),
            model=model,
            prompt_tokens=None if prompt is None else int(prompt),
            completion_tokens=None if completion is None else int(completion),
            cached_tokens=int(unusual.get("cached_tokens", 0)),
            cost_usd=None if cost is None else float(cost),
            label_probabilities=tuple(
                tuple(map(float, each)) for each in unusual.get("label_probabilities", ())
            ),
        )
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError):
        return None


def _pieces(row: str) -> tuple[list[Any], dict[str, Any], str | None]:
    """The numbers, the object and the text of a row. Raises ``ValueError``, ``RecursionError``."""
    before = _BEFORE.match(row)
    end = before.end() if before else 0
    numbers, text = json.loads(f"[{row[:end]}]"), None
    unusual: dict[str, Any] = {}
    if row[end] == "{":
        unusual, end = _decode(row, end)
    if row[end] == '"':
        text, end = _decode(row, end)
    if row[end:].strip() or len(numbers) > 3 or not isinstance(unusual, dict):
        raise ValueError(row)
    return numbers, unusual, text


def parsed(line: bytes) -> Any:
    """The values of such a line; None for what is no JSON."""
    try:
        return json.loads(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
