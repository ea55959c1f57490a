"""What vendors and servers answer when they fail, as typed errors.

Most of these were never recorded (OpenAI's 429, any 5xx or 529, most other servers'): they are
written after the vendors' documentation and the servers' sources.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbllm.cloud.transport.timing import retry_delay
from nbllm.cloud.vendors.api_errors import parse_error, typed_error
from nbllm.cloud.vendors.error_bodies import read_failure
from nbllm.cloud.vendors.error_meanings import IN_STREAM
from nbllm.core import errors
from nbllm.core.types import ModelInfo

INFO = ModelInfo(name="my-model", model_type="openai", local=False, api_key_env="MY_KEY")


def failed(status: int, body: Any, **headers: str) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {key.replace("_", "-"): value for key, value in headers.items()}
    return parse_error(INFO, status, names, data)


def in_stream(body: Any, **values: Any) -> Any:
    return typed_error(INFO, read_failure(body), status=IN_STREAM, **values)


def openai(kind: str | None, code: str | None = None, message: str = "Sorry.") -> Any:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(kind: str, message: str = "Sorry.", **more: Any) -> Any:
    return {"type": "error", "error": {"type": kind, "message": message, **more}}


def gemini(code: int, status: str, *details: Any) -> Any:
    return {"error": {"code": code, "message": "Sorry.", "status": status, "details": details}}


def quota(quota_id: str) -> Any:
    kind = "type.googleapis.com/google.rpc.QuotaFailure"
    return {"@type": kind, "violations": [{"quotaId": quota_id}]}


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}
PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
KEY_INFO = {"reason": "API_KEY_INVALID", "domain": "googleapis.com"}

CASES = [
    # OpenAI
    (401, openai("invalid_request_error", "invalid_api_key"), "AuthenticationError", False),
    (403, openai("invalid_request_error", "unsupported_country"), "PermissionDeniedError", False),
    (404, openai("invalid_request_error", "model_not_found"), "NotFoundError", False),
    (400, openai("invalid_request_error", "model_not_found"), "NotFoundError", False),
    (400, openai("invalid_request_error", "invalid_value"), "BadRequestError", False),
    (422, openai("invalid_request_error"), "BadRequestError", False),
    (429, openai("requests", "rate_limit_exceeded"), "RateLimitError", True),
    (429, openai("rate_limit_error", "slow_down"), "RateLimitError", True),
    (429, openai("insufficient_quota", "insufficient_quota"), "QuotaError", False),
    (429, openai("insufficient_quota", "credit_balance_exhausted"), "QuotaError", False),
    (429, openai(None, "credit_balance_exhausted"), "QuotaError", False),
    (429, openai(None, "organization_spend_limit_exceeded"), "QuotaError", False),
    (429, openai(None, "project_spend_limit_exceeded"), "QuotaError", False),
    (429, openai(None, "organization_usage_limit_exceeded"), "QuotaError", False),
    (429, openai(None, "billing_not_active"), "QuotaError", False),
    (500, openai("server_error"), "ServerError", True),
    (502, b"<html><title>502 Bad Gateway</title></html>", "ServerError", True),
    (503, openai("server_error", "server_is_overloaded"), "OverloadedError", True),
    (504, b"", "ServerError", True),
    (408, b"", "ServerError", True),
    (409, openai("conflict"), "ServerError", True),
    (501, openai("not_implemented"), "ServerError", False),
    # Anthropic
    (400, anthropic("invalid_request_error"), "BadRequestError", False),
    (400, anthropic("invalid_request_error", "Your credit balance is too low to access the API"),
     "QuotaError", False),
    (401, anthropic("authentication_error"), "AuthenticationError", False),
    (402, anthropic("billing_error"), "QuotaError", False),
    (403, anthropic("permission_error"), "PermissionDeniedError", False),
    (404, anthropic("not_found_error"), "NotFoundError", False),
    (409, anthropic("conflict_error"), "ServerError", True),
    (413, anthropic("request_too_large"), "BadRequestError", False),
    (429, anthropic("rate_limit_error"), "RateLimitError", True),
    (429, anthropic("rate_limit_error", details={"error_code": "ramp_limit_exceeded"}),
     "RateLimitError", True),
    (429, anthropic("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}),
     "QuotaError", False),
    (429, anthropic("rate_limit_error", details={"error_code": "contract_spend_limit_reached"}),
     "QuotaError", False),
    (500, anthropic("api_error"), "ServerError", True),
    (504, anthropic("timeout_error"), "ServerError", True),
    (529, anthropic("overloaded_error"), "OverloadedError", True),
    # Gemini
    (400, gemini(400, "INVALID_ARGUMENT", KEY_INFO), "AuthenticationError", False),
    (400, [gemini(400, "INVALID_ARGUMENT", KEY_INFO)], "AuthenticationError", False),
    (400, gemini(400, "INVALID_ARGUMENT"), "BadRequestError", False),
    (401, gemini(401, "UNAUTHENTICATED"), "AuthenticationError", False),
    (403, gemini(403, "PERMISSION_DENIED"), "PermissionDeniedError", False),
    (404, gemini(404, "NOT_FOUND"), "NotFoundError", False),
    (429, gemini(429, "RESOURCE_EXHAUSTED", quota(PER_MINUTE), RETRY_INFO), "RateLimitError", True),
    (429, gemini(429, "RESOURCE_EXHAUSTED", quota(PER_DAY), RETRY_INFO), "QuotaError", False),
    (500, gemini(500, "INTERNAL"), "ServerError", True),
    (503, gemini(503, "UNAVAILABLE"), "OverloadedError", True),
    (504, gemini(504, "DEADLINE_EXCEEDED"), "ServerError", True),
    # Other servers
    (400, {"detail": "Sorry."}, "BadRequestError", False),
    (422, {"detail": [{"loc": ["body", "n"], "msg": "Sorry."}]}, "BadRequestError", False),
    (400, {"error": "Sorry."}, "BadRequestError", False),
    (400, {"object": "error", "message": "Sorry.", "code": 400}, "BadRequestError", False),
    (402, {"error": {"message": "Insufficient credits", "code": 402}}, "QuotaError", False),
    (503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}},
     "OverloadedError", True),
    (404, b"404 page not found", "NotFoundError", False),
    (500, b"\xff\xfe", "ServerError", True),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind", "retryable"), CASES)
def test_status_and_body_give_the_class(status: int, body: Any, kind: str, retryable: bool) -> None:
    error = failed(status, body)
    assert type(error).__name__ == kind
    assert error.retryable is retryable
    assert error.status == status
    assert str(error).startswith("my-model: ")
    assert f"HTTP {status}" in str(error)


@pytest.mark.parametrize("kind", ["overloaded_error", "rate_limit_error", "billing_error"])
def test_an_error_without_a_status_of_its_own_has_its_words(kind: str) -> None:
    error = in_stream(anthropic(kind), partial_text="So far")
    names = {
        "overloaded_error": "OverloadedError",
        "rate_limit_error": "RateLimitError",
        "billing_error": "QuotaError",
    }
    assert type(error).__name__ == names[kind]
    assert error.partial_text == "So far"
    assert "inside the stream" in str(error)


@pytest.mark.parametrize(
    ("code", "kind"), [(502, "ServerError"), ("503", "OverloadedError"), (400, "BadRequestError")]
)
def test_an_error_in_a_stream_may_have_a_number(code: Any, kind: str) -> None:
    """OpenRouter writes the status of the server behind it, LiteLLM as text."""
    body = {"error": {"code": code, "message": "Provider disconnected"}}
    assert type(in_stream(body)).__name__ == kind


def test_an_unknown_error_is_the_servers_in_a_stream_and_ours_under_a_200() -> None:
    """LM Studio answers an address that it does not know with 200."""
    body = {"error": "Sorry."}
    assert type(in_stream(body)).__name__ == "ServerError"
    whole = typed_error(INFO, read_failure(body))
    assert (type(whole).__name__, whole.retryable) == ("BadRequestError", False)
    assert in_stream(body).status == whole.status == 200


def test_the_server_says_whether_to_retry() -> None:
    assert failed(500, openai("server_error"), x_should_retry="false").retryable is False
    assert failed(400, openai("invalid_request_error"), x_should_retry="true").retryable is True
    assert failed(429, openai("insufficient_quota"), x_should_retry="true").retryable is False


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "Sun, 22 Nov 2026 10:00:30 GMT", "date": "Sun, 22 Nov 2026 10:00:00 GMT"},
         30.0),
        ({"retry-after": "Sun, 22 Nov 2026 09:00:00 GMT", "date": "Sun, 22 Nov 2026 10:00:00 GMT"},
         0.0),
        ({"retry-after": "Sun, 22 Nov 2015 09:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "", "retry-after-ms": "x"}, None),
        ({"retry-after": "Sun, 99 Nov 2026 10:00:30 GMT"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_the_servers_delay(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_delay(headers) == seconds


def test_the_delay_is_read_on_errors_that_may_pass_only() -> None:
    limited = openai("requests", "rate_limit_exceeded")
    assert failed(429, limited, retry_after="7").retry_after_seconds == 7
    assert failed(429, openai("insufficient_quota"), retry_after="7").retry_after_seconds is None
    assert failed(429, gemini(429, "RESOURCE_EXHAUSTED", RETRY_INFO)).retry_after_seconds == 34.4
    broken = {**RETRY_INFO, "retryDelay": "soon"}
    assert failed(429, gemini(429, "RESOURCE_EXHAUSTED", broken)).retry_after_seconds is None


LENGTHS = [
    ("openai", "This model's maximum context length is 128000 tokens. However, your messages "
     "resulted in 130000 tokens.", 130_000, 128_000),
    ("openai", "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted "
     "in 300000 tokens. Please reduce the length of the messages.", 300_000, 272_000),
    ("openai", "Your input exceeds the context window of this model.", None, None),
    ("openai embeddings", "This model's maximum context length is 8192 tokens, however you "
     "requested 10000 tokens (10000 in your prompt; 0 for the completion).", 10_000, 8192),
    ("llama_cpp.server", "This model's maximum context length is 2048 tokens. However, you "
     "requested 3100 tokens (3000 in the messages, 100 in the completion).", 3000, 2048),
    ("vllm", "This model's maximum context length is 4096 tokens. However, your request has 5000 "
     "input tokens. Please reduce the length of the input messages.", 5000, 4096),
    ("openrouter", "This endpoint's maximum context length is 32768 tokens. However, you "
     "requested about 40000 tokens (39000 of text input, 1000 in the output).", 40_000, 32_768),
    ("llama-server", "request (1200 tokens) exceeds the available context size (512 tokens), try "
     "increasing it", 1200, 512),
    ("lm studio", "Trying to keep the first 5000 tokens when context the overflows. However, the "
     "model is loaded with context length of only 4096 tokens", 5000, 4096),
    ("anthropic", "prompt is too long: 215,000 tokens > 200,000 maximum", 215_000, 200_000),
    ("anthropic", "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, "
     "decrease input length or `max_tokens` and try again", 190_000, 200_000),
    ("gemini", "The input token count (1200000) exceeds the maximum number of tokens allowed "
     "(1048576).", 1_200_000, 1_048_576),
    ("gemini", "The input token count exceeds the maximum number of tokens allowed 1048576.",
     None, 1_048_576),
]  # fmt: skip


@pytest.mark.parametrize(("server", "message", "prompt", "context"), LENGTHS)
def test_a_prompt_that_is_too_long(
    server: str, message: str, prompt: int | None, context: int | None
) -> None:
    error = failed(400, openai("invalid_request_error", message=message))
    assert isinstance(error, errors.ContextLengthError)
    assert (error.prompt_tokens, error.context_length) == (prompt, context)


def test_a_prompt_that_is_too_long_told_by_word_and_fields() -> None:
    assert isinstance(
        failed(400, openai(None, "context_length_exceeded", "Too much")), errors.ContextLengthError
    )
    body = {
        "error": {
            "code": 400,
            "message": "Too much",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 1200,
            "n_ctx": 512,
        }
    }
    error = failed(400, body)
    assert (error.prompt_tokens, error.context_length) == (1200, 512)


def test_an_answer_that_would_be_too_long_is_a_bad_request() -> None:
    message = (
        "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context "
        "length is 4096 tokens and your request has 10 input tokens (5000 > 4096 - 10)."
    )
    error = failed(400, openai("BadRequestError", message=message))
    assert type(error).__name__ == "BadRequestError"


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("temperature: Extra inputs are not permitted", "does not support temperature as given"),
        ("`temperature` and `top_p` cannot both be specified", "temperature and top_p"),
        ("Unsupported value: 'temperature' does not support 0.2 with this model.",
         "Leave temperature unset"),
        ("Unsupported parameter: 'max_tokens' is not supported with this model. Use "
         "'max_completion_tokens' instead.", 'extra={"max_completion_tokens"'),
        ("adaptive thinking is not supported on this model", '"4096"'),
    ],
)  # fmt: skip
def test_a_refused_option_is_explained_in_plain_words(message: str, hint: str) -> None:
    error = failed(400, anthropic("invalid_request_error", message))
    assert message.rstrip(".") in str(error)
    assert hint in str(error)


def test_every_error_says_what_to_do() -> None:
    assert "environment variable MY_KEY" in str(failed(401, openai(None)))
    assert "Waiting will not help" in str(failed(429, openai("insufficient_quota")))
    assert "base_url" in str(failed(404, openai(None)))
    assert "is base_url correct?" in str(failed(404, b"<html><title>Not here</title></html>"))
    assert "'Not here'" in str(failed(404, b"<html><title>Not here</title></html>"))


def test_a_redirection_names_the_new_address() -> None:
    error = failed(308, b"", location="https://example.org/v1")
    assert isinstance(error, errors.ProtocolError)
    assert "https://example.org/v1" in str(error)


@pytest.mark.parametrize(
    "shown",
    [
        "Incorrect API key provided: {}. You can find it here.",
        "Bad header Authorization: Bearer {}",
        "invalid x-api-key '{}'",
    ],
)
@pytest.mark.parametrize(
    "key", ["sk-proj-abcDEF0123456789", "sk-ab***************6789", "AIzaSyA-0123456789abcdef"]
)
def test_no_key_and_no_part_of_one_is_shown(shown: str, key: str) -> None:
    error = failed(401, openai("invalid_request_error", "invalid_api_key", shown.format(key)))
    for part in (key, key[:6], key[-4:]):
        assert part not in str(error)
        assert part not in repr(error)
    assert "[key]" in str(error)


def test_the_request_id_is_kept_for_the_vendors_support() -> None:
    assert failed(500, openai(None), x_request_id="req_1").request_id == "req_1"
    assert failed(500, anthropic("api_error"), request_id="req_2").request_id == "req_2"
    body = {**anthropic("api_error"), "request_id": "req_3"}
    assert failed(500, body).request_id == "req_3"
