"""The rules of Gemini's API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbllm.cloud.vendors.gemini import GeminiAdapter
from nbllm.core.errors import InterruptedStreamError, OverloadedError, UnsupportedError
from nbllm.core.types import (
    ImagePart,
    Message,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    VendorPart,
)

ADAPTER = GeminiAdapter()


@pytest.fixture
def model(info: Any) -> Any:
    return info("gemini", model="gemini-9")


def body(model: Any, request: Any) -> dict[str, Any]:
    return dict(ADAPTER.generation_request(model, request, stream=True).body or {})


def chunk(*parts: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], **more}


def frames(*values: Any) -> bytes:
    return b"".join(f"data: {json.dumps(value)}\r\n\r\n".encode() for value in values)


# ---------------------------------------------------------------- requests


def test_the_key_travels_in_a_header_and_not_in_the_address(model: Any, ask: Any) -> None:
    assert ADAPTER.key_headers("k") == {"x-goog-api-key": "k"}
    for request in (
        ADAPTER.generation_request(model, ask(), stream=True),
        ADAPTER.count_request(model, ask()),
        ADAPTER.list_request(model, None),
    ):
        assert "key" not in request.path


@pytest.mark.parametrize(
    ("base_url", "name", "path"),
    [
        (None, "gemini-9", "v1beta/models/gemini-9"),
        (None, "models/gemini-9", "v1beta/models/gemini-9"),
        (None, "tunedModels/mine", "v1beta/tunedModels/mine"),
        ("http://localhost:8000/", "gemini-9", "v1beta/models/gemini-9"),
        ("https://example.org/v1beta", "gemini-9", "models/gemini-9"),
        (None, "a b?c", "v1beta/models/a%20b%3Fc"),
    ],
)
def test_the_address_of_a_model(
    info: Any, ask: Any, base_url: str | None, name: str, path: str
) -> None:
    model = info("gemini", base_url=base_url, model=name)
    streamed = ADAPTER.generation_request(model, ask(), stream=True).path
    assert streamed == f"{path}:streamGenerateContent?alt=sse"
    whole = ADAPTER.generation_request(model, ask(), stream=False).path
    assert whole == f"{path}:generateContent"


def test_the_smallest_request(model: Any, ask: Any) -> None:
    assert body(model, ask("Hi")) == {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


def test_options_are_sent_only_where_they_are_set(model: Any, ask: Any) -> None:
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    sent = body(
        model,
        ask(
            max_tokens=5,
            temperature=0.0,
            top_p=0.9,
            top_k=5,
            seed=7,
            stop="END",
            presence_penalty=0.5,
            frequency_penalty=0.5,
            response_schema=schema,
        ),
    )
    assert sent["generationConfig"] == {
        "maxOutputTokens": 5,
        "temperature": 0.0,
        "topP": 0.9,
        "topK": 5,
        "seed": 7,
        "stopSequences": ["END"],
        "presencePenalty": 0.5,
        "frequencyPenalty": 0.5,
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
    }
    assert "topK" not in body(model, ask(top_k=0, seed=1))["generationConfig"]
    with pytest.raises(UnsupportedError, match="min_p"):
        body(model, ask(min_p=0.1))
    with pytest.raises(UnsupportedError, match="logprobs or mirostat"):
        body(model, ask(logprobs=1, mirostat=2))


@pytest.mark.parametrize(
    ("name", "effort", "config"),
    [
        ("gemini-3.5-pro", "low", {"includeThoughts": True, "thinkingLevel": "low"}),
        ("gemini-2.5-flash", "low", {"includeThoughts": True, "thinkingBudget": 1024}),
        ("gemini-2.5-flash", "high", {"includeThoughts": True, "thinkingBudget": 24_576}),
        ("gemini-3.5-pro", "2048", {"includeThoughts": True, "thinkingBudget": 2048}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
    ],
)
def test_reasoning_effort(info: Any, ask: Any, name: str, effort: str, config: Any) -> None:
    model = info("gemini", model=name)
    sent = body(model, ask(reasoning_effort=effort))["generationConfig"]
    assert sent == {"thinkingConfig": config}


def test_extra_reaches_into_the_configuration(model: Any, ask: Any) -> None:
    extra = {"generationConfig": {"candidateCount": 1}, "safetySettings": []}
    sent = body(model, ask(temperature=0.5, extra=extra))
    assert sent["generationConfig"] == {"temperature": 0.5, "candidateCount": 1}
    assert sent["safetySettings"] == []


def test_roles_parts_and_tools(model: Any, ask: Any) -> None:
    messages = (
        Message("system", "Be brief."),
        Message("user", "Look:"),
        Message(
            "user",
            (
                ImagePart("image/webp", data=b"RIFF"),
                ImagePart("image/jpeg", url="https://example.org/cat.jpg"),
            ),
        ),
        Message(
            "assistant",
            (
                ReasoningPart("Hm.", "sig0"),
                ReasoningPart("Unsigned."),
                ReasoningPart("Foreign.", "rs_1|sealed"),
                TextPart("Let me see."),
                ReasoningPart("", "sig1"),
                ToolCall("nbllm-call-0", "f", '{"a": 1}', "sig2"),
                ToolCall("theirs", "g", ""),
                VendorPart("anthropic", "{}"),
            ),
        ),
        Message("tool", (ToolResult("nbllm-call-0", "f", "sunny"),)),
        Message("tool", (ToolResult("theirs", "g", "broken", is_error=True),)),
    )
    tools = (
        Tool("f", "F.", {"type": "object", "properties": {"a": {"type": "integer"}}}),
        Tool("g", "G.", {"type": "object", "properties": {}}),
    )
    sent = body(model, ask(messages, tools=tools, tool_choice="f"))
    assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert sent["contents"] == [
        {
            "role": "user",
            "parts": [
                {"text": "Look:"},
                {"inlineData": {"mimeType": "image/webp", "data": "UklGRg=="}},
                {
                    "fileData": {
                        "mimeType": "image/jpeg",
                        "fileUri": "https://example.org/cat.jpg",
                    }
                },
            ],
        },
        {
            "role": "model",
            "parts": [
                {"text": "Hm.", "thought": True, "thoughtSignature": "sig0"},
                {"text": "Let me see."},
                {"text": "", "thoughtSignature": "sig1"},
                {
                    "functionCall": {"name": "f", "args": {"a": 1}},
                    "thoughtSignature": "sig2",
                },
                {"functionCall": {"name": "g", "args": {}, "id": "theirs"}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "f", "response": {"result": "sunny"}}},
                {
                    "functionResponse": {
                        "name": "g",
                        "response": {"error": "broken"},
                        "id": "theirs",
                    }
                },
            ],
        },
    ]
    assert sent["tools"] == [
        {
            "functionDeclarations": [
                {"name": "f", "description": "F.", "parametersJsonSchema": tools[0].parameters},
                {"name": "g", "description": "G."},
            ]
        }
    ]
    calling = {"mode": "ANY", "allowedFunctionNames": ["f"]}
    assert sent["toolConfig"] == {"functionCallingConfig": calling}


def test_embeddings_are_asked_for_in_batches_of_a_hundred(model: Any) -> None:
    requests = ADAPTER.embedding_requests(model, [str(number) for number in range(250)])
    assert [len(r.body["requests"]) for r in requests] == [100, 100, 50]
    assert requests[0].path == "v1beta/models/gemini-9:batchEmbedContents"
    assert requests[2].body["requests"][-1] == {
        "model": "models/gemini-9",
        "content": {"parts": [{"text": "249"}]},
    }
    answers = [
        json.dumps({"embeddings": [{"values": [value, 0.5]}]}).encode() for value in (1.0, 2.0)
    ]
    assert ADAPTER.parse_embeddings(model, answers).vectors.tolist() == [[1.0, 0.5], [2.0, 0.5]]


def test_counting_and_listing(model: Any, ask: Any) -> None:
    request = ADAPTER.count_request(model, ask("Hi"))
    assert request.path == "v1beta/models/gemini-9:countTokens"
    assert request.body["generateContentRequest"]["model"] == "models/gemini-9"
    assert ADAPTER.parse_count(model, b'{"totalTokens": 11}') == 11
    assert ADAPTER.list_request(model, None).path == "v1beta/models?pageSize=1000"
    assert ADAPTER.list_request(model, "a=&").path.endswith("&pageToken=a%3D%26")
    page = {
        "models": [
            {
                "name": "models/gemini-9",
                "inputTokenLimit": 1_048_576,
                "supportedGenerationMethods": ["generateContent"],
            },
            {"name": "models/veo", "supportedGenerationMethods": ["predictLongRunning"]},
            {"name": "models/new"},
        ],
        "nextPageToken": "more",
    }
    models, following = ADAPTER.parse_list(model, json.dumps(page).encode())
    assert [(m.name, m.context_length) for m in models] == [
        ("gemini-9", 1_048_576),
        ("new", None),
    ]
    assert following == "more"


# ---------------------------------------------------------------- streams


def test_frames_end_with_crlf_and_the_stream_with_the_connection(model: Any, read: Any) -> None:
    events, result = read(
        ADAPTER, model, frames(chunk({"text": "Hel"}), chunk({"text": "lo"}, finish="STOP"))
    )
    assert events == [TextDelta("Hel"), TextDelta("lo")]
    assert (result.text, result.finish_reason, result.raw_finish_reason) == (
        "Hello",
        "stop",
        "STOP",
    )


def test_the_last_usage_counts_and_thoughts_are_added(model: Any, read: Any) -> None:
    early = {"promptTokenCount": 10, "candidatesTokenCount": 1, "totalTokenCount": 11}
    late = {
        "promptTokenCount": 10,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 20,
        "toolUsePromptTokenCount": 3,
        "cachedContentTokenCount": 4,
        "totalTokenCount": 38,
    }
    body = frames(
        chunk({"text": "a"}, usageMetadata=early),
        chunk({"text": "b"}, finish="STOP", usageMetadata=late),
    )
    usage = read(ADAPTER, model, body)[1].usage
    assert usage.prompt_tokens == 13
    assert usage.completion_tokens == 25
    assert usage.reasoning_tokens == 20
    assert usage.cached_tokens == 4
    assert usage.total_tokens == late["totalTokenCount"]


def test_thoughts_are_apart_from_the_answer(model: Any, read: Any) -> None:
    body = frames(
        chunk({"text": "Hm.", "thought": True}),
        chunk({"text": "Yes."}, finish="STOP"),
    )
    events, result = read(ADAPTER, model, body)
    assert events == [ReasoningDelta("Hm."), TextDelta("Yes.")]
    assert (result.reasoning, result.text) == ("Hm.", "Yes.")


def test_an_empty_text_may_carry_only_a_signature(model: Any, read: Any, ask: Any) -> None:
    parts = frames(
        chunk({"text": "Hi"}), chunk({"text": "", "thoughtSignature": "sig"}, finish="STOP")
    )
    events, result = read(ADAPTER, model, parts)
    assert events == [TextDelta("Hi")]
    assert result.parts == (TextPart("Hi"), ReasoningPart("", "sig"))
    sent = body(model, ask((Message("user", "?"), result.message)))["contents"][1]["parts"]
    assert sent == [{"text": "Hi"}, {"text": "", "thoughtSignature": "sig"}]


def test_calls_have_ids_and_keep_their_signatures(model: Any, read: Any, ask: Any) -> None:
    call = {"functionCall": {"name": "f", "args": {"a": "é"}}, "thoughtSignature": "sig"}
    other = {"functionCall": {"name": "f", "args": None, "id": "theirs"}}
    events, result = read(ADAPTER, model, frames(chunk(call, other, finish="STOP")))
    assert result.tool_calls == (
        ToolCall("nbllm-call-0", "f", '{"a": "é"}', "sig"),
        ToolCall("theirs", "f", "{}"),
    )
    assert events[0] == ToolCallDelta(0, '{"a": "é"}', "nbllm-call-0", "f")
    assert (result.finish_reason, result.raw_finish_reason) == ("tool_calls", "STOP")
    sent = body(model, ask((result.message,)))["contents"][0]["parts"]
    assert sent == [call, {"functionCall": {"name": "f", "args": {}, "id": "theirs"}}]


def test_what_ran_at_the_vendor_goes_back_to_it(model: Any, read: Any, ask: Any) -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "1+1"}, "thoughtSignature": "s"}
    outcome = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}}
    answer = frames(chunk(code, outcome, {"text": "2"}, finish="STOP"))
    result = read(ADAPTER, model, answer)[1]
    assert result.text == "2"
    assert body(model, ask((result.message,)))["contents"][0]["parts"] == [
        code,
        outcome,
        {"text": "2"},
    ]


def test_a_blocked_prompt_has_no_candidates(model: Any, read: Any) -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}}
    result = read(ADAPTER, model, frames(blocked))[1]
    assert (result.finish_reason, result.raw_finish_reason) == ("content_filter", "SAFETY")
    assert "prompt was blocked" in (result.refusal or "")


def test_a_blocked_answer_has_empty_content(model: Any, read: Any) -> None:
    blocked = {"candidates": [{"content": {}, "finishReason": "SAFETY", "index": 0}]}
    result = read(ADAPTER, model, frames(chunk({"text": "He"}), blocked))[1]
    assert (result.text, result.finish_reason) == ("He", "content_filter")
    assert "SAFETY" in (result.refusal or "")


def test_parts_can_be_missing_with_max_tokens(model: Any, read: Any) -> None:
    cut = {"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]}
    result = read(ADAPTER, model, frames(cut))[1]
    assert (result.text, result.finish_reason) == ("", "length")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "other"),
        ("FROM_THE_FUTURE", "other"),
    ],
)
def test_finish_reasons_are_an_open_set(model: Any, read: Any, raw: str, reason: str) -> None:
    result = read(ADAPTER, model, frames(chunk({"text": "Hi"}, finish=raw)))[1]
    assert (result.finish_reason, result.raw_finish_reason) == (reason, raw)


def test_an_unspecified_finish_reason_is_no_end(model: Any, read: Any) -> None:
    with pytest.raises(InterruptedStreamError, match="finishReason"):
        read(ADAPTER, model, frames(chunk({"text": "Hi"}, finish="FINISH_REASON_UNSPECIFIED")))


def test_only_the_first_candidate_counts(model: Any, read: Any) -> None:
    second = {"content": {"parts": [{"text": "B"}]}, "index": 1, "finishReason": "MAX_TOKENS"}
    both = chunk({"text": "A"}, finish="STOP")
    both["candidates"].append(second)
    result = read(ADAPTER, model, frames(both))[1]
    assert (result.text, result.finish_reason) == ("A", "stop")


@pytest.mark.parametrize("wrapped", [False, True])
def test_errors_in_the_stream_may_be_an_array_of_one(model: Any, read: Any, wrapped: bool) -> None:
    error = {"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}
    with pytest.raises(OverloadedError) as caught:
        read(ADAPTER, model, frames(chunk({"text": "Hi"}), [error] if wrapped else error))
    assert (caught.value.partial_text, caught.value.retryable) == ("Hi", True)


def test_without_sse_the_stream_is_an_array(model: Any, ask: Any) -> None:
    chunks = [chunk({"text": "Hel"}), chunk({"text": "lo"}, finish="STOP")]
    answer = ADAPTER.parse_answer(model, ask(seed=7), json.dumps(chunks).encode())
    assert (answer.text, answer.seed) == ("Hello", 7)
    with pytest.raises(InterruptedStreamError) as caught:
        ADAPTER.parse_answer(model, ask(), json.dumps(chunks[:1]).encode())
    assert caught.value.partial_text == "Hel"
