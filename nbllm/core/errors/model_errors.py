"""Errors of a request to a loaded model: of the local engine, of vendors' APIs and of servers."""

from __future__ import annotations

from collections.abc import Mapping

from nbllm.core.errors.general_errors import NbllmError, with_log
from nbllm.core.texts import capped

__all__ = [
    "ApiConnectionError",
    "ApiError",
    "ApiTimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "BudgetError",
    "ContentPolicyError",
    "ContextLengthError",
    "EngineBusyError",
    "EngineCrashedError",
    "EngineError",
    "EngineStalledError",
    "InterruptedStreamError",
    "ModelClosedError",
    "ModelError",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "ProtocolError",
    "QuotaError",
    "RateLimitError",
    "RouterError",
    "ServerError",
    "UnsupportedError",
]


class ModelError(NbllmError):
    """The loaded model ``model`` failed on a request.

    ``partial_text`` is the text that had been generated before the failure.
    """

    def __init__(self, model: str, problem: str, *, partial_text: str = "") -> None:
        self.model, self.partial_text = model, partial_text
        super().__init__(f"{capped(model)}: {problem}")


class ModelClosedError(ModelError):
    """The model was unloaded; load it again to use it."""


class BudgetError(ModelError):
    """A budget does not allow the request to be sent.

    ``budget`` names it. ``left`` is what it had left and ``needed`` what the request could have
    taken, both in its ``unit``: "usd", "tokens" or "requests". All three are None where the budget
    cannot be told from its file, the latter two where the model's price is not known.
    """

    def __init__(
        self,
        model: str,
        problem: str,
        *,
        budget: str,
        unit: str | None = None,
        left: float | None = None,
        needed: float | None = None,
    ) -> None:
        self.budget, self.unit, self.left, self.needed = budget, unit, left, needed
        super().__init__(model, problem)


class UnsupportedError(ModelError):
    """The model or vendor does not support this; the message says what does."""


class RouterError(ModelError):
    """No member of the router ``model`` can answer.

    ``reasons`` tell of each member why, ``retry_after_seconds`` when the first of them can be
    asked again, None where that is not known.
    """

    def __init__(
        self,
        model: str,
        problem: str,
        *,
        reasons: Mapping[str, str],
        retry_after_seconds: float | None = None,
    ) -> None:
        self.reasons, self.retry_after_seconds = dict(reasons), retry_after_seconds
        lines = [problem, *(f"- {member}: {capped(why)}" for member, why in reasons.items())]
        super().__init__(model, "\n".join(lines))


class ContextLengthError(ModelError):
    """The prompt is longer than the context.

    ``prompt_tokens`` and ``context_length`` are counts of tokens, None where unknown.
    """

    def __init__(
        self,
        model: str,
        problem: str,
        *,
        prompt_tokens: int | None = None,
        context_length: int | None = None,
        partial_text: str = "",
    ) -> None:
        self.prompt_tokens, self.context_length = prompt_tokens, context_length
        super().__init__(model, problem, partial_text=partial_text)


class EngineError(ModelError):
    """The local engine refused the request, or failed on it and keeps running."""


class EngineBusyError(EngineError):
    """Too many requests are already waiting for this model; those are not affected."""


class EngineStalledError(EngineError):
    """The model's worker process stopped responding and was terminated."""


class EngineCrashedError(EngineError):
    """The model's worker process died.

    ``exit_status`` is its exit code, negative for a signal; ``log`` holds its last lines.
    """

    def __init__(
        self,
        model: str,
        problem: str,
        *,
        exit_status: int | None = None,
        log: tuple[str, ...] = (),
        partial_text: str = "",
    ) -> None:
        self.exit_status, self.log = exit_status, log
        super().__init__(model, with_log(problem, log), partial_text=partial_text)


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
