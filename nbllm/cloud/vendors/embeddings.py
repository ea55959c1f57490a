"""What the vendors' readers of embeddings, counts and lists share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from nbllm.cloud.vendors.json_values import MalformedError, mapping, text
from nbllm.core.errors import ProtocolError
from nbllm.core.types import Embeddings, ModelInfo, Usage

__all__ = ["Rows", "all_embeddings", "embeddings_of", "models_in", "name_in", "reading"]

Rows: TypeAlias = Sequence[bytes | Sequence[float]]
"""The vectors of one request."""


@contextmanager
def reading(info: ModelInfo) -> Iterator[None]:
    """Turn what is malformed into a ``ProtocolError``."""
    try:
        yield
    except MalformedError as error:
        raise ProtocolError(
            info.name, f"the response does not follow the vendor's protocol: {error}"
        ) from error


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


def models_in(value: object) -> list[Mapping[str, Any]]:
    """The entries of a list of models; one of another shape is no list of none."""
    if not isinstance(value, list):
        raise MalformedError("the response is not a list of models")
    return [mapping(item, "a model") for item in value]


def name_in(item: Mapping[str, Any], *keys: str) -> str:
    """The name of a model in a list, under the first of the keys that has it."""
    found = next((text(item[key], key) for key in keys if item.get(key)), "")
    if not found:
        raise MalformedError(f"a model in the list has no {keys[0]}")
    return found


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
