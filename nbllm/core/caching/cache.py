"""``ResultCache``: which answers are kept, and the layer that gives them out again."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from nbllm.core.caching.answer_stores import CachedAnswer, CacheStore, MemoryStore, SqliteStore
from nbllm.core.caching.request_key import is_deterministic, is_quick, request_key
from nbllm.core.layers.layer import Events, Next, Place
from nbllm.core.messages import ReasoningPart, TextPart, ToolCall, beginning_of
from nbllm.core.option_table import options_of
from nbllm.core.options import CacheMode, GenerationOptions
from nbllm.core.results import FinishReason, GenerationResult, Usage
from nbllm.core.types import (
    Completed,
    GenerationRequest,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from nbllm.core.words import duration_words

__all__ = ["ResultCache", "cache_from"]

T = TypeVar("T")

_WHOLE = (FinishReason.STOP, FinishReason.TOOL_CALLS)
_VERSION = 1
_PARTS = {"text": TextPart, "reasoning": ReasoningPart, "call": ToolCall}
_PART_KINDS = {kind: name for name, kind in _PARTS.items()}


class ResultCache:
    """Answers by their requests, for all models of a manager.

    ``mode`` "off" keeps and gives out nothing, "on" only what is deterministic (temperature 0 or a
    seed), "force" everything; a request's own option ``cache`` goes before it. Whole answers alone
    are kept: ended by the model or by calls of tools. One question that several ask at once is
    asked once. ``counts`` has the hits and the misses.
    """

    place = Place.CACHE

    def __init__(self, store: CacheStore | None = None, mode: CacheMode = "on") -> None:
        self.store: CacheStore = store or MemoryStore()
        self._mode: CacheMode = "off"
        self.mode = mode
        self.counts: Counter[str] = Counter()
        self._flights: dict[str, Future[None]] = {}
        self._lock = threading.Lock()

    @property
    def mode(self) -> CacheMode:
        """See the class. Raises ``InvalidOptionError`` where it is set to anything else."""
        return self._mode

    @mode.setter
    def mode(self, mode: CacheMode) -> None:
        self._mode = options_of(GenerationOptions)["cache"].kind.checked("cache", mode)

    async def __call__(self, request: GenerationRequest, following: Next) -> Events:
        """The kept answer, or a new one, which is kept if it is one to keep."""
        mode = request.options.cache or self.mode
        if mode == "off" or not (mode == "force" or is_deterministic(request.options)):
            async with aclosing(following(request)) as events:
                async for event in events:
                    yield event
            return
        key = await _in_thread(request_key, request, unless=is_quick(request))
        flight: Future[None] | None = None
        try:
            while (result := await self._kept(key)) is None and flight is None:
                flight, waits_for = self._join(key)
                if waits_for is not None:
                    await asyncio.shield(asyncio.wrap_future(waits_for))
            if result is not None:
                async with aclosing(_replayed(_named(result, request))) as events:
                    async for event in events:
                        yield event
                return
            self.counts["misses"] += 1
            async with aclosing(following(request)) as events:
                async for event in events:
                    if isinstance(event, Completed):
                        await self._keep(key, request, event.result)
                    yield event
        finally:
            if flight is not None:
                self._leave(key, flight)

    def _join(self, key: str) -> tuple[Future[None] | None, Future[None] | None]:
        """A flight of one's own, or the one to wait for: whoever asks first asks for all."""
        with self._lock:
            other = self._flights.get(key)
            if other is not None:
                return None, other
            own: Future[None] = Future()
            self._flights[key] = own
            return own, None

    def _leave(self, key: str, flight: Future[None]) -> None:
        with self._lock:
            self._flights.pop(key, None)
        flight.set_result(None)

    async def _kept(self, key: str) -> GenerationResult | None:
        kept = await _in_thread(self.store.get, key, unless=self._is_in_memory)
        if kept is None:
            return None
        try:
            result = _decoded(kept.text)
        except (ValueError, TypeError, LookupError):
            return None
        self.counts["hits"] += 1
        note = f"from the cache, {duration_words(max(0.0, time.time() - kept.created))} old"
        return replace(result, notes=(*result.notes, note), from_cache=True)

    async def _keep(self, key: str, request: GenerationRequest, result: GenerationResult) -> None:
        can_be_kept = all(type(part) in _PART_KINDS for part in result.parts)
        if result.finish_reason not in _WHOLE or result.logprobs or not can_be_kept:
            return
        kept = CachedAnswer(_encoded(result), time.time(), beginning_of(request.messages))
        await _in_thread(self.store.put, key, kept, unless=self._is_in_memory)

    @property
    def _is_in_memory(self) -> bool:
        return isinstance(self.store, MemoryStore)


async def _in_thread(call: Callable[..., T], *given: Any, unless: bool) -> T:
    """The result of a ``call``; a thread costs more than one that takes microseconds."""
    return call(*given) if unless else await asyncio.to_thread(call, *given)


def _named(result: GenerationResult, request: GenerationRequest) -> GenerationResult:
    return replace(result, model=request.model.name, schema=request.schema)


async def _replayed(result: GenerationResult) -> Events:
    """The events of an answer that is there already."""
    if result.reasoning:
        yield ReasoningDelta(result.reasoning)
    for number, call in enumerate(result.tool_calls):
        yield ToolCallDelta(number, call.arguments, call.id, call.name)
    if result.text:
        yield TextDelta(result.text, 0)
    yield Completed(result)


def _encoded(result: GenerationResult) -> str:
    values: dict[str, Any] = {
        "version": _VERSION,
        "text": result.text,
        "model": result.model,
        "finish_reason": str(result.finish_reason),
        "reasoning": result.reasoning,
        "tool_calls": [asdict(call) for call in result.tool_calls],
        "parts": [[_PART_KINDS[type(part)], asdict(part)] for part in result.parts],
        "seed": result.seed,
        "raw_finish_reason": result.raw_finish_reason,
        "device": result.device,
        "notes": list(result.notes),
        "label_probabilities": result.label_probabilities,
    }
    return json.dumps(values, ensure_ascii=True)


def _decoded(text: str) -> GenerationResult:
    """A new result each time, so that nobody changes another's. Raises ``ValueError`` and kin."""
    values = json.loads(text)
    if values.pop("version") != _VERSION:
        raise ValueError("another version")
    calls = tuple(ToolCall(**call) for call in values.pop("tool_calls"))
    parts = tuple(_PARTS[name](**part) for name, part in values.pop("parts"))
    return GenerationResult(
        text=str(values.pop("text")),
        model=str(values.pop("model")),
        finish_reason=FinishReason(values.pop("finish_reason")),
        tool_calls=calls,
        parts=parts,
        notes=tuple(map(str, values.pop("notes"))),
        label_probabilities=tuple(map(tuple, values.pop("label_probabilities", ()))),
        usage=Usage(cost_usd=0.0),
        **values,
    )


def cache_from(
    given: bool | str | os.PathLike[str] | ResultCache,  # noqa: FBT001 - what a caller gave
) -> ResultCache:
    """A manager's cache: False for one that is off, True for one in memory, a path for a file."""
    if isinstance(given, ResultCache):
        return given
    if isinstance(given, bool):
        return ResultCache(mode="on" if given else "off")
    return ResultCache(SqliteStore(Path(given).expanduser()))
