"""What 20 vendors and servers write when they fail, each with the class that it means.

Written after their documentation, their sources and reports of their users; the sentences are
theirs. A class behind "!" may be asked again, every other one never.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.cloud.transport.sse import SseDecoder
from nbllm.cloud.vendors.api_errors import parse_error, typed_error
from nbllm.cloud.vendors.error_bodies import is_failure, read_failure
from nbllm.cloud.vendors.error_meanings import IN_STREAM
from nbllm.cloud.vendors.openai.chat_parser import ChatParser
from nbllm.cloud.vendors.openai.responses_parser import ResponsesParser
from nbllm.core.errors import ApiError, ContextLengthError, ModelError
from nbllm.core.types import GenerationRequest, Message, ModelInfo
from nbllm.testing import fake_info

INFO = ModelInfo(name="my-model", model_type="openai", local=False, api_key_env="MY_KEY")
REQUEST = GenerationRequest((Message("user", "?"),), model=fake_info())


def told(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


def routed(raw: Any, code: int = 400, provider: str = "Some Provider") -> dict[str, Any]:
    """What OpenRouter writes of the vendor behind it."""
    text = raw if isinstance(raw, str) else json.dumps(raw)
    metadata = {"raw": text, "provider_name": provider}
    return told("Provider returned error", code=code, metadata=metadata)


CASES: list[tuple[str, int, Any, str]] = [
    # ---- OpenAI
    ("openai", 401, told("Incorrect API key provided: sk-a***z.", type="invalid_request_error",
     code="invalid_api_key"), "Authentication"),
    ("openai", 401, told("You didn't provide an API key.", type="invalid_request_error"),
     "Authentication"),
    ("openai", 429, told("You exceeded your current quota, please check your plan and billing "
     "details.", type="insufficient_quota", code="insufficient_quota"), "Quota"),
    ("openai", 429, told("Rate limit reached for gpt-4o on requests per min (RPM): Limit 3, Used "
     "3, Requested 1. Please try again in 20s.", type="requests", code="rate_limit_exceeded"),
     "!RateLimit"),
    ("openai", 429, told("Request too large for gpt-4o on tokens per min (TPM): Limit 30000, "
     "Requested 40000. The input or output tokens must be reduced in order to run successfully.",
     type="tokens", code="rate_limit_exceeded"), "RateLimit"),
    ("openai", 404, told("The model `gpt-9` does not exist or you do not have access to it.",
     type="invalid_request_error", code="model_not_found"), "NotFound"),
    ("openai", 400, told("The requested model 'gpt-9' does not exist.",
     type="invalid_request_error", param="model", code="model_not_found"), "NotFound"),
    ("openai", 400, told("Your input exceeds the context window of this model.",
     type="invalid_request_error", code="context_length_exceeded"), "ContextLength"),
    ("openai", 400, told("Invalid prompt: your prompt was flagged as potentially violating our "
     "usage policy.", type="invalid_request_error", code="invalid_prompt"), "ContentPolicy"),
    ("openai", 400, told("Invalid content type. image_url is only supported by certain models.",
     type="invalid_request_error"), "Unsupported"),
    ("openai", 400, told("Invalid 'temperature': decimal above maximum value.",
     type="invalid_request_error", code="decimal_above_max_value"), "BadRequest"),
    ("openai", 503, told("The engine is currently overloaded, please try again later.",
     type="server_error"), "!Overloaded"),
    ("openai", 500, told("The server had an error while processing your request. Sorry!",
     type="server_error"), "!Server"),
    # ---- Azure
    ("azure", 401, {"error": {"code": "401", "message": "Access denied due to invalid "
     "subscription key or wrong API endpoint."}}, "Authentication"),
    ("azure", 401, {"statusCode": 401, "message": "Unauthorized. Access token is missing, invalid"
     ", audience is incorrect, or have expired."}, "Authentication"),
    ("azure", 404, told("The API deployment for this resource does not exist.",
     code="DeploymentNotFound"), "NotFound"),
    ("azure", 429, told("Requests to the ChatCompletions_Create Operation have exceeded token "
     "rate limit of your current OpenAI S0 pricing tier. Please retry after 24 seconds.",
     code="429"), "!RateLimit"),
    ("azure", 400, told("The response was filtered due to the prompt triggering Azure OpenAI's "
     "content management policy.", param="prompt", code="content_filter",
     innererror={"code": "ResponsibleAIPolicyViolation"}), "ContentPolicy"),
    # ---- Anthropic
    ("anthropic", 401, {"type": "error", "error": {"type": "authentication_error",
     "message": "invalid x-api-key"}}, "Authentication"),
    ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message":
     "Your credit balance is too low to access the Anthropic API."}}, "Quota"),
    ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message":
     "You have reached your specified API usage limits."}}, "Quota"),
    ("anthropic", 404, {"type": "error", "error": {"type": "not_found_error", "message":
     "model: claude-9"}}, "NotFound"),
    ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message":
     "prompt is too long: 213462 tokens > 200000 maximum"}}, "ContextLength"),
    ("anthropic", 529, {"type": "error", "error": {"type": "overloaded_error", "message":
     "Overloaded"}}, "!Overloaded"),
    ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message":
     "max_tokens: must be greater than thinking.budget_tokens"}}, "BadRequest"),
    # ---- Gemini
    ("gemini", 400, {"error": {"code": 400, "message": "API key not valid. Please pass a valid "
     "API key.", "status": "INVALID_ARGUMENT"}}, "Authentication"),
    ("gemini", 400, {"error": {"code": 400, "message": "API Key not found. Please pass a valid "
     "API key.", "status": "INVALID_ARGUMENT"}}, "Authentication"),
    ("gemini", 403, {"error": {"code": 403, "message": "Your API key was reported as leaked.",
     "status": "PERMISSION_DENIED"}}, "PermissionDenied"),
    ("gemini", 404, {"error": {"code": 404, "message": "models/gemini-9 is not found for API "
     "version v1beta", "status": "NOT_FOUND"}}, "NotFound"),
    ("gemini", 429, {"error": {"code": 429, "message": "You exceeded your current quota, please "
     "check your plan and billing details. Please retry in 34.4s.",
     "status": "RESOURCE_EXHAUSTED"}}, "!RateLimit"),
    ("gemini", 429, {"error": {"code": 429, "message": "You exceeded your current quota. Quota "
     "exceeded for metric: free_tier_requests, limit: 0, model: gemini-3-pro",
     "status": "RESOURCE_EXHAUSTED"}}, "Quota"),
    ("gemini", 503, {"error": {"code": 503, "message": "The model is overloaded. Please try again "
     "later.", "status": "UNAVAILABLE"}}, "!Overloaded"),
    ("gemini", 400, {"error": {"code": 400, "message": "The input token count (1196265) exceeds "
     "the maximum number of tokens allowed (1048575).", "status": "INVALID_ARGUMENT"}},
     "ContextLength"),
    # ---- OpenRouter
    ("openrouter", 401, told("No auth credentials found", code=401), "Authentication"),
    ("openrouter", 401, told("User not found.", code=401), "Authentication"),
    ("openrouter", 402, told("This request requires more credits, or fewer max_tokens.",
     code=402), "Quota"),
    ("openrouter", 400, told("foo/bar is not a valid model ID", code=400), "NotFound"),
    ("openrouter", 404, told("No endpoints found for foo/bar.", code=404), "NotFound"),
    ("openrouter", 404, told("No endpoints found that support image input", code=404),
     "Unsupported"),
    ("openrouter", 404, told("No endpoints found that support tool use.", code=404),
     "Unsupported"),
    ("openrouter", 429, routed("x is temporarily rate-limited upstream. Please retry shortly.",
     429), "!RateLimit"),
    ("openrouter", 400, routed({"error": {"message": "Requested 115120 to generate tokens, "
     "following a prompt of length 40055, which exceeds the max limit of 128000 tokens.",
     "type": "requested_too_many_tokens", "code": 400}}), "ContextLength"),
    ("openrouter", 400, routed({"error": {"message": "Unsupported value", "param": "temperature"}}),
     "BadRequest"),
    ("openrouter", 400, routed({"type": "error", "error": {"type": "invalid_request_error",
     "message": "prompt is too long: 205000 tokens > 200000 maximum"}}), "ContextLength"),
    ("openrouter", 502, routed("ERROR", 502), "!Server"),
    ("openrouter", 403, told("x requires moderation. Your input was flagged for \"violence\"",
     code=403, metadata={"reasons": ["violence"], "flagged_input": "…", "provider_name": "X"}),
     "ContentPolicy"),
    # ---- Perplexity
    ("perplexity", 400, told("The total length of all messages is too long.",
     type="too_many_prompt_tokens", code=400), "ContextLength"),
    ("perplexity", 400, told("User input tokens exceeds 127072 tokens",
     type="too_many_prompt_tokens", code=400), "ContextLength"),
    ("perplexity", 400, told("Invalid model 'sonar-9'. Permitted models can be found in the "
     "documentation.", type="invalid_model", code=400), "NotFound"),
    ("perplexity", 401, b"<html><head><title>401 Authorization Required</title></head></html>",
     "Authentication"),
    # ---- xAI
    ("xai", 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key "
     "provided: xa***ys. You can obtain an API key from https://console.x.ai."},
     "Authentication"),
    ("xai", 404, {"code": "Some requested entity was not found", "error": "The model grok-9 does "
     "not exist or your team 1 does not have access to it."}, "NotFound"),
    ("xai", 400, {"code": "Client specified an invalid argument", "error": "This model's maximum "
     "prompt length is 131072 but the request contains 537812 tokens."}, "ContextLength"),
    ("xai", 403, {"code": "The caller does not have permission", "error": "Your team 1 has either "
     "used all available credits or reached its monthly spending limit."}, "Quota"),
    ("xai", 429, {"code": "Some resource has been exhausted", "error": "Too many requests for team"
     " 1 and model grok-4."}, "!RateLimit"),
    # ---- Groq
    ("groq", 401, told("Invalid API Key", type="invalid_request_error", code="invalid_api_key"),
     "Authentication"),
    ("groq", 404, told("The model `x` does not exist or you do not have access to it.",
     type="invalid_request_error", code="model_not_found"), "NotFound"),
    ("groq", 400, told("The model `x` has been decommissioned and is no longer supported.",
     type="invalid_request_error", code="model_decommissioned"), "NotFound"),
    ("groq", 429, told("Rate limit reached for model `x` on tokens per minute (TPM): Limit 6000, "
     "Used 5000, Requested 2000. Please try again in 7m21.6s.", type="tokens",
     code="rate_limit_exceeded"), "!RateLimit"),
    ("groq", 413, told("Request too large for model `x` on tokens per minute (TPM): Limit 6000, "
     "Requested 9000, please reduce your message size and try again.", type="tokens",
     code="rate_limit_exceeded"), "RateLimit"),
    ("groq", 400, told("Please reduce the length of the messages or completion.",
     type="invalid_request_error", param="messages", code="context_length_exceeded"),
     "ContextLength"),
    ("groq", 400, told("`max_tokens` must be less than or equal to `8192`, the maximum value for "
     "`max_tokens` is less than the `context_window` for this model",
     type="invalid_request_error"), "BadRequest"),
    ("groq", 498, told("Flex tier capacity exceeded", type="capacity_exceeded"), "!Overloaded"),
    # ---- Mistral
    ("mistral", 401, {"detail": "Unauthorized"}, "Authentication"),
    ("mistral", 401, {"message": "Unauthorized", "request_id": "1"}, "Authentication"),
    ("mistral", 400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model",
     "param": None, "code": "1500"}, "NotFound"),
    ("mistral", 400, {"object": "error", "message": "Prompt contains 65673 tokens and 0 draft "
     "tokens, too large for model with 32768 maximum context length", "type":
     "invalid_request_error", "param": None, "code": "3051"}, "ContextLength"),
    ("mistral", 429, {"object": "error", "message": "Service tier capacity exceeded for this "
     "model.", "type": "service_tier_capacity_exceeded", "code": "3505"}, "!Overloaded"),
    ("mistral", 422, {"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc":
     ["body", "foo"], "msg": "Extra inputs are not permitted", "input": 1}]}, "type":
     "invalid_request_error"}, "BadRequest"),
    # ---- Together, Fireworks
    ("together", 404, told("Unable to access model x. Please visit the models page.",
     type="invalid_request_error", code="model_not_available"), "NotFound"),
    ("together", 422, told("The input (200000 tokens) is longer than the model's context length "
     "(131072 tokens).", type="invalid_request_error"), "ContextLength"),
    ("together", 401, told("Invalid API key provided. You can find your API key online.",
     type="invalid_request_error", code="invalid_api_key"), "Authentication"),
    ("fireworks", 404, told("Model not found, inaccessible, and/or not deployed",
     code="NOT_FOUND", object="error"), "NotFound"),
    ("fireworks", 400, told("The prompt is too long: 140000, model maximum context length: "
     "131071", object="error", type="invalid_request_error"), "ContextLength"),
    ("fireworks", 401, {"error": "unauthorized"}, "Authentication"),
    ("fireworks", 412, told("Account x is suspended, possibly due to reaching the monthly "
     "spending limit.", type="error"), "Quota"),
    # ---- DeepSeek
    ("deepseek", 401, told("Authentication Fails, Your api key: ****abcd is invalid",
     type="authentication_error", code="invalid_request_error"), "Authentication"),
    ("deepseek", 402, told("Insufficient Balance", type="unknown_error",
     code="invalid_request_error"), "Quota"),
    ("deepseek", 400, told("Model Not Exist", type="invalid_request_error",
     code="invalid_request_error"), "NotFound"),
    ("deepseek", 400, told("Content Exists Risk", type="invalid_request_error"),
     "ContentPolicy"),
    ("deepseek", 422, told("Failed to deserialize the JSON body into the target type: messages[0]"
     ": unknown variant `image_url`, expected `text`", type="invalid_request_error"),
     "Unsupported"),
    # ---- Cohere
    ("cohere", 401, {"id": "1", "message": "invalid api token"}, "Authentication"),
    ("cohere", 404, {"id": "1", "message": "model 'x' not found, make sure the correct model ID "
     "was used and that you have access to the model."}, "NotFound"),
    ("cohere", 400, {"message": "too many tokens: total number of tokens in the prompt cannot "
     "exceed 4081 - received 5000."}, "ContextLength"),
    ("cohere", 429, {"message": "You are using a Trial key, which is limited to 20 API calls / "
     "minute."}, "!RateLimit"),
    # ---- Hugging Face's router and TGI
    ("hf", 400, told("The requested model 'x/y' does not exist", type="invalid_request_error",
     param="model", code="model_not_found"), "NotFound"),
    ("hf", 400, told("The requested model 'x/y' is not supported by any provider you have "
     "enabled.", type="invalid_request_error", code="model_not_supported"), "NotFound"),
    ("hf", 401, {"error": "Invalid username or password."}, "Authentication"),
    ("hf", 402, {"error": "You have exceeded your monthly included credits for Inference "
     "Providers."}, "Quota"),
    ("hf", 503, {"error": "Model x/y is currently loading", "estimated_time": 20.0},
     "!Overloaded"),
    ("hf", 422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= "
     "8193. Given: 9000 `inputs` tokens and 512 `max_new_tokens`", "error_type": "validation"},
     "ContextLength"),
    # ---- llama-server
    ("llama-server", 500, told("Context size has been exceeded.", code=500, type="server_error"),
     "ContextLength"),
    ("llama-server", 500, told("image input is not supported - hint: if this is unexpected, you "
     "may need to provide the mmproj", code=500, type="server_error"), "Unsupported"),
    ("llama-server", 400, told("request (1200 tokens) exceeds the available context size (512 "
     "tokens), try increasing it", code=400, type="exceed_context_size_error",
     n_prompt_tokens=1200, n_ctx=512), "ContextLength"),
    ("llama-server", 500, told("tools param requires --jinja flag", code=500,
     type="server_error"), "Unsupported"),
    ("llama-server", 501, told("This server does not support embeddings. Start it with "
     "`--embeddings`", code=501, type="not_supported_error"), "Unsupported"),
    ("llama-server", 501, told("This server does not support completions. Start it without "
     "`--embeddings`", code=501, type="not_supported_error"), "Unsupported"),
    ("some-server", 500, told("the prompt contains too many tokens for this model"),
     "ContextLength"),
    ("llama-server", 500, told("input (600 tokens) is too large to process. increase the physical "
     "batch size (current batch size: 512)", code=500, type="server_error"), "ContextLength"),
    ("llama-server", 503, told("Loading model", code=503, type="unavailable_error"),
     "!Overloaded"),
    ("llama-server", 401, told("Invalid API Key", code=401, type="authentication_error"),
     "Authentication"),
    ("llama-server", 400, told("Failed to parse grammar", code=400, type="invalid_request_error"),
     "BadRequest"),
    # ---- vLLM, SGLang
    ("vllm", 404, {"object": "error", "message": "The model `x` does not exist.", "type":
     "NotFoundError", "param": None, "code": 404}, "NotFound"),
    ("vllm", 400, {"object": "error", "message": "This model's maximum context length is 4096 "
     "tokens. However, you requested 5000 tokens (4000 in the messages, 1000 in the completion).",
     "type": "BadRequestError", "code": 400}, "ContextLength"),
    ("vllm", 400, {"object": "error", "message": "x is not a multimodal model", "type":
     "BadRequestError", "code": 400}, "Unsupported"),
    ("vllm", 400, told("At most 0 image(s) may be provided in one prompt.",
     type="BadRequestError", code=400), "Unsupported"),
    ("vllm", 401, {"error": "Unauthorized"}, "Authentication"),
    ("vllm", 500, {"object": "error", "message": "EngineCore encountered an issue.", "type":
     "InternalServerError", "code": 500}, "!Server"),
    ("sglang", 400, {"object": "error", "message": "The input (5000 tokens) is longer than the "
     "model's context length (4096 tokens).", "type": "BadRequestError", "code": 400},
     "ContextLength"),
    # ---- LM Studio, Ollama
    ("lm-studio", 400, {"error": "The number of tokens to keep from the initial prompt is greater "
     "than the context length (n_keep: 5000 >= n_ctx: 4096)."}, "ContextLength"),
    ("lm-studio", 404, told("Invalid model identifier \"x\". Please specify a valid downloaded "
     "model.", type="invalid_request_error", param="model", code="model_not_found"), "NotFound"),
    ("lm-studio", 400, {"error": "Model does not support images. Please use a model that does."},
     "Unsupported"),
    ("ollama", 404, told("model 'x' not found", type="not_found_error"), "NotFound"),
    ("ollama", 404, {"error": "model \"x\" not found, try pulling it first"}, "NotFound"),
    ("ollama", 400, told("registry.ollama.ai/library/gemma:latest does not support tools",
     type="invalid_request_error"), "Unsupported"),
    ("ollama", 500, told("this model is missing data required for image input",
     type="api_error"), "Unsupported"),
    ("ollama", 400, told("prompt too long; exceeded max context length by 200 tokens",
     type="invalid_request_error"), "ContextLength"),
    ("ollama", 503, told("server busy, please try again. maximum pending requests exceeded",
     type="api_error"), "!Overloaded"),
    # ---- LiteLLM's proxy
    ("litellm", 400, told("/chat/completions: Invalid model name passed in model=x. Call "
     "`/v1/models` to view available models for your key.", type="None", code="400"), "NotFound"),
    ("litellm", 401, told("Authentication Error, LiteLLM Virtual Key expected.",
     type="auth_error", code="401"), "Authentication"),
    ("litellm", 400, told("Budget has been exceeded! Current cost: 1.0, Max budget: 0.5",
     type="budget_exceeded", code="400"), "Quota"),
    ("litellm", 429, told("litellm.RateLimitError: RateLimitError: OpenAIException - slow down",
     type="throttling_error", code="429"), "!RateLimit"),
    ("litellm", 400, told("litellm.ContextWindowExceededError: litellm.BadRequestError: "
     "ContextWindowExceededError: OpenAIException - too much", type=None, code="400"),
     "ContextLength"),
    # ---- Moonshot, DashScope, MiniMax, GitHub
    ("moonshot", 429, told("Your account x is suspended, please check your plan and billing "
     "details", type="exceeded_current_quota_error"), "Quota"),
    ("moonshot", 429, told("The engine is currently overloaded, please try again later",
     type="engine_overloaded_error"), "!Overloaded"),
    ("moonshot", 400, told("Invalid request: Your request exceeded model token limit: 262144 "
     "(requested: 300000)", type="invalid_request_error"), "ContextLength"),
    ("dashscope", 400, {"code": "Arrearage", "message": "Access denied, please make sure your "
     "account is in good standing.", "request_id": "1"}, "Quota"),
    ("dashscope", 429, {"code": "Throttling.RateQuota", "message": "Requests rate limit "
     "exceeded, please try again later."}, "!RateLimit"),
    ("dashscope", 400, {"code": "DataInspectionFailed", "message": "Input data may contain "
     "inappropriate content."}, "ContentPolicy"),
    ("dashscope", 400, told("Range of input length should be [1, 129024]",
     type="invalid_request_error"), "ContextLength"),
    ("minimax", 400, told("invalid params, context window exceeds limit (2013)",
     type="bad_request_error"), "ContextLength"),
    ("github", 413, told("Request body too large for gpt-4o model. Max size: 8000 tokens.",
     code="tokens_limit_reached"), "ContextLength"),
    ("fastapi", 422, {"detail": [{"type": "missing", "loc": ["body", "messages"],
     "msg": "Field required"}]}, "BadRequest"),
    ("cloudflare", 401, {"success": False, "errors": [{"code": 10000, "message":
     "Authentication error"}]}, "Authentication"),
]  # fmt: skip


def name_of(error: ModelError) -> str:
    mark = "!" if isinstance(error, ApiError) and error.retryable else ""
    return mark + type(error).__name__.removesuffix("Error")


def body_of(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [case[1:] for case in CASES],
    ids=[f"{case[0]}-{case[3]}" for case in CASES],
)
def test_what_a_server_writes_has_the_class_that_it_means(
    status: int, body: Any, kind: str
) -> None:
    assert name_of(parse_error(INFO, status, {}, body_of(body))) == kind


NEVER_AGAIN = [
    case for case in CASES if case[3] in ("Quota", "ContextLength", "Unsupported") and case[1] < 500
]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [case[1:] for case in NEVER_AGAIN if case[1] != 402],
    ids=[f"{case[0]}-{case[3]}" for case in NEVER_AGAIN if case[1] != 402],
)
def test_the_words_count_in_a_stream_too(status: int, body: Any, kind: str) -> None:
    error = typed_error(INFO, read_failure(body), status=IN_STREAM, partial_text="So far")
    assert name_of(error) == kind
    assert error.partial_text == "So far"


@pytest.mark.parametrize("status", [400, 422, 500, 502, IN_STREAM])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("insufficient_quota", "Quota"),
        ("context_length_exceeded", "ContextLength"),
        ("invalid_api_key", "Authentication"),
        ("model_not_found", "NotFound"),
        ("rate_limit_exceeded", "!RateLimit"),
        ("content_policy_violation", "ContentPolicy"),
    ],
)
def test_a_word_says_more_than_the_status(code: str, kind: str, status: int) -> None:
    error = typed_error(INFO, read_failure(told("Sorry.", code=code)), status=status)
    assert name_of(error) == kind


def responses_error(**error: str) -> ModelError:
    parser = ResponsesParser(INFO, REQUEST)
    event = {"type": "response.failed", "response": {"status": "failed", "error": error}}
    (decoded,) = SseDecoder().feed(f"data: {json.dumps(event)}\n\n".encode())
    with pytest.raises(ModelError) as caught:
        parser.feed(decoded)
    return caught.value


def test_a_responses_stream_that_fails_is_typed_by_its_words() -> None:
    assert name_of(responses_error(code="insufficient_quota", message="No.")) == "Quota"
    long = responses_error(code="context_length_exceeded", message="Too much.")
    assert isinstance(long, ContextLengthError)
    limited = responses_error(
        code="rate_limit_exceeded", message="Rate limit. Please try again in 11.054s."
    )
    assert name_of(limited) == "!RateLimit"
    assert isinstance(limited, ApiError)
    assert limited.retry_after_seconds == 11.054
    assert name_of(responses_error(code="server_error", message="Sorry.")) == "!Server"


def test_a_router_tells_who_failed_behind_it_and_why() -> None:
    raw = {"error": {"message": "Temperature must be 1", "code": "bad"}}
    error = str(parse_error(INFO, 400, {}, body_of(routed(raw, provider="Moonshot AI"))))
    assert "Provider returned error (Moonshot AI): Temperature must be 1" in error
    error = str(parse_error(INFO, 502, {}, body_of(routed("upstream timed out", 502))))
    assert "Some Provider" in error
    assert "upstream timed out" in error


def test_the_fields_of_fastapi_are_named() -> None:
    problem = {"loc": ["body", "messages", 0, "role"], "msg": "Field required", "type": "missing"}
    error = str(parse_error(INFO, 422, {}, body_of({"detail": [problem, problem]})))
    assert "messages.0.role: Field required; messages.0.role" in error


@pytest.mark.parametrize(
    "message",
    [
        "temperature: range: 0..1",
        "Invalid 'temperature': must be between 0 and 2",
        "temperature should be less than or equal to 1",
        "top_p must be greater than 0",
        "thinking.budget_tokens: Input should be greater than or equal to 1024",
        "max_tokens: must be greater than thinking.budget_tokens",
        "'max_tokens' or 'max_completion_tokens' is too large: 5000.",
        "max_completion_tokens must be at least 1",
    ],
)
def test_a_value_out_of_its_range_gets_no_second_hint(message: str) -> None:
    error = str(parse_error(INFO, 400, {}, body_of(told(message, type="invalid_request_error"))))
    assert error.endswith("(HTTP 400, invalid_request_error).")


@pytest.mark.parametrize(
    ("sentence", "seconds"),
    [
        ("Please try again in 20s.", 20.0),
        ("Please try again in 7m21.6s. Visit …", 441.6),
        ("Please try again in 160ms.", 0.16),
        ("Please retry after 24 seconds.", 24.0),
        ("Please retry in 2h3m.", 7380.0),
        ("Please retry in 34.4s", 34.4),
        ("Please try again in a moment", None),
        ("Please try again later", None),
    ],
)
def test_a_delay_in_a_sentence(sentence: str, seconds: float | None) -> None:
    body = told(f"Rate limit reached. {sentence}", code="rate_limit_exceeded")
    error = parse_error(INFO, 429, {}, body_of(body))
    assert isinstance(error, ApiError)
    assert error.retry_after_seconds == (None if seconds is None else pytest.approx(seconds))
    headers = {"retry-after": "3"}
    told_by_header = parse_error(INFO, 429, headers, body_of(body))
    assert isinstance(told_by_header, ApiError)
    assert told_by_header.retry_after_seconds == 3.0


def test_no_header_makes_a_failure_pass_that_cannot() -> None:
    for case in CASES:
        if case[3] in ("Quota", "ContextLength", "Unsupported", "NotFound", "Authentication"):
            error = parse_error(INFO, case[1], {"x-should-retry": "true"}, body_of(case[2]))
            assert name_of(error) == case[3]


NUMBERS = [
    ("The prompt is too long: 140000, model maximum context length: 131071", 140_000, 131_071),
    ("The input (5000 tokens) is longer than the model's context length (4096 tokens).", 5000,
     4096),
    ("This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
     537_812, 131_072),
    ("Requested tokens (5000) exceed context window of 2048", 5000, 2048),
    ("The decoder prompt (length 5000) is longer than the maximum model length of 4096", 5000,
     4096),
    ("greater than the context length (n_keep: 5000 >= n_ctx: 4096)", 5000, 4096),
    ("following a prompt of length 40055, which exceeds the max limit of 128000 tokens", 40_055,
     128_000),
    ("Your request exceeded model token limit: 262144 (requested: 300000)", 300_000, 262_144),
    ("prompt token count of 130000 exceeds the limit of 128000", 130_000, 128_000),
    ("User input tokens exceeds 127072 tokens", None, 127_072),
    ("Context size has been exceeded.", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("sentence", "prompt", "context"), NUMBERS)
def test_the_counts_of_a_prompt_that_is_too_long(
    sentence: str, prompt: int | None, context: int | None
) -> None:
    error = parse_error(INFO, 400, {}, body_of(told(sentence)))
    assert isinstance(error, ContextLengthError)
    assert (error.prompt_tokens, error.context_length) == (prompt, context)


def test_what_is_no_failure_is_none() -> None:
    for value in (
        {"choices": [], "message": "x", "code": 1},
        {"object": "list", "data": [], "type": "x", "message": "y"},
        {"id": "1", "model": "x"},
        {"error": None, "choices": []},
        {"usage": {}},
        {"message": "only"},
    ):
        assert not is_failure(value)
    for value in ({"message": "x", "code": 400}, {"detail": "x"}, {"object": "error"}):
        assert is_failure(value)


@pytest.mark.parametrize(
    "message",
    [
        "Unsupported value: 'profile' is not supported with this model.",
        "Unsupported value: 'temperature' does not support 0.2 with this model.",
        "Invalid 'messages[0].content': string too long. Expected a maximum length of 10485760.",
        "Invalid schema for response_format 'answer': In context=('properties',), 'type' is bad",
        "messages.0: the text about rate limits and context windows is no valid JSON",
        "Unknown parameter: 'model_context'.",
        "image format webp is wrong; the size of the image is too large",
        "This model does not support image format tiff",
        "No tool output found for function call call_1.",
        "stop: too many sequences",
    ],
)
def test_a_bad_request_that_only_sounds_like_another(message: str) -> None:
    body = told(message, type="invalid_request_error")
    assert name_of(parse_error(INFO, 400, {}, body_of(body))) == "BadRequest"


def test_lines_of_errors_are_read() -> None:
    """llama-server wrote ``error: {…}`` where SSE wants ``data:``, until 2025."""
    body = {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}
    chunk = {"choices": [{"delta": {"content": "So"}}]}
    stream = f"data: {json.dumps(chunk)}\n\nerror: {json.dumps(body)}\n\n"
    for size in (1, 7, len(stream)):
        decoder, parser = SseDecoder(), ChatParser(INFO, REQUEST)
        pieces = (stream[n : n + size].encode() for n in range(0, len(stream), size))
        first, second = (event for piece in pieces for event in decoder.feed(piece))
        parser.feed(first)
        with pytest.raises(ContextLengthError) as caught:
            parser.feed(second)
        assert caught.value.partial_text == "So"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "detail", "code", "type", "metadata", "raw", "loc", "msg",
                 "details", "errors", "provider_name", "reasons", "param", "status", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON, st.sampled_from([IN_STREAM, 200, 400, 401, 404, 413, 429, 500, 503]))
def test_any_json_is_an_error_with_a_text(value: Any, status: int) -> None:
    error = typed_error(INFO, read_failure(value), status=status)
    assert isinstance(error, ModelError)
    assert str(error).startswith("my-model: ")
    quoted = told("Provider returned error", metadata={"raw": json.dumps(value)})
    assert isinstance(typed_error(INFO, read_failure(quoted), status=status), ModelError)
