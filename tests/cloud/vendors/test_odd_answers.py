"""Answers of servers that speak a vendor's protocol in ways of their own.

Every stream is read in three cuts; whole answers are read beside them where there are both.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbllm.cloud.vendors.anthropic import AnthropicAdapter
from nbllm.cloud.vendors.gemini import GeminiAdapter
from nbllm.cloud.vendors.openai import OpenAIAdapter
from nbllm.core.errors import InterruptedStreamError, ModelError, NotFoundError, ProtocolError
from nbllm.core.messages import INLINE
from nbllm.core.types import (
    FinishReason,
    GenerationResult,
    Message,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    ToolCall,
    Usage,
)

OPENAI, ANTHROPIC, GEMINI = OpenAIAdapter(), AnthropicAdapter(), GeminiAdapter()
SERVER = "https://api.example.org/v1"


def chunk(finish: Any = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def frames(*values: Any, done: bool = True) -> bytes:
    lines = [json.dumps(value) for value in values] + (["[DONE]"] if done else [])
    return "".join(f"data: {line}\n\n" for line in lines).encode()


@pytest.fixture
def stream(info: Any, read: Any) -> Any:
    """The result of a stream of Chat Completions, the same in every cut."""

    def run(*values: Any, done: bool = True, **fields: Any) -> GenerationResult:
        model = info(**{"base_url": SERVER, **fields})
        body = frames(*values, done=done)
        results = []
        for size in (1, 7, len(body)):
            cuts = [body[n : n + size] for n in range(0, len(body), size)]
            events, result = read(OPENAI, model, *cuts)
            assert "".join(e.text for e in events if isinstance(e, TextDelta)) == result.text
            thought = "".join(e.text for e in events if isinstance(e, ReasoningDelta))
            assert thought == result.reasoning
            results.append(result)
        assert results[0] == results[1] == results[2]
        return results[0]

    return run


@pytest.fixture
def whole(info: Any, ask: Any) -> Any:
    """The result of a whole answer of Chat Completions."""

    def run(message: Any, finish: Any = "stop", *, schema: Any = None, **more: Any) -> Any:
        choice = {"index": 0, "message": message, "finish_reason": finish, **more}
        body = json.dumps({"choices": [choice]}).encode()
        return OPENAI.parse_answer(info(base_url=SERVER), ask(response_schema=schema), body)

    return run


# ---------------------------------------------------------------- ends


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("eos", FinishReason.STOP),
        ("eos_token", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("end_turn", FinishReason.STOP),
        ("COMPLETE", FinishReason.STOP),
        ("STOP", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_length", FinishReason.LENGTH),
        ("tool_use", FinishReason.TOOL_CALLS),
        ("content_filtered", FinishReason.CONTENT_FILTER),
        ("SAFETY", FinishReason.CONTENT_FILTER),
        ("error", FinishReason.FAILED),
        ("something_new", FinishReason.OTHER),
    ],
)
def test_other_words_for_the_end(stream: Any, whole: Any, raw: str, reason: FinishReason) -> None:
    for result in (stream(chunk(content="Hi"), chunk(raw)), whole({"content": "Hi"}, raw)):
        assert (result.text, result.finish_reason, result.raw_finish_reason) == ("Hi", reason, raw)


def test_an_empty_word_is_an_end_where_others_were_null(stream: Any, whole: Any) -> None:
    for last in (chunk("", content="!"), chunk("", content=""), chunk("")):
        result = stream(chunk(content="Hi"), last)
        assert result.finish_reason is FinishReason.STOP
    assert whole({"content": "Hi"}, "").finish_reason is FinishReason.STOP
    call = {"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}
    result = stream(chunk(content=None), chunk("", tool_calls=[call]))
    assert result.finish_reason is FinishReason.TOOL_CALLS


def test_an_empty_word_in_every_chunk_is_no_end(stream: Any) -> None:
    result = stream(chunk("", content="Hi"), chunk("", content="!"), chunk("stop"))
    assert (result.text, result.raw_finish_reason) == ("Hi!", "stop")
    with pytest.raises(InterruptedStreamError):
        stream(chunk("", content="Hi"), chunk("", content="!"))
    with pytest.raises(InterruptedStreamError):
        stream(chunk(content="Hi"), chunk(""), done=False)


def test_a_choice_may_carry_the_error(stream: Any, whole: Any) -> None:
    error = {"code": 404, "message": "No such model", "metadata": {"error_type": "x"}}
    broken = {"choices": [{"index": 0, "delta": {"content": "So"}, "error": error}]}
    for ends in (None, "error"):
        broken["choices"][0]["finish_reason"] = ends
        with pytest.raises(NotFoundError, match="No such model") as caught:
            stream(chunk(content="Hi. "), broken)
        assert caught.value.partial_text == "Hi. So"
    with pytest.raises(NotFoundError):
        whole({"content": ""}, None, error=error)
    assert whole({"content": "Hi"}, error=None).text == "Hi"


# ---------------------------------------------------------------- content


def test_reasoning_between_marks_is_folded_and_not_sent_back(
    stream: Any, whole: Any, info: Any, ask: Any
) -> None:
    text = "<think>\nHm.\n</think>\n\nYes."
    pieces = [chunk(content=text[n : n + 3]) for n in range(0, len(text), 3)]
    call = {"id": "1", "function": {"name": "f", "arguments": "{}"}}
    streamed = stream(*pieces, chunk(tool_calls=[call]), chunk("tool_calls"))
    at_once = whole({"content": text, "tool_calls": [call]}, "tool_calls")
    for result in (streamed, at_once):
        assert (result.text, result.reasoning) == ("Yes.", "Hm.")
        assert result.parts[0] == ReasoningPart("Hm.")
        assert result.parts[0].vendor == INLINE
        model = info(base_url=SERVER)
        request = ask((Message("user", "?"), result.message))
        sent = OPENAI.generation_request(model, request, stream=True).body
        assert sent is not None
        assert "Hm." not in json.dumps(sent)
        assert sent["messages"][1]["content"] == "Yes."


def test_reasoning_that_a_call_ends_is_kept(stream: Any) -> None:
    call = {"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}
    result = stream(chunk(content="<think>I'll call f"), chunk(tool_calls=[call]), chunk("stop"))
    assert (result.text, result.reasoning) == ("", "I'll call f")
    assert result.tool_calls == (ToolCall("1", "f", "{}"),)


def test_what_only_looks_like_a_mark_is_text(stream: Any) -> None:
    for text in ("<", "<th", "<table>", "  <b>Hi</b>", "<thinking>x</thinking>"):
        assert stream(*map(lambda c: chunk(content=c), text), chunk("stop")).text == text  # noqa: C417
        assert stream(chunk("stop", content=text)).text == text


def test_openais_own_models_may_write_marks(stream: Any) -> None:
    result = stream(chunk("stop", content="<think>x</think>"), base_url=None, api="chat")
    assert (result.text, result.reasoning) == ("<think>x</think>", "")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"name": "Ann", "age": 3}, '{"name": "Ann", "age": 3}'),
        ([1, 2], "[1, 2]"),
        ([{"name": "Ann"}], '[{"name": "Ann"}]'),
        (5, "5"),
        (True, "true"),
        ({"type": "text", "text": "Hi"}, "Hi"),
        ([{"type": "text", "text": "Hi"}], "Hi"),
        ([], ""),
        (None, ""),
    ],
)
def test_content_may_be_the_value_that_a_schema_asks_for(
    stream: Any, whole: Any, content: Any, text: str
) -> None:
    assert whole({"content": content}, schema={"type": "object"}).text == text
    assert stream(chunk("stop", content=content)).text == text


def test_an_empty_function_call_is_no_call(stream: Any, whole: Any) -> None:
    empty = {"name": "", "arguments": ""}
    result = stream(chunk(content="Hi", function_call=empty), chunk("stop", function_call=empty))
    assert (result.text, result.tool_calls, result.finish_reason) == ("Hi", (), "stop")
    for name in (None, ""):
        message = {"content": "Hi", "function_call": {"name": name, "arguments": None}}
        assert whole(message).tool_calls == ()
    indexed = {"index": 0, "id": "", "function": empty}
    assert stream(chunk(content="Hi", tool_calls=[indexed]), chunk("stop")).tool_calls == ()


def test_arguments_may_be_the_object_itself(stream: Any, whole: Any) -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": {"a": "é"}}}
    streamed = stream(chunk(tool_calls=[call]), chunk("tool_calls"))
    answered = whole({"content": None, "tool_calls": [call]}, "tool_calls")
    for result in (streamed, answered):
        assert [each.parsed_arguments() for each in result.tool_calls] == [{"a": "é"}]


def test_a_name_may_come_after_the_id(stream: Any) -> None:
    pieces = [
        {"index": 0, "id": "c1", "type": "function"},
        {"index": 0, "function": {"name": "f"}},
        {"index": 0, "function": {"arguments": "{}"}},
    ]
    result = stream(*(chunk(tool_calls=[piece]) for piece in pieces), chunk("tool_calls"))
    assert result.tool_calls == (ToolCall("c1", "f", "{}"),)


# ---------------------------------------------------------------- log-probabilities and usage


@pytest.mark.parametrize(
    "logprobs",
    [
        {"content": [{"token": "Hi"}]},
        {"content": [{"token": "Hi", "logprob": None}]},
        {"content": [{"token": None, "logprob": -1}]},
        {"content": [{"token": "Hi", "logprob": "x"}]},
        {"content": [None]},
        {"content": "x"},
        {"tokens": ["Hi"], "token_logprobs": [None]},
        {"tokens": ["Hi"]},
        "x",
        [],
        {},
    ],
)
def test_a_missing_log_probability_costs_no_answer(stream: Any, whole: Any, logprobs: Any) -> None:
    last = chunk("stop", content="Hi")
    last["choices"][0]["logprobs"] = logprobs
    for result in (stream(last), whole({"content": "Hi"}, logprobs=logprobs)):
        assert (result.text, result.logprobs) == ("Hi", ())


def test_the_other_log_probabilities_are_read(whole: Any) -> None:
    known = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [
        {"token": "Ho", "logprob": -2}, {"token": "x", "logprob": None}]}  # fmt: skip
    result = whole({"content": "Hi!"}, logprobs={"content": [known, {"token": "!"}]})
    ((token),) = result.logprobs
    assert (token.text, token.logprob, token.data) == ("Hi", -0.5, b"Hi")
    assert [(other.text, other.logprob) for other in token.top] == [("Ho", -2.0)]
    older = {"tokens": ["Hi", "!"], "token_logprobs": [-0.5, -1], "top_logprobs": [{"Ho": -2}]}
    first, second = whole({"content": "Hi!"}, logprobs=older).logprobs
    assert (first.text, first.logprob, first.top[0].text) == ("Hi", -0.5, "Ho")
    assert (second.text, second.logprob, second.top) == ("!", -1.0, ())


def test_usage_that_is_not_told_is_not_known(stream: Any, whole: Any) -> None:
    assert stream(chunk("stop", content="Hi")).usage == Usage()
    assert whole({"content": "Hi"}).usage.completion_tokens is None


def test_groq_tells_usage_in_a_place_of_its_own(stream: Any) -> None:
    last = {**chunk("stop"), "x_groq": {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}}
    assert stream(chunk(content="Hi"), last).usage.total_tokens == 5
    assert stream(chunk(content="Hi"), {**chunk("stop"), "x_groq": {"id": "1"}}).text == "Hi"


def test_a_failure_without_the_word_error_is_one(stream: Any) -> None:
    for failure in (
        {"detail": "Internal Server Error"},
        {"code": 500, "message": "CUDA error", "type": "server_error"},
        {"object": "error", "message": "x"},
        {"errors": [{"message": "x"}]},
    ):
        with pytest.raises(ModelError) as caught:
            stream(chunk(content="Hi"), failure)
        assert caught.value.partial_text == "Hi"


# ---------------------------------------------------------------- Responses


def responses(*events: dict[str, Any]) -> bytes:
    return frames(*events, done=False)


def refusal(deltas: list[str], *, streamed: bool = True) -> list[dict[str, Any]]:
    text = "".join(deltas)
    content = [{"type": "refusal", "refusal": text}]
    item = {"type": "message", "role": "assistant", "content": content}
    pieces = [{"type": "response.refusal.delta", "output_index": 0, "delta": d} for d in deltas]
    ends = [
        {"type": "response.refusal.done", "refusal": text},
        {"type": "response.content_part.done", "part": content[0]},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]
    last = {"type": "response.completed", "response": {"status": "completed", "output": [item]}}
    return [*(pieces + ends if streamed else []), last]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("deltas", [["I ", "can't."], ["No."], ["ha", "ha"]])
def test_a_refusal_is_told_once(info: Any, read: Any, deltas: list[str], streamed: bool) -> None:
    body = responses(*refusal(deltas, streamed=streamed))
    for size in (1, 7, len(body)):
        cuts = [body[n : n + size] for n in range(0, len(body), size)]
        result = read(OPENAI, info(api="responses"), *cuts)[1]
        assert result.refusal == "".join(deltas)
        assert result.finish_reason is FinishReason.REFUSAL


def test_a_refusal_behind_text_and_reasoning_is_told_once(info: Any, read: Any) -> None:
    parts = [{"type": "output_text", "text": "Well. "}, {"type": "refusal", "refusal": "No."}]
    output = [
        {"type": "reasoning", "id": "r", "summary": []},
        {"type": "message", "content": parts},
    ]
    last = {"type": "response.completed", "response": {"status": "completed", "output": output}}
    text = {"type": "response.output_text.delta", "output_index": 1, "delta": "Well. "}
    no = {"type": "response.refusal.delta", "output_index": 1, "delta": "No."}
    begin = {"type": "response.output_item.added", "output_index": 0, "item": output[0]}
    for events in ([begin, text, no, last], [text, no, last], [begin, last], [last], [no, last]):
        result = read(OPENAI, info(api="responses"), responses(*events))[1]
        assert (result.text, result.refusal) == ("Well. ", "No.")


# ---------------------------------------------------------------- Anthropic


def test_a_message_may_begin_with_blocks(info: Any, read: Any) -> None:
    """Where a program that runs at Anthropic calls a tool, the stream goes on with it."""
    call = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}, "caller": {}}
    ran = {"type": "server_tool_use", "id": "s1", "name": "code_execution", "input": {}}
    message = {
        "content": [{"type": "text", "text": "Hm."}, ran, call],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 5},
    }
    events = [
        {"type": "message_start", "message": message},
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]
    body = frames(*events, done=False)
    for size in (1, 7, len(body)):
        cuts = [body[n : n + size] for n in range(0, len(body), size)]
        seen, result = read(ANTHROPIC, info("anthropic"), *cuts)
        assert result.text == "Hm."
        assert result.tool_calls == (ToolCall("t1", "f", '{"a": 1}'),)
        assert len(result.parts) == 3
        assert result.finish_reason is FinishReason.TOOL_CALLS
        assert result.usage.total_tokens == 8
        assert [type(event).__name__ for event in seen] == [
            "TextDelta",
            "ToolCallDelta",
            "ToolCallDelta",
        ]


# ---------------------------------------------------------------- Gemini


def test_a_last_chunk_without_a_count_takes_none_back(info: Any, read: Any) -> None:
    def part(text: str, usage: Any, finish: str | None = None) -> dict[str, Any]:
        candidate = {"content": {"parts": [{"text": text}]}, "finishReason": finish}
        return {"candidates": [candidate], "usageMetadata": usage}

    first = {"promptTokenCount": 10, "totalTokenCount": 10}
    body = frames(part("a", first), part("b", {"candidatesTokenCount": 4}, "STOP"), done=False)
    usage = read(GEMINI, info("gemini"), body)[1].usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (10, 4)
    alone = part("b", {"candidatesTokenCount": 4, "totalTokenCount": 14}, "STOP")
    assert read(GEMINI, info("gemini"), frames(alone, done=False))[1].usage.prompt_tokens == 10
    assert read(GEMINI, info("gemini"), frames(part("b", None, "STOP"), done=False))[1].usage == (
        Usage()
    )


# ---------------------------------------------------------------- vectors and lists


@pytest.mark.parametrize(
    ("adapter", "vendor", "bodies"),
    [
        (OPENAI, "openai", [{}, {"data": []}, {"data": None}, {"object": "list"}, []]),
        (GEMINI, "gemini", [{}, {"embeddings": []}, {"embedding": None}, {"embedding": {}}]),
    ],
)
def test_an_answer_without_vectors_is_an_error(
    info: Any, adapter: Any, vendor: str, bodies: list[Any]
) -> None:
    for body in bodies:
        with pytest.raises(ProtocolError, match=r"embedding|the response must"):
            adapter.parse_embeddings(info(vendor), [json.dumps(body).encode()])


@pytest.mark.parametrize(
    ("adapter", "vendor", "bodies"),
    [
        (OPENAI, "openai", [{}, {"data": None}, {"object": "list"}, {"data": {}}, {"data": ["m"]},
         {"data": [{}]}, {"data": [{"id": ""}]}, {"items": []}, "models", 5, {"status": "ok"}]),
        (ANTHROPIC, "anthropic", [{}, {"data": None}, {"models": []}, {"data": [{"name": "x"}]}]),
        (GEMINI, "gemini", [{"data": []}, {"models": None}, {"models": [{}]}, [], {"ok": True}]),
    ],
)  # fmt: skip
def test_a_list_of_another_shape_is_an_error(
    info: Any, adapter: Any, vendor: str, bodies: list[Any]
) -> None:
    for body in bodies:
        with pytest.raises(ProtocolError):
            adapter.parse_list(info(vendor), json.dumps(body).encode())


def test_lists_that_are_lists(info: Any) -> None:
    for body in ({"data": [{"id": "m"}]}, [{"id": "m"}], {"models": [{"name": "m"}]}):
        (model,) = OPENAI.parse_list(info(), json.dumps(body).encode())[0]
        assert model.name == "m"
    assert OPENAI.parse_list(info(), b'{"data": []}')[0] == []
    assert GEMINI.parse_list(info("gemini"), b"{}") == ([], None)


# ---------------------------------------------------------------- whose signatures


def signed(vendor: str | None) -> Message:
    return Message(
        "assistant",
        (
            ReasoningPart("Hm.", "c2lnbmVk", vendor),
            TextPart("Yes."),
            ToolCall("t1", "f", "{}", "c2lnbmVk", vendor),
        ),
    )


@pytest.mark.parametrize(
    ("adapter", "fields", "own"),
    [
        (ANTHROPIC, {"model_type": "anthropic"}, "anthropic"),
        (ANTHROPIC, {"model_type": "anthropic", "base_url": "https://api.anthropic.com/v1"},
         "anthropic"),
        (ANTHROPIC, {"model_type": "anthropic", "base_url": "https://api.example.org"},
         "api.example.org"),
        (GEMINI, {"model_type": "gemini"}, "gemini"),
        (OPENAI, {"model_type": "openai", "api": "responses"}, "openai"),
        (OPENAI, {"model_type": "openai", "base_url": SERVER}, "api.example.org"),
        (OPENAI, {"model_type": "openai", "model": "gemini-3",
         "base_url": "https://generativelanguage.googleapis.com/v1beta/openai"}, "gemini"),
    ],
)  # fmt: skip
def test_a_signature_is_sent_to_its_vendor_alone(
    info: Any, ask: Any, adapter: Any, fields: Any, own: str
) -> None:
    model = info(**fields)
    for vendor in ("anthropic", "gemini", "openai", "api.example.org", "other.example.org"):
        request = ask((Message("user", "?"), signed(vendor), Message("user", "!")))
        sent = json.dumps(adapter.generation_request(model, request, stream=True).body)
        assert ("c2lnbmVk" in sent) is (vendor == own != "openai")
        assert "Yes." in sent


def test_an_answer_knows_whose_signature_it_has(info: Any, ask: Any, read: Any) -> None:
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"}
    message = json.dumps({"content": [thinking], "stop_reason": "end_turn"}).encode()
    for fields, vendor in (({}, "anthropic"), ({"base_url": "http://localhost:8080"}, "localhost")):
        model = info("anthropic", **fields)
        (part,) = ANTHROPIC.parse_answer(model, ask(), message).parts
        assert isinstance(part, ReasoningPart)
        assert part.vendor == vendor
    call = {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "c2lnbmVk"}
    body = {"candidates": [{"content": {"parts": [call]}, "finishReason": "STOP"}]}
    (called,) = read(GEMINI, info("gemini"), frames(body, done=False))[1].tool_calls
    assert called.vendor == "gemini"
