"""The rows of a run with their keys, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from nbllm.batches.batch_rows import BatchRow, error_words, kept_row
from nbllm.batches.journal import Journal
from nbllm.batches.journal_rows import Entry
from nbllm.core.caching.request_key import is_deterministic, request_key
from nbllm.core.errors import InvalidOptionError, NbllmError
from nbllm.core.results import GenerationResult, Usage
from nbllm.core.types import GenerationRequest

__all__ = ["Rows"]


@dataclass(slots=True)
class Rows:
    """The rows of a run: those that are known already, and the keys of those that are wanted.

    ``requests`` are those of the wanted ones by their keys, ``ended`` what became of them;
    ``on_end`` is called with that where it is new.
    """

    journal: Journal
    retry_failed: bool
    request: Callable[[Any], GenerationRequest]
    given: list[BatchRow | str] = field(default_factory=list)
    requests: dict[str, GenerationRequest] = field(default_factory=dict)
    on_end: Callable[[GenerationResult | NbllmError], None] = lambda found: None
    ended: dict[str, BatchRow] = field(default_factory=dict)

    def collect(self, prompts: Iterable[Any]) -> None:
        """Read all prompts."""
        seen: dict[str, int] = {}
        self.given = [self._given(prompt, seen) for prompt in prompts]

    def _given(self, prompt: Any, seen: dict[str, int]) -> BatchRow | str:
        if isinstance(prompt, BatchRow):  # a row that could not be made a prompt of
            return prompt
        try:
            request = self.request(prompt)
        except InvalidOptionError as error:
            return BatchRow(index=0, error=error_words(error))
        key = self.journal.key(request_key(request))
        sample = 0 if is_deterministic(request.options) else seen.get(key, 0)
        seen[key] = sample + 1
        own = self.journal.key(request_key(request, sample)) if sample else key
        for known in dict.fromkeys((own, key)):
            kept = kept_row(self.journal, known, request, retry_failed=self.retry_failed)
            if kept is not None:
                return kept
        self.requests.setdefault(own, request)
        return own

    def wanted(self) -> list[str]:
        """The keys that have no end yet."""
        return [key for key in self.requests if key not in self.ended]

    def end(self, key: str, found: GenerationResult | NbllmError, *, is_kept: bool = True) -> None:
        """Keep what became of a row; an answer is never replaced by a failure."""
        known = self.ended.get(key)
        if key not in self.requests or (known is not None and not known.error):
            return
        if isinstance(found, GenerationResult):
            entry, row = Entry.of(found), BatchRow(index=0, result=found)
        else:
            entry = Entry(error=error_words(found))
            row = BatchRow(index=0, error=entry.error)
        if is_kept and known != row:
            self.journal.add(key, entry)
            self.on_end(found)
        self.ended[key] = row

    def usages(self, keys: Iterable[str]) -> list[Usage]:
        """What the answers among these rows took."""
        rows = [self.ended.get(key) for key in keys]
        return [row.result.usage for row in rows if row is not None and row.result is not None]

    def in_order(self) -> Iterable[BatchRow]:
        """All rows in their order."""
        told: set[str] = set()
        for index, given in enumerate(self.given):
            if isinstance(given, BatchRow):
                yield replace(given, index=index)
            else:
                yield replace(self.ended[given], index=index, repeated=given in told)
                told.add(given)
