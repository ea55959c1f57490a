"""A draft model: a small one, with the vocabulary of the model for which it guesses."""

from __future__ import annotations

import os

from nbllm.local.ipc.operations import LoadSettings
from nbllm.local.llama.native import NativeModel, NotLoadableError
from nbllm.local.llama.vocabulary import Vocabulary

__all__ = ["load_draft"]

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
