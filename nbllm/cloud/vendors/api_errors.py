"""Typed errors from what vendors and servers answer when they fail.

``error_meanings`` says what a failure means; here it gets its class, its text for people, and
whether it makes sense to ask again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from nbllm.cloud.adapter import Meaning
from nbllm.cloud.transport.timing import delay_in_words, retry_delay
from nbllm.cloud.vendors.error_bodies import Failure, read_body
from nbllm.cloud.vendors.error_meanings import IN_STREAM, READ, is_futile, meaning_of
from nbllm.cloud.vendors.request_errors import context_numbers, request_hint
from nbllm.core.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    ContentPolicyError,
    ContextLengthError,
    ModelError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    QuotaError,
    RateLimitError,
    ServerError,
    UnsupportedError,
)
from nbllm.core.kinds import place_of
from nbllm.core.types import ModelInfo

__all__ = ["parse_error", "typed_error"]

_CLASS_OF: dict[Meaning, type[ApiError]] = {
    Meaning.QUOTA: QuotaError,
    Meaning.AUTHENTICATION: AuthenticationError,
    Meaning.PERMISSION: PermissionDeniedError,
    Meaning.RATE_LIMIT: RateLimitError,
    Meaning.OVERLOADED: OverloadedError,
    Meaning.NOT_FOUND: NotFoundError,
    Meaning.POLICY: ContentPolicyError,
    Meaning.BAD_REQUEST: BadRequestError,
    Meaning.CONFLICT: ServerError,
    Meaning.TIMEOUT: ServerError,
    Meaning.NOT_IMPLEMENTED: ServerError,
    Meaning.SERVER: ServerError,
}
_MAY_PASS = {
    Meaning.RATE_LIMIT,
    Meaning.OVERLOADED,
    Meaning.CONFLICT,
    Meaning.TIMEOUT,
    Meaning.SERVER,
}
"""What the same request may not meet again."""
_HEADER_DECIDES = _MAY_PASS | {Meaning.BAD_REQUEST, Meaning.NOT_IMPLEMENTED}
"""Where a server knows best whether to ask again; never about money, keys, names and lengths."""

_TOO_LONG = "Shorten the prompt, or use a model with a longer context."
_NO_ABILITY = "Remove what is not supported, or use a model that supports it."
_HINT = {
    AuthenticationError: "Check the key{variable}.",
    PermissionDeniedError: "This key{variable} has no permission for this model or address.",
    NotFoundError: "List the models of the {whom}, and check the model's name and base_url.",
    QuotaError: "Waiting will not help: check the account's credit and limits with the vendor.",
    ContentPolicyError: "Change the prompt, or use another model.",
}
_TOO_LARGE_HINT = "Waiting will not help: make the request smaller."

_KEY_LIKE = re.compile(
    r"""\b(?:sk|rk|pk|gsk|xai|hf|nvapi)[-_][\w\-.*]{3,}   # the vendors' prefixes
    | \bAIza[\w\-*]{3,} | \bAQ\.[\w\-*.]{3,}              # Google's two forms
    | (?<![^\s*])[^\s*]*\w\*{3,}\S*                       # a key with its middle hidden
    | (?<=[Bb]earer\s)\S+ | (?<=provided:\s)\S+         # a key that is quoted back""",
    re.VERBOSE,
)
_SHOWN = 2000


def parse_error(
    info: ModelInfo, status: int, headers: Mapping[str, str], body: bytes
) -> ModelError:
    """The typed error of an answer whose status is not 2xx; header names are lower case."""
    if 300 <= status < 400:
        place = headers.get("location", "another address")
        problem = f"the server redirects to {place}; set base_url to that address"
        return ProtocolError(info.name, without_keys(problem), status=status)
    return typed_error(info, read_body(body), status=status, headers=headers)


def typed_error(
    info: ModelInfo,
    failure: Failure,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    partial_text: str = "",
) -> ModelError:
    """The error of the class that fits; ``status`` is ``IN_STREAM`` where it came in a stream."""
    headers = headers or {}
    meaning = meaning_of(failure, status)
    problem = f"{without_keys(failure.shown).rstrip('.')} ({_origin(failure, status)})."
    if meaning is Meaning.CONTEXT:
        prompt, context = context_numbers(failure.shown[:READ], failure.numbers or {})
        return ContextLengthError(
            info.name,
            f"{problem} {_TOO_LONG}",
            prompt_tokens=prompt,
            context_length=context,
            partial_text=partial_text,
        )
    if meaning is Meaning.UNSUPPORTED:
        return UnsupportedError(info.name, f"{problem} {_NO_ABILITY}", partial_text=partial_text)
    kind = _CLASS_OF[meaning]
    futile = meaning is Meaning.RATE_LIMIT and is_futile(failure)
    retryable = not futile and _is_retryable(meaning, headers)
    hint = _TOO_LARGE_HINT if futile else _hint(kind, info, failure)
    return kind(
        info.name,
        " ".join(filter(None, [problem, hint])),
        status=status or 200,
        code=failure.code,
        request_id=headers.get("x-request-id") or headers.get("request-id") or failure.request_id,
        retryable=retryable,
        retry_after_seconds=_asked_delay(failure, headers) if retryable else None,
        partial_text=partial_text,
    )


def _is_retryable(meaning: Meaning, headers: Mapping[str, str]) -> bool:
    """Whether the same request may succeed later."""
    told = headers.get("x-should-retry")
    if told in ("true", "false") and meaning in _HEADER_DECIDES:
        return told == "true"
    return meaning in _MAY_PASS


def _asked_delay(failure: Failure, headers: Mapping[str, str]) -> float | None:
    told = failure.delay_seconds
    return retry_delay(headers, delay_in_words(failure.shown[:READ]) if told is None else told)


def _origin(failure: Failure, status: int) -> str:
    place = "inside the stream" if status == IN_STREAM else f"HTTP {status}"
    return ", ".join(filter(None, [place, failure.code]))


def _hint(kind: type[ApiError], info: ModelInfo, failure: Failure) -> str:
    if kind is BadRequestError:
        return request_hint(f"{failure.shown[:READ]} {' '.join(failure.words)[:READ]}")
    variable = f" in the environment variable {info.api_key_env}" if info.api_key_env else ""
    whom = "server" if place_of(info) == "server" else "vendor"
    return _HINT.get(kind, "").format(variable=variable, whom=whom)


def without_keys(message: str) -> str:
    """The message with everything taken out that may be a key, or what is left of one."""
    return _KEY_LIKE.sub("[key]", message[:_SHOWN])
