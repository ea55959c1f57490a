"""Embeddings of many texts: asked for in several requests, checked, and put together in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias

from nbllm.cloud.adapter import Adapter, HttpRequest
from nbllm.cloud.vendors.json_values import MalformedError
from nbllm.core.awaiting import gathered
from nbllm.core.errors import ProtocolError
from nbllm.core.types import Embeddings, ModelInfo, Usage

__all__ = ["Rows", "all_embeddings", "embed_all", "embeddings_of"]

Rows: TypeAlias = Sequence[bytes | Sequence[float]]
"""The vectors of one request."""

_MOST_AT_ONCE = 4


def all_embeddings(
    info: ModelInfo, counts: Sequence[int], parts: Sequence[Embeddings]
) -> Embeddings:
    """The vectors of several requests as one matrix; each has as many as were asked for.

    Raises ``ProtocolError``: a vector too few would give every text behind it another one's.
    """
    import numpy as np

    for count, part in zip(counts, parts, strict=True):
        if count != len(part.vectors):
            problem = f"{count} texts were sent, and {len(part.vectors)} embeddings came back"
            raise ProtocolError(info.name, f"the response does not match the request: {problem}")
    widths = {part.vectors.shape[1] for part in parts}
    if len(widths) > 1:
        raise ProtocolError(info.name, f"the embeddings have different lengths: {sorted(widths)}")
    vectors = np.concatenate([part.vectors for part in parts])
    prompts = [part.usage.prompt_tokens for part in parts]
    known = [tokens for tokens in prompts if tokens is not None]
    usage = Usage(prompt_tokens=sum(known) if known else None, completion_tokens=0)
    return Embeddings(vectors, info.name, usage)


def embeddings_of(info: ModelInfo, batches: Sequence[Rows], usage: Usage) -> Embeddings:
    """The rows of all requests as one matrix; bytes are little-endian float32."""
    import numpy as np  # costs 100 ms, which the first request of a process should not wait for

    if not all(batches):
        raise MalformedError("the response has no embeddings")
    rows = [row for batch in batches for row in batch]
    try:
        vectors = [
            np.frombuffer(row, "<f4") if isinstance(row, bytes) else np.asarray(row, "<f4")
            for row in rows
        ]
    except (ValueError, TypeError, OverflowError) as error:
        raise MalformedError(f"an embedding is not a vector of numbers: {error}") from None
    if any(vector.ndim != 1 or vector.size == 0 for vector in vectors):
        raise MalformedError("an embedding is not a vector of numbers")
    lengths = {vector.size for vector in vectors}
    if len(lengths) > 1:
        raise MalformedError(f"the embeddings have different lengths: {sorted(lengths)}")
    matrix = np.stack(vectors) if vectors else np.empty((0, 0))
    if not np.isfinite(matrix).all():
        raise MalformedError("an embedding has a value that is not a finite number")
    return Embeddings(matrix.astype(np.float32), info.name, usage)


async def embed_all(
    adapter: Adapter,
    info: ModelInfo,
    texts: list[str],
    fetch: Callable[[HttpRequest], Awaitable[bytes]],
) -> Embeddings:
    """The vectors of all texts, asked for in as many requests as the vendor's limits need."""
    requests = adapter.embedding_requests(info, texts)
    if not requests:
        return adapter.parse_embeddings(info, [])
    bodies = await _run_together([partial(fetch, request) for request in requests])
    parts = [adapter.parse_embeddings(info, [body]) for body in bodies]
    return all_embeddings(info, [request.texts for request in requests], parts)


async def _run_together(jobs: Sequence[Callable[[], Awaitable[bytes]]]) -> list[bytes]:
    """The results in order, of a few jobs at a time; the first failure cancels the rest."""
    limit = asyncio.Semaphore(_MOST_AT_ONCE)

    async def run(job: Callable[[], Awaitable[bytes]]) -> bytes:
        async with limit:
            return await job()

    return await gathered(map(run, jobs))
