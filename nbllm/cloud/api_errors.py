"""Typed errors from what vendors and servers answer when they fail.

The vendors' words are compared, never their sentences, but for lengths and credit, which some
vendors tell in a sentence only.

Sources: https://developers.openai.com/api/docs/guides/error-codes,
https://platform.claude.com/docs/en/api/errors, https://ai.google.dev/gemini-api/docs/troubleshooting
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime
from time import time

from nbllm.cloud.context_errors import context_error
from nbllm.cloud.error_bodies import Failure, read_body
from nbllm.core.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    ModelError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    QuotaError,
    RateLimitError,
    ServerError,
)
from nbllm.core.types import ModelInfo

__all__ = ["IN_STREAM", "parse_error", "retry_delay", "typed_error"]

IN_STREAM = 0
"""The status of an error inside a stream, which has none of its own."""


# The word that an error carries, as the HTTP status that says the same. Errors inside a stream
# have no status of their own.
_STATUS_OF_WORD = {
    "invalid_request_error": 400,
    "invalid_prompt": 400,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "API_KEY_INVALID": 401,
    "UNAUTHENTICATED": 401,
    "billing_error": 402,
    "permission_error": 403,
    "PERMISSION_DENIED": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "NOT_FOUND": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "RESOURCE_EXHAUSTED": 429,
    "api_error": 500,
    "server_error": 500,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "server_is_overloaded": 503,
    "service_unavailable_error": 503,
    "timeout_error": 504,
    "DEADLINE_EXCEEDED": 504,
    "overloaded_error": 529,
}

# Words that say more than the HTTP status 400 with which they come: Gemini reports a bad key so,
# and OpenAI's Responses API an unknown model.
_STRONGER_THAN_STATUS = {"API_KEY_INVALID", "invalid_api_key", "model_not_found"}

_CLASS_OF_STATUS: dict[int, type[ApiError]] = {
    401: AuthenticationError,
    402: QuotaError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: ServerError,
    409: ServerError,
    429: RateLimitError,
    503: OverloadedError,
    529: OverloadedError,
}

_QUOTA_WORD = re.compile(
    r"insufficient_(quota|balance|credits?|funds)|credit_balance|billing|(spend|usage)_limit|"
    r"quota_exceeded|budget_exceeded|PerDay",
    re.IGNORECASE,
)
# Anthropic tells these two in sentences, under 400 and the word for any bad request.
_QUOTA_SENTENCE = re.compile(r"credit balance is too low|specified API usage limits", re.IGNORECASE)

_HINT = {
    AuthenticationError: "Check the key{variable}.",
    PermissionDeniedError: "This key{variable} may not use this model or address.",
    NotFoundError: "Ask the vendor for its models, and check the model's name and base_url.",
    QuotaError: "Waiting will not help: check the account's credit and limits with the vendor.",
}

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
        problem = f"the server sends us on to {place}; set base_url to where it is"
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
    meaning = _meaning(failure, status)
    problem = f"{without_keys(failure.shown).rstrip('.')} ({_origin(failure, status)})."
    if meaning < 500 and (
        too_long := context_error(
            info.name, failure.shown, failure.words, failure.numbers or {}, problem, partial_text
        )
    ):
        return too_long
    kind = _class_of(failure, meaning)
    retryable = _is_retryable(kind, meaning, headers)
    return kind(
        info.name,
        " ".join(filter(None, [problem, _hint(kind, info, failure)])),
        status=status or 200,
        code=failure.code,
        request_id=headers.get("x-request-id") or headers.get("request-id") or failure.request_id,
        retryable=retryable,
        retry_after_seconds=retry_delay(headers, failure.delay_seconds) if retryable else None,
        partial_text=partial_text,
    )


def _meaning(failure: Failure, status: int) -> int:
    """The HTTP status that says best what went wrong."""
    known = [word for word in failure.words if word in _STATUS_OF_WORD]
    strong = [word for word in known if word in _STRONGER_THAN_STATUS and status == 400]
    if strong or (status < 400 and known):
        return _STATUS_OF_WORD[(strong or known)[0]]
    if status >= 400:
        return status
    # A request that began to be answered was good: what broke then is the server's, and 400 is
    # for the servers that answer with an error under a status of 200.
    return _numbered(failure) or (500 if status == IN_STREAM else 400)


def _numbered(failure: Failure) -> int | None:
    """The status that some servers write as the code, LiteLLM as text."""
    told = [word for word in failure.words if re.fullmatch(r"[45]\d\d", word)]
    number = int(told[0]) if told else (failure.numbers or {}).get("code", 0)
    return int(number) if 400 <= number < 600 else None


def _class_of(failure: Failure, meaning: int) -> type[ApiError]:
    spent = any(map(_QUOTA_WORD.search, failure.words)) or _QUOTA_SENTENCE.search(failure.shown)
    if spent and meaning < 500:
        return QuotaError
    return _CLASS_OF_STATUS.get(meaning, ServerError if meaning >= 500 else BadRequestError)


def _is_retryable(kind: type[ApiError], meaning: int, headers: Mapping[str, str]) -> bool:
    """Whether the same request may succeed later; the server knows best, but not about money."""
    if kind is QuotaError:
        return False
    if (told := headers.get("x-should-retry")) in ("true", "false"):
        return told == "true"
    return meaning in (408, 409, 429) or (meaning >= 500 and meaning != 501)


def retry_delay(headers: Mapping[str, str], told_seconds: float | None = None) -> float | None:
    """The seconds that the server wants us to wait, None where it does not say.

    ``retry-after-ms`` is the finest, ``retry-after`` holds seconds or a date, and Gemini tells it
    in the body. A date is compared with the server's own clock where its answer has one.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        delay = _number(headers.get(name))
        if delay is not None:
            return delay * scale
    when, now = _moment(headers.get("retry-after")), _moment(headers.get("date"))
    if when is not None:
        return max(0.0, when - (time() if now is None else now))
    return told_seconds


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _moment(value: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(value or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _origin(failure: Failure, status: int) -> str:
    place = "inside the stream" if status == IN_STREAM else f"HTTP {status}"
    return ", ".join(filter(None, [place, failure.code]))


def _hint(kind: type[ApiError], info: ModelInfo, failure: Failure) -> str:
    if kind is BadRequestError:
        return _request_hint(failure)
    variable = f" in the environment variable {info.api_key_env}" if info.api_key_env else ""
    return _HINT.get(kind, "").format(variable=variable)


def _request_hint(failure: Failure) -> str:
    """A vendor's refusal of an option in plain words."""
    told = f"{failure.shown} {' '.join(failure.words)}"
    if "max_completion_tokens" in told:
        return 'Leave max_tokens unset and give extra={"max_completion_tokens": …}.'
    names = re.findall(r"\b(temperature|top_p|topP|top_k|topK)\b", told)
    if names:
        named = " and ".join(dict.fromkeys(names))
        return (
            f"This model does not take {named} as given: models of its kind choose their own "
            f"sampling. Leave {named} unset, in the call and in the model's options."
        )
    if re.search(r"adaptive|budget_tokens|thinking_?(level|budget)", told, re.IGNORECASE):
        return (
            'Give reasoning_effort the other way: a word such as "low", or a number of tokens '
            'such as "4096".'
        )
    return ""


def without_keys(message: str) -> str:
    """The message with everything taken out that may be a key, or what is left of one."""
    return _KEY_LIKE.sub("[key]", message[:_SHOWN])
