"""Whatever arrives: a whole answer, or a typed error that carries the text so far."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbllm.cloud.adapter import events_of
from nbllm.cloud.transport.sse import SseDecoder
from nbllm.cloud.vendors import adapter_for
from nbllm.core.errors import InterruptedStreamError, ModelError, ProtocolError
from nbllm.core.types import GenerationRequest, GenerationResult, Message, ModelInfo, TextDelta
from nbllm.testing import fake_info

REQUEST = GenerationRequest((Message("user", "?"),), model=fake_info())
MODELS = {
    "chat": ModelInfo(name="m", model_type="openai", local=False, api="chat"),
    "responses": ModelInfo(name="m", model_type="openai", local=False, api="responses"),
    "anthropic": ModelInfo(name="m", model_type="anthropic", local=False),
    "gemini": ModelInfo(name="m", model_type="gemini", local=False),
}
PROTOCOLS = pytest.mark.parametrize("protocol", MODELS)


def frames(*values: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values)


def chunk(content: str | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def candidate(text: str, finish: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}}
    return {"candidates": [{**found, "finishReason": finish} if finish else found]}


def text_delta(text: str) -> dict[str, Any]:
    delta = {"type": "text_delta", "text": text}
    return {"type": "content_block_delta", "index": 0, "delta": delta}


# "Hello 🎉" in each protocol: the events before the end marker, and the end.
ANSWERS: dict[str, tuple[list[Any], list[Any]]] = {
    "chat": ([chunk(""), chunk("Hel"), chunk("lo 🎉")], [chunk(None, "stop")]),
    "responses": (
        [
            {"type": "response.created", "response": {"status": "in_progress"}},
            {"type": "response.output_text.delta", "delta": "Hel"},
            {"type": "response.output_text.delta", "delta": "lo 🎉"},
        ],
        [{"type": "response.completed", "response": {"status": "completed"}}],
    ),
    "anthropic": (
        [
            {"type": "message_start", "message": {"usage": {"input_tokens": 1}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}},
            text_delta("Hel"),
            text_delta("lo 🎉"),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        ],
        [{"type": "message_stop"}],
    ),
    "gemini": ([candidate("Hel"), candidate("lo 🎉")], [candidate("", "STOP")]),
}
ERRORS: dict[str, Any] = {
    "chat": {"error": {"message": "Boom", "type": "server_error", "code": None}},
    "responses": {"type": "error", "code": "server_error", "message": "Boom", "param": None},
    "anthropic": {"type": "error", "error": {"type": "overloaded_error", "message": "Boom"}},
    "gemini": {"error": {"code": 503, "message": "Boom", "status": "UNAVAILABLE"}},
}


def stream(protocol: str, *chunks: bytes) -> tuple[list[Any], GenerationResult]:
    info = MODELS[protocol]
    parser, decoder = adapter_for(info).stream_parser(info, REQUEST), SseDecoder()
    arrived = [event for part in chunks for event in decoder.feed(part)] + decoder.finish()
    return [event for item in arrived for event in parser.feed(item)], parser.finish()


@PROTOCOLS
def test_a_whole_stream_is_an_answer(protocol: str) -> None:
    before, end = ANSWERS[protocol]
    events, result = stream(protocol, frames(*before, *end))
    assert result.text == "Hello 🎉"
    assert result.finish_reason == "stop"
    assert all(isinstance(event, TextDelta) and event.text for event in events)


@PROTOCOLS
def test_a_stream_without_its_end_marker_is_interrupted(protocol: str) -> None:
    before, _ = ANSWERS[protocol]
    with pytest.raises(InterruptedStreamError) as caught:
        stream(protocol, frames(*before))
    assert caught.value.partial_text == "Hello 🎉"


@PROTOCOLS
def test_a_stream_cut_at_any_byte_is_interrupted_or_whole(protocol: str) -> None:
    before, end = ANSWERS[protocol]
    body = frames(*before, *end)
    whole = len(body) - 2  # the last two bytes are the empty line
    for cut in range(whole):
        with pytest.raises(InterruptedStreamError) as caught:
            stream(protocol, body[:cut])
        assert "Hello 🎉".startswith(caught.value.partial_text)
    for cut in range(whole, len(body)):
        assert stream(protocol, body[:cut])[1].text == "Hello 🎉"


@PROTOCOLS
def test_an_error_inside_the_stream_is_raised_with_the_partial_text(protocol: str) -> None:
    before, end = ANSWERS[protocol]
    with pytest.raises(ModelError, match="Boom") as caught:
        stream(protocol, frames(*before, ERRORS[protocol], *end))
    assert type(caught.value).__name__ in ("ServerError", "OverloadedError")
    assert caught.value.partial_text == "Hello 🎉"
    assert caught.value.retryable is True


@PROTOCOLS
def test_comments_unknown_events_and_unknown_keys_are_skipped(protocol: str) -> None:
    before, end = ANSWERS[protocol]
    unknown = {"type": "response.from_the_future", "content_block": 7, "sequence_number": 1}
    body = b": keep-alive\n\n" + b"event: ping\ndata: \n\n"
    for value in [*before, *end]:
        body += b"event: something.new\n" * ("type" not in value) + frames({**value, "new": {}})
        body += b": keep-alive\n\n" + frames(
            unknown if protocol in ("responses", "anthropic") else {}
        )
    body += b'event: keepalive\ndata: {"type":"keepalive","sequence_number":9}\n\n'
    assert stream(protocol, body)[1].text == "Hello 🎉"


@PROTOCOLS
def test_characters_at_which_other_readers_split_stay_in_the_text(protocol: str) -> None:
    """No recording has them; ``httpx.Response.aiter_lines`` splits here."""
    before, end = ANSWERS[protocol]
    text = json.dumps([*before, *end], ensure_ascii=False).replace("Hel", "a\u2028b\x85c\u2029")
    values = json.loads(text)
    body = b"".join(
        b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n" for value in values
    )
    assert stream(protocol, body)[1].text == "a\u2028b\x85c\u2029lo 🎉"


@PROTOCOLS
def test_data_padded_with_spaces_is_read(protocol: str) -> None:
    before, end = ANSWERS[protocol]
    body = frames(*before, *end).replace(b"}\n\n", b"}       \n\n")
    assert stream(protocol, body)[1].text == "Hello 🎉"


@PROTOCOLS
def test_a_pair_of_surrogates_cut_in_two_is_joined(protocol: str) -> None:
    before, end = ANSWERS[protocol]
    body = json.dumps([*before, *end]).encode()
    values = json.loads(body.replace(b"Hel", b"\\ud83c").replace(b"lo \\ud83c\\udf89", b"\\udf89!"))
    events, result = stream(protocol, frames(*values))
    assert result.text == "🎉!"
    assert "".join(event.text for event in events) == "🎉!"


@PROTOCOLS
def test_a_lone_surrogate_becomes_a_replacement_character(protocol: str) -> None:
    before, end = ANSWERS[protocol]
    body = frames(*before, *end).replace(b"\\udf89", b"")
    _, result = stream(protocol, body)
    assert result.text == "Hello \ufffd"


@PROTOCOLS
@pytest.mark.parametrize("data", ["{", "nonsense", "[1]", "7", '"text"', "[" * 100_000])
def test_what_is_no_json_object_is_a_protocol_error(protocol: str, data: str) -> None:
    before, _ = ANSWERS[protocol]
    with pytest.raises(ProtocolError) as caught:
        stream(protocol, frames(*before) + f"data: {data}\n\n".encode())
    assert caught.value.partial_text == "Hello 🎉"
    assert len(str(caught.value)) < 500


@PROTOCOLS
def test_an_answer_that_came_whole_has_the_events_of_a_stream(protocol: str) -> None:
    info = MODELS[protocol]
    bodies: dict[str, Any] = {
        "chat": {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]},
        "responses": {
            "status": "completed",
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}],
        },
        "anthropic": {"content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn"},
        "gemini": candidate("Hello", "STOP"),
    }
    body = json.dumps(bodies[protocol]).encode()
    result = adapter_for(info).parse_answer(info, REQUEST, body)
    assert (result.text, result.finish_reason) == ("Hello", "stop")
    assert events_of(result) == [TextDelta("Hello")]


@PROTOCOLS
@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"<html>", b"[7]", b'{"error":"no"}'])
def test_a_whole_answer_that_is_none_is_a_typed_error(protocol: str, body: bytes) -> None:
    info = MODELS[protocol]
    with pytest.raises(ModelError):
        adapter_for(info).parse_answer(info, REQUEST, body)
