"""Whether a loaded model is good for what is asked of it: numbers that never change, drafts.

Attention is made invariant by ``loading.context_params``. Whether the products of matrices are
depends on the quantization and the processor: for some, llama.cpp has kernels for many rows that
round otherwise than those for one. So it is tried out. A draft model needs the vocabulary of the
model for which it guesses.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nbllm.local.ipc.operations import LoadSettings
from nbllm.local.llama.native import NativeModel, NotLoadableError
from nbllm.local.llama.vocabulary import Vocabulary

__all__ = ["check_invariance", "load_draft"]

_LENGTH = 72  # tokens: more rows than any threshold that llama.cpp's kernels have
_COMPARED = 4


def check_invariance(model: NativeModel) -> None:
    """Raise ``NotLoadableError`` for a model whose numbers depend on what is computed beside.

    Takes as long as reading 90 tokens. The context is empty before and afterwards.
    """
    if model.slides or not model.can_copy_prefix:
        raise NotLoadableError(
            "batch_invariant is not supported: the model has no KV cache that keeps all tokens; "
            "load it without batch_invariant"
        )
    length = min(_LENGTH, model.batch.capacity, model.context_length // 2)
    tokens = [(7919 * n) % model.vocabulary.size for n in range(1, length + 1)]
    first, rest = tokens[:_COMPARED], tokens[_COMPARED:]
    among_many = _logits(model, [first], rest)
    among_few, alone = _logits(model, [first]), _logits(model, [[token] for token in first])
    if not all(map(np.array_equal, 2 * among_many, among_few + alone)):
        raise NotLoadableError(
            "batch_invariant is not supported: with this quantization and processor, llama.cpp's "
            "results depend on the batch size; load it without batch_invariant, or use a file in "
            "Q4_0, Q4_1 or Q8_0"
        )


def _logits(
    model: NativeModel, batches: Sequence[Sequence[int]], beside: Sequence[int] = ()
) -> list[NDArray[np.float32]]:
    """The logits behind each token of a text read in ``batches``; ``beside`` joins the last."""
    found, position = list[NDArray[np.float32]](), 0
    for tokens in batches:
        model.batch.clear()
        model.batch.add(tokens, position, 0, logits=len(tokens))
        position += len(tokens)
        if beside:
            model.batch.add(beside, position, 0, logits=0)
        if model.decode() != 0:
            raise NotLoadableError("llama.cpp could not decode a short text")
        found += [model.logits(row).copy() for row in range(len(tokens))]
    model.cells.clear()
    return found


_MOST_PADDING = 128  # tokens that only one of the two may have at the end, as llama.cpp allows


def load_draft(settings: LoadSettings, model: NativeModel) -> NativeModel:
    """Load the draft model of ``model``. Raises ``NotLoadableError``."""
    if not model.can_copy_prefix:
        raise NotLoadableError(
            "speculative decoding is not supported: its KV cache cannot drop tokens"
        )
    try:
        draft = NativeModel(settings, lambda fraction: None)
        _check_tokens(draft.vocabulary, model.vocabulary)
        if not draft.can_write or not draft.can_copy_prefix:
            raise NotLoadableError("it does not support speculative decoding")
    except NotLoadableError as error:
        raise NotLoadableError(f"the draft model {os.fsdecode(settings.path)}: {error}") from None
    return draft


def _check_tokens(draft: Vocabulary, own: Vocabulary) -> None:
    remedy = "; use a small model of the same family"
    if abs(draft.size - own.size) > _MOST_PADDING:
        raise NotLoadableError(
            f"its vocabulary has {draft.size:,} tokens, but the model's has {own.size:,}{remedy}"
        )
    for token in range(min(draft.size, own.size)):
        if draft.text(token) != own.text(token):
            theirs, ours = (each.text(token).decode(errors="replace") for each in (draft, own))
            raise NotLoadableError(
                f"its vocabulary differs: token {token} is {theirs!r}, but in the model {ours!r}"
                f"{remedy}"
            )
