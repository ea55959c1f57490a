"""What a failed request to a vendor's batch API means for a run."""

from __future__ import annotations

from nbllm.core.errors import (
    ApiError,
    AuthenticationError,
    ContextLengthError,
    ModelError,
    UnsupportedError,
)

__all__ = ["is_refusal", "may_pass"]

_UNCLEAR = (408, 409, 499)
"""Statuses in the range of refusals after which a request may have been carried out."""


def is_refusal(error: ModelError) -> bool:
    """Whether a request has certainly not been carried out."""
    if isinstance(error, AuthenticationError | ContextLengthError | UnsupportedError):
        return True
    status = error.status if isinstance(error, ApiError) else None
    return status is not None and 400 <= status < 500 and status not in _UNCLEAR


def may_pass(error: ModelError) -> bool:
    """Whether the same request may succeed later."""
    return isinstance(error, ApiError) and error.retryable
