"""Errors of vendors' APIs and of servers."""

from __future__ import annotations

from nbllm.core.errors.request_errors import ModelError

__all__ = [
    "ApiConnectionError",
    "ApiError",
    "ApiTimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "ContentPolicyError",
    "InterruptedStreamError",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "ProtocolError",
    "QuotaError",
    "RateLimitError",
    "ServerError",
]


class ApiError(ModelError):
    """A vendor's API or a server responded with an error, or not at all.

    ``status`` is the HTTP status (None without a response), ``code`` the vendor's error code,
    ``request_id`` what the vendor's support asks for. ``retryable`` says whether the same
    request may succeed later, ``retry_after_seconds`` is the delay that the server requested.
    ``was_sent`` is False where no connection was made, so that nobody can have answered.
    """

    def __init__(
        self,
        model: str,
        problem: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retryable: bool = False,
        retry_after_seconds: float | None = None,
        partial_text: str = "",
        was_sent: bool = True,
    ) -> None:
        self.status, self.code, self.request_id = status, code, request_id
        self.was_sent = was_sent
        self.retryable, self.retry_after_seconds = retryable, retry_after_seconds
        super().__init__(model, problem, partial_text=partial_text)


class AuthenticationError(ApiError):
    """The key is missing, or the vendor does not accept it."""


class PermissionDeniedError(ApiError):
    """The key is valid but has no permission for this."""


class NotFoundError(ApiError):
    """The vendor has no such model or address."""


class BadRequestError(ApiError):
    """The vendor rejected the request; sending it again does not help."""


class ContentPolicyError(BadRequestError):
    """The vendor's content filter rejected the prompt."""


class RateLimitError(ApiError):
    """Too many requests; ``retry_after_seconds`` is the server's delay, None where it gave none."""


class QuotaError(ApiError):
    """The account's credit or a spending limit is used up; waiting does not help."""


class OverloadedError(ApiError):
    """The vendor has no capacity at the moment."""


class ServerError(ApiError):
    """The vendor failed."""


class ApiTimeoutError(ApiError):
    """A timeout for connecting, the first token, or the next chunk expired."""


class ApiConnectionError(ApiError):
    """The server is unreachable, or the connection broke before a response."""


class ProtocolError(ApiError):
    """The response does not follow the vendor's protocol."""


class InterruptedStreamError(ApiError):
    """The stream ended before its end marker; ``partial_text`` is the text received so far."""
